"""The command hook: asks the gateway what is remembered, and notes which transcripts are to be read.

    python3 -S -I anamnesis_hook.py EVENT < what Claude Code posts

A person waits for it, so it is the standard library alone, over after 1.5 seconds whatever happens, and silent: it ends
with 0 and prints either JSON that Claude Code understands or nothing. A transcript that is to be read is first noted in
a spool on the disk (its path, never its text); what has been noted is read in the background by the `anamnesis`
command, once the gateway has answered, one run at a time. Written for Python 3.8 and later.
"""

from __future__ import annotations

import _thread
import os
import sys
import time

WITHIN = 1.5  # seconds for everything
MAX_INPUT = 1 << 20  # bytes; the gateway takes no more
MAX_ANSWER = 64 << 10  # bytes
MAX_WISHES = 500  # files in the spool; beyond them one that wishes for everything
MAX_WISH = 16 << 10  # bytes
MAX_TRIES = 50  # runs that a wish may fail in
PAUSE = 2.0  # seconds before a run, for what is written meanwhile
FRESH = 60.0  # seconds in which a half-written wish may still be finished
RUN = 1800.0  # seconds that one run may take
AT_ONCE = 50  # transcripts of one run

READS = ("Stop", "SubagentStop", "PreCompact", "SessionEnd")
EVENTS = ("SessionStart", "UserPromptSubmit", *READS)
DEFAULT = "http://127.0.0.1:3010"
LOCAL = ("127.0.0.1", "localhost", "::1")


# Where the gateway is, and what opens it


class Place:
    """The gateway's address, the key for it, and the command that reads transcripts (none = it is not known)."""

    def __init__(self) -> None:
        client = _client()
        data, running = _data()
        address = _line(os.path.join(data, "address")) if running else ""
        own = _text(client, "url")
        self.url = (os.environ.get("ANAMNESIS_URL", "") or own or address or DEFAULT).rstrip("/")
        self.scheme, self.host, self.port, self.prefix = _parts(self.url)
        self.key = os.environ.get("MEMORY_KEY", "")
        # A kept key goes nowhere but where it was made for: the environment may be set by whoever wrote a repository.
        if not self.key and own and self.url == own.rstrip("/"):
            self.key = _text(client, "key")
        if not self.key and (self.host in LOCAL or self.url == address.rstrip("/")):
            self.key = _line(os.path.join(data, "api.key"))
        if not (16 <= len(self.key) <= 200 and self.key.isascii() and self.key.isprintable() and " " not in self.key):
            raise ValueError("no key")
        command = client.get("command")
        self.command = command if isinstance(command, list) and all(isinstance(part, str) for part in command) else []


def _client() -> dict[str, object]:
    """What `anamnesis connect claude-code` has written: beside this file, or for the plugin at its usual place."""
    import json

    config = os.environ.get("XDG_CONFIG_HOME", "")
    config = config if os.path.isabs(config) else os.path.expanduser("~/.config")
    usual = os.path.join(config, "anamnesis", "clients", "claude-code")
    for folder in (os.path.dirname(os.path.abspath(__file__)), usual):
        try:
            with open(os.path.join(folder, "client.json"), "rb") as file:
                value = json.loads(file.read(MAX_WISH))
        except (OSError, ValueError):
            continue
        if isinstance(value, dict):
            return value
    return {}


def _data() -> tuple[str, bool]:
    """The data directory of the services on this machine, and whether their supervisor runs in it."""
    usual = os.path.expanduser(os.environ.get("ANAMNESIS_DATA_DIR", "") or "~/.local/share/anamnesis")
    if _held(usual):
        return usual, True
    noted = "" if "ANAMNESIS_DATA_DIR" in os.environ else _line(os.path.join(_state(), "data"))
    return (noted, _held(noted)) if os.path.isabs(noted) else (usual, False)


