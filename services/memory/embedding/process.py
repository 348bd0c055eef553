"""The pool's side of one worker process: start it, hand it a batch, end it."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anamnesis.kit.errors import Unavailable
from services.memory.embedding import cpu
from services.memory.embedding.wire import Load, Ready, Refused, Vectors, batch_line, parse

_ROOT = Path(__file__).parents[3]
# Deny by default: a worker has no use for the keys and addresses in our environment.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV")
_CLOSE_SECONDS = 2.0


class WorkerDied(Exception):
    """The process ended, hung or broke the protocol; another one must take its place."""


class BatchRefused(Exception):
    """The worker lives on, but could not embed this batch; the message quotes no text."""


class Answer(NamedTuple):
    vectors: NDArray[np.float32]
    """(n d)"""
    seconds: float
    over_length: int


class WorkerProcess:
    """A running worker whose model is loaded. One batch at a time."""

    def __init__(self, process: asyncio.subprocess.Process, ready: Ready) -> None:
        self._process = process
        self.pid = process.pid
        self.dimension = ready.dimension
        self.max_tokens = ready.max_tokens
        self.bf16 = ready.bf16

    @classmethod
    async def start(cls, load: Load, cores: tuple[int, ...], timeout: float) -> "WorkerProcess":
        """Start a process pinned to `cores` and wait until its model is loaded.

        Raises `Unavailable` when it does not come up within `timeout` seconds, with the reason.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "services.memory.embedding.worker", load.model_dump_json()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment(load.threads),
                start_new_session=True,  # Ctrl-C in the terminal must not reach it before it can ignore that
            )
        except OSError as error:  # no memory, no process, no descriptor left: that may pass
            raise Unavailable(f"the embedding worker did not start: {error.strerror}") from error
        cpu.pin(process.pid, cores)
        try:
            reply = await asyncio.wait_for(_reply(process), timeout)
        except (TimeoutError, WorkerDied) as error:
            await _end(process)
            cause = "took too long" if isinstance(error, TimeoutError) else str(error)
            raise Unavailable(f"the embedding worker did not start: {cause}") from error
        except asyncio.CancelledError:
            await _end(process)
            raise
        if not isinstance(reply, Ready):
            await _end(process)
            reason = reply.reason if isinstance(reply, Refused) else "it answered out of turn"
            raise Unavailable(f"the embedding model in {load.directory} cannot be loaded: {reason}")
        return cls(process, reply)

    async def embed(self, texts: list[str], timeout: float) -> Answer:
        """Raises `BatchRefused`, or `WorkerDied` (also when it takes longer than `timeout` seconds)."""
        try:
            async with asyncio.timeout(timeout):
                stdin = self._process.stdin
                assert stdin is not None
                stdin.write(batch_line(texts))
                await stdin.drain()
                reply = await _reply(self._process)
                if isinstance(reply, Refused):
                    raise BatchRefused(reply.reason)
                if not isinstance(reply, Vectors) or reply.rows != len(texts):
                    raise WorkerDied("it answered out of turn")
                stdout = self._process.stdout
                assert stdout is not None
                payload = await stdout.readexactly(4 * reply.rows * reply.dimension)
        except TimeoutError as error:  # an OSError too: it must come first
            raise WorkerDied(f"a batch took longer than {timeout:.0f} s") from error
        except (OSError, asyncio.IncompleteReadError) as error:
            raise WorkerDied("it ended while at work") from error
        vectors = np.frombuffer(payload, dtype=np.float32).reshape(reply.rows, reply.dimension)
        return Answer(vectors, reply.seconds, reply.over_length)

    def pin(self, cores: tuple[int, ...]) -> None:
        cpu.pin(self.pid, cores)

    async def close(self) -> None:
        """End the process: at once if it is idle, by force if it does not."""
        await _end(self._process)


async def _reply(process: asyncio.subprocess.Process) -> Ready | Refused | Vectors:
    assert process.stdout is not None
    try:
        received = await process.stdout.readline()
    except OSError as error:
        raise WorkerDied("its pipe broke") from error
    if not received.endswith(b"\n"):
        try:
            code = await asyncio.wait_for(process.wait(), _CLOSE_SECONDS)
        except TimeoutError:
            code = None
        raise WorkerDied(f"its process ended (exit {code})")
    try:
        return parse(received)
    except ValueError as error:
        raise WorkerDied("it wrote something that is no reply") from error


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    if process.returncode is None:
        try:
            await asyncio.wait_for(process.wait(), _CLOSE_SECONDS)
        except (TimeoutError, asyncio.CancelledError) as error:
            _kill(process)
            await process.wait()
            if isinstance(error, asyncio.CancelledError):
                raise


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def environment(threads: int) -> dict[str, str]:
    """What a process of ours that computes is given of our environment: no keys, no addresses."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    count = str(threads)
    return passed | {
        "PYTHONPATH": os.pathsep.join((str(_ROOT), str(_ROOT / "shared"))),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TQDM_DISABLE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",  # threads that only import would each keep an arena of memory
    }
