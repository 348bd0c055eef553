"""The embedding pool: worker processes on the cores allotted, fed in micro-batches, never blocking the event loop.

Every request has a deadline, every queue a bound (`Busy` beyond it). A worker that dies is replaced,
and what it was working on is tried once more.
"""

import asyncio
import hashlib
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anamnesis.contracts.embedding import CpuShare, EmbeddingModel
from anamnesis.kit.errors import BadRequest, DeadlineExceeded, TooLarge, Unavailable
from anamnesis.kit.logs import logger
from services.memory.embedding import cpu, room
from services.memory.embedding.batching import Backlog, Job, Pace, Rank, Request, padded
from services.memory.embedding.process import Answer, BatchRefused, WorkerDied, WorkerProcess
from services.memory.embedding.wire import Load, Precision

MAX_CHARACTERS = 100_000
"""The longest text taken at all; windows are far shorter."""
_PATIENCE = 3
"""Failed starts in a row after which requests fail at once rather than by their deadline."""
_STEADY_SECONDS = 60.0
"""A worker that lived so long has its successor started without a pause."""
_RATE_SECONDS = 30.0
_QUIET_SECONDS = 5.0
"""After so long without a question batches in the background may be longer."""
_QUIET_FACTOR = 4.0
"""How much longer: short texts are embedded a fifth faster so; a question that comes all the same waits once."""


@dataclass(frozen=True)
class PoolOptions:
    """How a pool works; seconds unless said otherwise."""

    precision: Precision = "auto"
    """bf16 where the processor is faster with it (auto), or always one of both."""
    threads: int = 1
    """Threads of one worker; more than one is slower when the cores are shared."""
    max_workers: int = 4
    """Bound on workers, whatever the number of cores."""
    memory: int | None = None
    """Bytes that all workers may take, as estimated: each holds a model of its own. One worker there is always."""
    queue_limit: int = 2048
    """Texts that may wait, for passages and for re-embedding each."""
    query_limit: int = 256
    """Queries that may wait."""
    batch_seconds: float = 0.05
    """How long a batch should hold a worker: what a query waits at most before its own turn."""
    deadline: float = 60.0
    """The longest a request waits unless it says otherwise."""
    start_timeout: float = 120.0
    batch_timeout: float = 60.0
    """A worker that takes longer for one batch hangs, and is replaced."""
    backoff: float = 0.5
    """Pause before a crashed worker's successor; doubles up to 30 s."""
    remembered: int = 1024
    """Query vectors that are kept for when the same question comes again."""
    nice: int = 0
    """Niceness of the workers: a pool that only re-embeds stands back behind the one that serves."""


class PoolStats(NamedTuple):
    """Totals since the start, and what waits now."""

    workers: int
    ready: int
    queue_depth: int
    """Texts that wait or are being embedded, of all ranks."""
    texts: int
    batches: int
    texts_per_second: float
    """Over the last 30 seconds."""
    over_length: int
    """Texts that were longer than the model takes: their end was lost. Windows are cut so that it stays 0."""
    restarts: int
    failed: int
    """Requests that ended in an error of a worker."""


@dataclass(eq=False)
class _Slot:
    """A place for one worker; holds none while it is being started."""

    nice: int
    retired: bool = False
    worker: WorkerProcess | None = None
    task: asyncio.Task[None] | None = None


