"""One service as a child process: started, listened to, started again when it crashes, stopped."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from services.local.logfile import LogFile

QUICK = 10.0  # seconds; a crash within them counts as quick
MAX_QUICK = 5  # quick crashes in a row after which it is given up
BACKOFF = (0.25, 0.5, 1.0, 2.0, 4.0)  # seconds before the first, second, ... start after a crash
MAX_LINE = 64 << 10  # bytes; longer lines are split
BAD_SETTINGS = 2  # exit status of a service that cannot start with these settings

_LEASH = (sys.executable, "-I", "-S", str(Path(__file__).with_name("leash.py")))
_NOT_STARTED = 127  # what a shell says, too


class Spec(NamedTuple):
    """How to start a service, and where it says that it is ready."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    address: str
    """Base URL."""


class State(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting to be started again"
    GIVEN_UP = "given up"
    STOPPED = "stopped"


class Child:
    """A supervised process. `run` returns when it has been stopped, or given up."""

    def __init__(
        self,
        spec: Spec,
        log: LogFile,
        *,
        on_output: Callable[[str, str], None],
        on_message: Callable[[str, str], None],
        on_change: Callable[[], None],
        stop_within: float,
    ) -> None:
        """`on_output` gets lines of its log, `on_message` what it has to say to a person."""
        self.spec = spec
        self.state = State.STARTING
        self.pid: int | None = None
        self.restarts = 0
        self.reason: str | None = None
        """Why it is not ready yet, in its own words."""
        self.last_lines: deque[str] = deque(maxlen=15)
        self._log = log
        self._on_output = on_output
        self._on_message = on_message
        self._on_change = on_change
        self._stop_within = stop_within
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        quick = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            status = await self._once()
            if self._stopping.is_set():
                break
            quick = quick + 1 if time.monotonic() - started < QUICK else 1
            self._note(f"{self.spec.name} ended unexpectedly ({_in_words(status)})")
            if status == BAD_SETTINGS and self.restarts == 0:
                return self._become(State.GIVEN_UP)
            if quick > MAX_QUICK:
                self._note(f"{self.spec.name} crashed {quick} times in a row, each within {QUICK:.0f} s: given up")
                return self._become(State.GIVEN_UP)
            self._become(State.WAITING)
            pause = BACKOFF[min(quick, len(BACKOFF)) - 1]
            self._note(f"starting {self.spec.name} again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            self.restarts += 1
        self._become(State.STOPPED)

    async def stop(self) -> bool:
        """Ask it to end, and kill it and its own children when it takes too long; says if it ended by itself."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return True
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._stop_within)
        except TimeoutError:
            self.kill()
            return False
        return True

    def kill(self) -> None:
        """End it and everything that it started, at once."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def running(self) -> None:
        """It has said that it is ready."""
        if self.state is State.STARTING:
            self._become(State.RUNNING)

    async def _once(self) -> int:
        """Start it and wait for its end; gives the exit status, negative for a signal."""
        self.reason = None
        self._become(State.STARTING)
        try:
            process = await asyncio.create_subprocess_exec(
                *_LEASH,
                str(os.getpid()),
                *self.spec.command,
                env=dict(self.spec.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=MAX_LINE,
                start_new_session=True,  # a Ctrl-C reaches the supervisor alone, which stops them in order
            )
        except OSError as error:
            self._note(f"{self.spec.name} cannot be started: {error.strerror}")
            return _NOT_STARTED
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self.pid = process.pid
        self._on_change()
        listeners = asyncio.gather(
            self._listen(process.stdout, self._say), self._listen(process.stderr, self._write_log)
        )
        try:
            if self._stopping.is_set():
                self.kill()
            status = await process.wait()
            # A grandchild may hold the pipes open; its words are not waited for.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(listeners, 1.0)
        finally:
            listeners.cancel()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # what it left behind
            self.pid = None
        return status

    async def _listen(self, stream: asyncio.StreamReader, take: Callable[[str], None]) -> None:
        while True:
            try:
                line = await stream.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                line = error.partial
                if not line:
                    return
            except asyncio.LimitOverrunError as error:
                line = await stream.readexactly(error.consumed)
            take(line.decode("utf-8", "replace").rstrip("\r\n"))

    def _write_log(self, text: str) -> None:
        self.last_lines.append(text)
        self._log.write(text.encode() + b"\n")
        self._on_output(self.spec.name, text)

    def _say(self, text: str) -> None:
        """Standard output is for the person who starts it (the first key, once) and reaches no file."""
        self._on_message(self.spec.name, text)

    def _note(self, text: str) -> None:
        self._log.write(f"supervisor: {text}\n".encode())
        self._on_message("local", text)

    def _become(self, state: State) -> None:
        self.state = state
        self._on_change()


def _in_words(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