def _held(data: str) -> bool:
    import fcntl

    try:
        descriptor = os.open(os.path.join(data, "local.lock"), os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _state() -> str:
    state = os.environ.get("XDG_STATE_HOME", "")
    return os.path.join(state if os.path.isabs(state) else os.path.expanduser("~/.local/state"), "anamnesis")


def _line(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(5000).decode().strip()
    except (OSError, ValueError):
        return ""


def _text(values: dict[str, object], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def _parts(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path of an address. Raises `ValueError` for anything else."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if scheme not in ("http", "https") or "@" in host or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("no address")
    name, _, port = host.rpartition(":") if ":" in host.rpartition("]")[2] else (host, "", "")
    return scheme, name.strip("[]"), int(port or (443 if scheme == "https" else 80)), slash + path


# Asking


def ask(place: Place, event: str, body: bytes, until: float) -> bytes:
    """The gateway's answer to an event. Raises `OSError` or `ValueError` where there is none that counts."""
    import socket

    connection = socket.create_connection((place.host, place.port), timeout=_left(until))
    try:
        if place.scheme == "https":
            import ssl

            connection = ssl.create_default_context().wrap_socket(connection, server_hostname=place.host)
        host = f"[{place.host}]" if ":" in place.host else place.host
        # Version 1.0: whoever answers closes when all is said, and sends nothing in chunks.
        head = (
            f"POST {place.prefix}/hooks/{event} HTTP/1.0\r\nHost: {host}:{place.port}\r\nX-API-Key: {place.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nUser-Agent: anamnesis-hook\r\n\r\n"
        )
        connection.sendall(head.encode("ascii") + body)
        answer = bytearray()
        while True:
            connection.settimeout(_left(until))
            piece = connection.recv(MAX_ANSWER)
            answer += piece
            before, end, rest = answer.partition(b"\r\n\r\n")
            if not piece or (end and len(rest) >= _length(before)):
                break
            if len(answer) > MAX_ANSWER:
                raise ValueError("too long an answer")
    finally:
        connection.close()
    if not end or before.split(b" ", 2)[1:2] != [b"200"]:
        raise ValueError("no answer")
    return bytes(rest[: _length(before)])


def _length(head: bytearray) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return MAX_ANSWER


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise OSError("too late")
    return left


def context(answer: bytes, event: str) -> bytes:
    """What Claude Code is told: text that is put before the model, and nothing else that an answer might hold."""
    import json

    value = json.loads(answer)
    told = value.get("hookSpecificOutput") if isinstance(value, dict) else None
    if not isinstance(told, dict) or told.get("hookEventName") != event:
        return b""
    text = told.get("additionalContext")
    if not isinstance(text, str) or not text.strip():
        return b""
    output = {"hookSpecificOutput": {"hookEventName": event, "additionalContext": text}}
    return json.dumps(output, ensure_ascii=False).encode("utf-8", "replace")


# What is to be read: one file a wish, so that noting, taking and finishing are each one rename


def spool() -> str:
    return os.path.join(_state(), "spool")


def wish(paths: list[str]) -> None:
    """Note transcripts to be read; without paths, everything there is."""
    import hashlib
    import json

    folder = spool()
    os.makedirs(folder, mode=0o700, exist_ok=True)
    text = json.dumps({"paths": paths}).encode()
    if paths and (len(text) > MAX_WISH or len(os.listdir(folder)) >= MAX_WISHES):
        text, paths = b'{"paths": []}', []
    name = hashlib.sha256(os.fsencode("\n".join(paths))).hexdigest()[:32] if paths else "everything"
    half = os.path.join(folder, f".{name}.{os.getpid()}")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)
    os.replace(half, os.path.join(folder, name + ".00"))


def transcripts(body: bytes, event: str) -> list[str]:
    """The transcripts that an event names; none where they cannot be told."""
    import json

    if len(body) > MAX_INPUT:
        return []
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return []
    if not isinstance(told, dict):
        return []
    paths = []
    for name in ("transcript_path", "agent_transcript_path"):
        path = _text(told, name)
        path = os.path.expanduser(path) if path.startswith("~") else path
        if os.path.isabs(path) and path.endswith(".jsonl") and len(path) < 4096 and path.isprintable():
            paths.append(path)
    # What subagents wrote lies beside the transcript of their session.
    if event in ("PreCompact", "SessionEnd"):
        paths += [path[: -len(".jsonl")] for path in paths if os.path.isdir(path[: -len(".jsonl")])]
    return paths


def is_noted() -> bool:
    try:
        return any(name != "lock" for name in os.listdir(spool()))
    except OSError:
        return False


def take(folder: str) -> tuple[list[str], list[str], bool]:
    """Wishes as files and as paths, and whether everything is wished for. A new wish is another file."""
    import json

    files, paths, everything = [], [], False
    for name in sorted(os.listdir(folder), reverse=True):  # so that none takes the name of another
        old = os.path.join(folder, name)
        stem, _, tries = name.lstrip(".").partition(".")
        if name == "lock" or (name.startswith(".") and time.time() - os.stat(old).st_mtime < FRESH):
            continue
        count = int(tries) if tries.isdigit() and not name.startswith(".") else 0
        if count >= MAX_TRIES:
            os.unlink(old)
            continue
        new = os.path.join(folder, f"{stem}.{count + 1:02}")
        os.replace(old, new)
        files.append(new)
        try:
            with open(new, "rb") as file:
                wished = json.loads(file.read(MAX_WISH + 1))["paths"]
            paths += [path for path in wished if path not in paths]
            everything = everything or not wished
        except (OSError, ValueError, KeyError, TypeError):  # half-written when the power went
            everything = True
    return files, [path for path in paths if os.path.exists(path)], everything


def start() -> None:
    """Read what is noted, in a process that this one does not wait for."""
    command = [sys.executable, "-S", "-I", os.path.abspath(__file__), "--read"]
    quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
    try:
        os.posix_spawn(command[0], command, os.environ, file_actions=quiet, setsid=True)
    except NotImplementedError:
        os.posix_spawn(command[0], command, os.environ, file_actions=quiet)


def read() -> None:
    """Have all that is noted read; one such process at a time, the others leave their wishes to it."""
    import fcntl

    try:
        os.setsid()
    except OSError:  # it leads a session already
        pass
    os.chdir("/")
    place = Place()
    folder = spool()
    while is_noted():
        lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(PAUSE)
            done = _read(place, folder)
        except BlockingIOError:
            return
        finally:
            os.close(lock)
        if not done:
            return
        # What was noted since then has found the lock taken: look again.


def _read(place: Place, folder: str) -> bool:
    files, paths, everything = take(folder)
    if files and not _push(place, paths, everything):
        return False
    for name in files:
        os.unlink(name)
    return bool(files)


def _push(place: Place, paths: list[str], everything: bool) -> bool:
    """Whether all of it is done; else it stays noted for the next time."""
    import subprocess

    command = place.command or _found()
    if not command:  # then the service reads what it can see
        ask(place, "SubagentStop", b"{}", time.monotonic() + 10.0)
        return True
    if not paths and not everything:
        return True
    environment = dict(os.environ, ANAMNESIS_URL=place.url, ANAMNESIS_API_KEY=place.key)
    for first in [0] if everything else range(0, len(paths), AT_ONCE):
        some = [] if everything else paths[first : first + AT_ONCE]
        run = subprocess.run(
            [*command, "ingest", "--quiet", *some],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=RUN,
            check=False,
        )
        if run.returncode != 0:
            return False
    return True


def _found() -> list[str]:
    """The `anamnesis` command, as it stands on the path."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        path = os.path.join(folder, "anamnesis")
        if os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK):
            return [path]
    return []


# One event


def _input() -> bytes:
    """All of standard input is read, so that nobody waits for it; what is too much is let go."""
    body = bytearray()
    while True:
        piece = os.read(0, 1 << 16)
        if not piece:
            return bytes(body)
        if len(body) <= MAX_INPUT:
            body += piece


def hook(event: str, until: float) -> None:
    body = _input()
    if event in READS:
        try:
            wish(transcripts(body, event))
        except OSError:  # the service may still see the transcript itself
            pass
    if len(body) > MAX_INPUT:
        return
    told = context(ask(Place(), event, body, until), event)
    if told and event not in READS and len(told) <= MAX_ANSWER:
        os.write(1, told + b"\n")
    if is_noted():
        start()


def _end(until: float) -> None:
    time.sleep(max(0.0, until - time.monotonic()))
    os._exit(0)


def main(arguments: list[str]) -> None:
    """Nothing that goes wrong here is the business of whoever is typing."""
    try:
        if arguments == ["--read"]:
            return read()
        if len(arguments) == 1 and arguments[0] in EVENTS:
            until = time.monotonic() + WITHIN
            _thread.start_new_thread(_end, (until,))
            hook(arguments[0], until - 0.1)
    except BaseException:  # noqa: BLE001 - the edge of the process
        pass


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)
