"""The hook in a process of its own, a home to run it in, and a gateway that answers as it is told."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

KEY = "anm_the-key-of-the-hook-tests"
ROOT = Path(__file__).parents[3]
HOOK = ROOT / "integrations" / "claude-code" / "hooks" / "anamnesis_hook.py"
PYTHON = ("python3", "-S", "-I")

Script = Callable[[socket.socket], None]


class Ended(NamedTuple):
    status: int
    out: bytes
    err: bytes
    seconds: float


class Home:
    """Where a person runs Claude Code."""

    def __init__(self, path: Path, url: str, command: str | None = None) -> None:
        """`command` is a shell script in place of `anamnesis`."""
        self.path = path
        self.bin = path / "bin"
        self.bin.mkdir(parents=True)
        self.calls = path / "calls"
        if command is not None:
            program = self.bin / "anamnesis"
            program.write_text(f"#!/bin/sh\n{command}\n")
            program.chmod(0o755)
        self.environment = {
            "HOME": str(path),
            "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin",
            "XDG_STATE_HOME": str(path / "state"),
            "ANAMNESIS_URL": url,
            "MEMORY_KEY": KEY,
        }

    @property
    def spool(self) -> Path:
        return self.path / "state" / "anamnesis" / "spool"

    def noted(self) -> list[list[str]]:
        """The wishes that are in the spool."""
        found = sorted(self.spool.glob("[!.]*.*")) if self.spool.exists() else []
        return sorted(json.loads(path.read_text())["paths"] for path in found)

    def start(self, event: str, **environment: str) -> "subprocess.Popen[bytes]":
        env = {name: value for name, value in {**self.environment, **environment}.items() if value}
        return subprocess.Popen(
            [*PYTHON, str(HOOK), event],
            env=env,
            cwd=self.path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def hook(self, event: str, body: bytes, **environment: str) -> Ended:
        began = time.monotonic()
        process = self.start(event, **environment)
        out, err = process.communicate(body, timeout=30)
        return Ended(process.returncode, out, err, time.monotonic() - began)

    def wait(self, done: Callable[[], bool], within: float = 60.0) -> None:
        deadline = time.monotonic() + within
        while not done():
            assert time.monotonic() < deadline, f"noted: {self.noted()}, called: {self.called()}"
            time.sleep(0.05)

    def called(self) -> list[str]:
        """What the command in the place of `anamnesis` was called with, a line a call."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@contextmanager
def gateway(script: Script, host: str = "127.0.0.1") -> Iterator[str]:
    """The address of a server that does `script` with every connection."""
    with socket.create_server((host, 0), backlog=64) as server:
        stopped = threading.Event()

        def one(connection: socket.socket) -> None:
            with connection:
                connection.settimeout(20)
                try:
                    script(connection)
                except OSError:
                    return

        def serve() -> None:
            while not stopped.is_set():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://{host}:{server.getsockname()[1]}"
        stopped.set()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def request(connection: socket.socket) -> bytes:
    """All that was sent."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(65536)
        if not piece:
            return got
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        piece = connection.recv(65536)
        if not piece:
            break
        body += piece
    return head + b"\r\n\r\n" + body


def answering(body: bytes, status: str = "200 OK", seen: list[bytes] | None = None) -> Script:
    """Answers every request with this."""

    def script(connection: socket.socket) -> None:
        got = request(connection)
        if seen is not None:
            seen.append(got)
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)

    return script


def telling(event: str, text: str) -> bytes:
    return json.dumps({"hookSpecificOutput": {"hookEventName": event, "additionalContext": text}}).encode()


def home(path: Path, url: str, status: int = 0) -> Home:
    """A home with a command that writes down what it is called with, and ends with a status."""
    return Home(path, url, f'echo "$@" >>"{path}/calls"; exit {status}')
