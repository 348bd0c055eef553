"""Child processes whose output is an answer: a few at once, each a group of its own that never outlives its reader."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from typing import BinaryIO, NamedTuple

from services.gateway.backends.base import BackendFailure

AT_ONCE = 4
GRACE = 2.0  # seconds between asking a process to end and ending it
LOOK = 0.01  # seconds between two looks whether it has
PIECE = 64 << 10  # bytes read at once
MAX_COMPLAINT = 4 << 10  # bytes of standard error that are kept, the last ones


class Command(NamedTuple):
    """What to run. Its environment is all that it gets of ours."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    directory: str
    stdin: BinaryIO


class Ended(Exception):
    """A process has ended by itself: its code, and the end of what it complained of, which may quote anything."""

    def __init__(self, code: int, complaint: bytes) -> None:
        super().__init__(f"ended with code {code}")
        self.code = code
        self.complaint = complaint


class Processes:
    """Runs commands, and sees to it that none is left."""

    def __init__(self) -> None:
        self._running = 0
        self._endings: set[asyncio.Task[None]] = set()

    async def output(self, command: Command) -> AsyncGenerator[bytes, None]:
        """What a command writes, piece by piece. Closing the generator ends the command and all that it started.

        Raises `Ended` when it has ended, whatever its code, and `BackendFailure` when it cannot be run.
        """
        if self._running >= AT_ONCE:
            raise BackendFailure(f"is busy: {AT_ONCE} answers at once are its bound", status=429, retry_after=5.0)
        self._running += 1
        try:
            process = await self._start(command)
        except BaseException:
            self._running -= 1
            raise
        complaint = asyncio.create_task(_tail(process.stderr))
        try:
            assert process.stdout is not None
            while piece := await process.stdout.read(PIECE):
                yield piece
            await _exit(process, GRACE)
            # Whatever it started, and left behind, may hold its standard error open.
            _signal(process, signal.SIGKILL)
            await asyncio.wait({complaint}, timeout=GRACE)
            raise Ended(process.returncode or 0, complaint.result() if complaint.done() else b"")
        finally:
            await self._finish(self._end(process, complaint))

    async def close(self) -> None:
        """Returns when all that was ended is gone."""
        while self._endings:
            await asyncio.gather(*self._endings)

    async def _start(self, command: Command) -> asyncio.subprocess.Process:
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec(
                *command.arguments,
                stdin=command.stdin,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=dict(command.environment),
                cwd=command.directory,
                start_new_session=True,
            )
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # It may exist by now, or be about to: somebody has to wait for it and end it.
            self._keep(asyncio.create_task(_unwanted(starting)))
            raise
        except OSError as error:
            raise BackendFailure(f"cannot be run: {error.strerror or 'no such program'}") from None

    async def _end(self, process: asyncio.subprocess.Process, complaint: "asyncio.Task[bytes]") -> None:
        try:
            await _terminate(process)
            # What it still wrote is taken, so that its pipes are closed; somebody who left its group may hold them.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(complaint, _tail(process.stdout)), GRACE)
        finally:
            self._running -= 1

    async def _finish(self, ending: Coroutine[None, None, None]) -> None:
        """Wait for an ending, which goes on even if the one who waits is cancelled."""
        task = asyncio.create_task(ending)
        self._keep(task)
        await asyncio.shield(task)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)


async def _unwanted(starting: "asyncio.Task[asyncio.subprocess.Process]") -> None:
    with contextlib.suppress(OSError):
        await _terminate(await starting)


async def _terminate(process: asyncio.subprocess.Process) -> None:
    """End a process and its group: asked first, then made to."""
    _signal(process, signal.SIGTERM)
    try:
        await _exit(process, GRACE)
    finally:
        _signal(process, signal.SIGKILL)
    await _exit(process, GRACE)


async def _exit(process: asyncio.subprocess.Process, seconds: float) -> None:
    """Returns when a process has ended, or when that takes too long.

    Looked at, not waited for: `process.wait` also waits for its pipes, which others may hold open.
    """
    deadline = time.monotonic() + seconds
    while process.returncode is None and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(LOOK)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


async def _tail(stream: asyncio.StreamReader | None) -> bytes:
    """The end of what comes; all of it is read, so that the writer never waits."""
    kept = b""
    while stream is not None and (piece := await stream.read(PIECE)):
        kept = (kept + piece)[-MAX_COMPLAINT:]
    return kept