class EmbeddingPool:
    """Embeds texts with one model. Starts nothing before `start`; `close` leaves no process behind."""

    def __init__(
        self, model: EmbeddingModel, directory: Path, share: CpuShare, options: PoolOptions | None = None
    ) -> None:
        self.model = model
        self.share = share
        self.options = options or PoolOptions()
        self._directory = directory
        self._cores = cpu.allot(share)
        limit = self.options.queue_limit
        self._backlog = Backlog(
            {Rank.QUERY: self.options.query_limit, Rank.PASSAGE: limit, Rank.BACKGROUND: limit},
        )
        self._pace = Pace(self.options.batch_seconds)
        self._slots: list[_Slot] = []
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._closing = False
        self._fault: str | None = None
        self._failed_starts = 0
        self._in_work = 0
        self._queries: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._texts = self._batches = self._over_length = self._restarts = self._failed = 0
        self._asked = 0.0
        """When the last question came, on the monotonic clock."""
        self._recent: deque[tuple[float, int]] = deque(maxlen=4096)

    # Life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers and wait for the first. Raises `Unavailable` or `BadRequest` if it cannot load."""
        self._resize()
        try:
            await self._until(
                lambda: self._fault is not None or any(slot.worker for slot in self._slots),
                self.options.start_timeout + 10,
            )
            if not any(slot.worker for slot in self._slots):
                raise Unavailable(self._fault or "no embedding worker came up in time")
        except BaseException:
            await self.close(drain=0)
            raise

    async def close(self, drain: float = 10.0) -> None:
        """Take no more requests, let those under way end for up to `drain` seconds, then end the workers."""
        self._closing = True
        self._changed.set()
        await self._until(lambda: not self._depth() or not any(slot.worker for slot in self._slots), drain)
        slots, self._slots = self._slots, []
        await _cancel(slots)
        for request in self._backlog.clear():
            _fail(request, "embedding is shutting down")

    # Embedding --------------------------------------------------------------------------------

    async def embed_query(self, text: str, deadline: float | None = None) -> NDArray[np.float32]:
        """(d), unit length: a question, with the model's prefix for questions.

        Raises `Busy`, `DeadlineExceeded` (seconds; default as configured), `TooLarge` or `Unavailable`.
        """
        # The digest stands for the text: nothing that was asked is kept.
        digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
        self._asked = time.monotonic()
        known = self._queries.get(digest)
        if known is None:
            vectors = await self._embed([self.model.query_prefix + text], Rank.QUERY, deadline)
            known = vectors[0]
            known.flags.writeable = False
            if self.options.remembered:
                self._queries[digest] = known
                if len(self._queries) > self.options.remembered:
                    self._queries.popitem(last=False)
        else:
            self._queries.move_to_end(digest)
        return known

    async def embed_passages(
        self, texts: Sequence[str], *, background: bool = False, deadline: float | None = None
    ) -> NDArray[np.float32]:
        """(n d), unit length: windows of episodes, with the model's prefix for passages.

        `background` lets all others go first. Raises as `embed_query` does.
        """
        if not texts:
            return np.empty((0, self.model.dimension), dtype=np.float32)
        rank = Rank.BACKGROUND if background else Rank.PASSAGE
        if background:  # whoever has all the time waits for room in the queue, instead of being told to come again
            await self._until(
                lambda: self._closing or self._fault is not None or self._backlog.fits(rank, len(texts)),
                self.options.deadline if deadline is None else deadline,
            )
        return await self._embed([self.model.passage_prefix + text for text in texts], rank, deadline)

    async def _embed(self, texts: list[str], rank: Rank, deadline: float | None) -> NDArray[np.float32]:
        if self._closing or not self._slots:
            raise Unavailable("embedding is shutting down" if self._closing else "embedding has not been started")
        if self._fault is not None and not any(slot.worker for slot in self._slots):
            raise Unavailable(self._fault)
        longest = max(map(len, texts))
        if longest > MAX_CHARACTERS:
            raise TooLarge(f"a text of {longest} characters cannot be embedded whole: cut it into windows")
        vectors = np.empty((len(texts), self.model.dimension), dtype=np.float32)
        request = Request(rank, vectors, asyncio.get_running_loop().create_future(), len(texts))
        storable = (text.encode("utf-8", "replace").decode() for text in texts)
        self._backlog.admit(
            [Job(request, row, text) for row, text in enumerate(storable)],
            self.pace,
        )
        self._wake.set()
        seconds = self.options.deadline if deadline is None else deadline
        try:
            async with asyncio.timeout(seconds):
                await request.done
        except TimeoutError as error:
            raise DeadlineExceeded(f"{len(texts)} texts were not embedded within {seconds:g} s: try again") from error
        finally:
            request.done.cancel()  # what nobody waits for is not embedded
        return vectors

    @property
    def pace(self) -> float:
        """Characters that the workers embed in a second, all together, as far as they know by now."""
        return self._pace.per_second * max(1, len(self._slots))

    # Cores ------------------------------------------------------------------------------------

    @property
    def cores(self) -> tuple[int, ...]:
        """The cores that the workers run on."""
        return self._cores

    async def set_cpu(self, share: CpuShare) -> None:
        """Move to other cores at once; no model is loaded again, but workers come or go with the number of cores.

        Raises `BadRequest` for a core that is not there; then nothing changes.
        """
        self._cores = cpu.allot(share)
        self.share = share
        for slot in self._slots:
            if slot.worker is not None:
                slot.worker.pin(self._cores)
        if self._slots:
            self._resize()

    async def promote(self, options: PoolOptions) -> None:
        """Serve by these options from now on: no longer nice, and with as many workers as they allow.

        Where the system does not let a worker be less nice it is replaced, one after the other, as each takes memory.
        """
        self.options = options
        for slot in tuple(self._slots):
            if slot.worker is not None and cpu.raise_priority(slot.worker.pid):
                slot.nice = options.nice
            elif slot.nice != options.nice:
                await self._replace(slot)
            if self._closing:
                return
        if self._slots:
            self._resize()

    async def _replace(self, slot: _Slot) -> None:
        """End a worker when its successor is ready; a worker that is nice is better than none."""
        fresh = self._open_slot()
        await self._until(lambda: self._closing or fresh.worker is not None, self.options.start_timeout)
        superfluous = slot if fresh.worker is not None else fresh
        self._retire([superfluous])
        if superfluous.task is not None:
            await asyncio.wait({superfluous.task}, timeout=self.options.batch_timeout)

    def _resize(self) -> None:
        wanted = min(self.options.max_workers, len(self._cores) // max(1, self.options.threads))
        if self.options.memory is not None:
            wanted = min(wanted, self.options.memory // room.of_a_worker(self._directory))
        wanted = max(1, wanted)
        while len(self._slots) < wanted:
            self._open_slot()
        self._retire(self._slots[wanted:])

    def _open_slot(self) -> _Slot:
        slot = _Slot(self.options.nice)
        self._slots.append(slot)
        slot.task = asyncio.create_task(self._serve(slot), name="embedding-worker")
        return slot

    def _retire(self, slots: list[_Slot]) -> None:
        for slot in slots:
            slot.retired = True
            if slot in self._slots:
                self._slots.remove(slot)
        self._wake.set()

    # Workers ----------------------------------------------------------------------------------

    async def _serve(self, slot: _Slot) -> None:
        """Keep one worker alive until the slot is retired."""
        pause = self.options.backoff
        while not slot.retired:
            try:
                worker = await self._start_worker(slot)
            except (Unavailable, BadRequest) as error:
                self._failed_starts += 1
                logger().warning("embedding worker did not start", reason=error.message, tries=self._failed_starts)
                if isinstance(error, BadRequest) or not self._batches or self._failed_starts >= _PATIENCE:
                    self._give_up(error.message)
                await asyncio.sleep(pause)
                pause = min(30.0, pause * 2)
                continue
            self._failed_starts, self._fault = 0, None
            slot.worker = worker
            worker.pin(self._cores)
            self._changed.set()
            began = time.monotonic()
            try:
                await self._work(slot, worker)
            except WorkerDied as error:
                self._restarts += 1
                logger().warning("embedding worker died", reason=str(error), pid=worker.pid, model=self.model.name)
                pause = self.options.backoff if time.monotonic() - began > _STEADY_SECONDS else min(30.0, pause * 2)
            finally:
                slot.worker = None
                await worker.close()
            if not slot.retired:
                await asyncio.sleep(pause)

    async def _start_worker(self, slot: _Slot) -> WorkerProcess:
        load = Load(
            directory=str(self._directory),
            max_tokens=self.model.max_tokens,
            precision=self.options.precision,
            threads=self.options.threads,
            nice=slot.nice,
            parent=os.getpid(),
        )
        worker = await WorkerProcess.start(load, self._cores, self.options.start_timeout)
        if (worker.dimension, worker.max_tokens) != (self.model.dimension, self.model.max_tokens):
            await worker.close()
            raise BadRequest(
                f"the files of {self.model.name} make vectors of {worker.dimension} numbers from at most "
                f"{worker.max_tokens} tokens, not {self.model.dimension} from {self.model.max_tokens}: "
                "register the model with what is true of it"
            )
        logger().info("embedding worker ready", model=self.model.name, pid=worker.pid, bf16=worker.bf16)
        return worker

    async def _work(self, slot: _Slot, worker: WorkerProcess) -> None:
        while not slot.retired:
            budget = self._pace.budget
            quiet = time.monotonic() - self._asked > _QUIET_SECONDS
            jobs = self._backlog.take(budget, budget * _QUIET_FACTOR if quiet else None)
            if not jobs:
                self._wake.clear()
                await self._wake.wait()
                continue
            self._in_work += len(jobs)
            try:
                answer = await worker.embed([job.text for job in jobs], self.options.batch_timeout)
            except BatchRefused as error:
                logger().warning("embedding batch refused", reason=str(error), texts=len(jobs))
                self._again(jobs, f"the embedding model failed: {error}")
            except WorkerDied as error:
                self._again(jobs, f"an embedding worker was lost twice over this text: {error}")
                raise
            else:
                self._deliver(jobs, answer)
            finally:
                self._in_work -= len(jobs)
                self._changed.set()

    def _deliver(self, jobs: list[Job], answer: Answer) -> None:
        self._pace.learn(padded(jobs), answer.seconds)
        self._batches += 1
        self._texts += len(jobs)
        self._recent.append((time.monotonic(), len(jobs)))
        if answer.over_length:
            self._over_length += answer.over_length
            logger().warning("texts longer than the embedding model takes", texts=answer.over_length)
        for job, vector in zip(jobs, answer.vectors, strict=True):
            request = job.request
            request.vectors[job.row] = vector
            request.left -= 1
            if not request.left and not request.done.done():
                request.done.set_result(None)

    def _again(self, jobs: list[Job], reason: str) -> None:
        """Queue texts once more; those that failed before fail their request."""
        for job in jobs:
            if job.tried and not job.request.done.done():
                self._failed += 1
                _fail(job.request, reason)
            job.tried += 1
        self._backlog.put_back([job for job in jobs if not job.request.done.done()])
        self._wake.set()

    def _give_up(self, fault: str) -> None:
        self._fault = fault
        self._changed.set()
        if not any(slot.worker for slot in self._slots):
            for request in self._backlog.clear():
                self._failed += 1
                _fail(request, fault)

    async def _until(self, holds: Callable[[], bool], seconds: float) -> None:
        """Wait until something holds, or for so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    # Figures ----------------------------------------------------------------------------------

    def _depth(self) -> int:
        return self._in_work + sum(self._backlog.depth(rank) for rank in Rank)

    def stats(self) -> PoolStats:
        since = time.monotonic() - _RATE_SECONDS
        return PoolStats(
            workers=len(self._slots),
            ready=sum(slot.worker is not None for slot in self._slots),
            queue_depth=self._depth(),
            texts=self._texts,
            batches=self._batches,
            texts_per_second=sum(count for at, count in self._recent if at >= since) / _RATE_SECONDS,
            over_length=self._over_length,
            restarts=self._restarts,
            failed=self._failed,
        )

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that are ready."""
        return tuple(slot.worker.pid for slot in self._slots if slot.worker is not None)


def _fail(request: Request, reason: str) -> None:
    if not request.done.done():
        request.done.set_exception(Unavailable(reason))


async def _cancel(slots: list[_Slot]) -> None:
    tasks = [slot.task for slot in slots if slot.task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
