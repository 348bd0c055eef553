"""Searches that wait together are answered together: one pass over the vectors serves them all.

Reading a matrix from memory costs the same for one question as for eight, so under load throughput grows with
the number of clients instead of falling. Alone, a search waits for nobody.
"""

import asyncio
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from anamnesis.kit.errors import Busy, Unavailable
from services.memory.stores.base import CandidateQuery, Candidates
from services.memory.stores.index import MemoryIndex

_TOGETHER = 16
"""Questions in one pass at most."""
_WAITING = 1024


class Searches:
    """A queue before a few named threads. All methods belong to the event loop."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._running = 0
        self._waiting: deque[tuple[CandidateQuery, asyncio.Future[Candidates]]] = deque()

    def open(self) -> None:
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="search")
        self._running = 0

    async def close(self) -> None:
        """Let what runs end, and turn away what waits."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(Unavailable("the store was closed"))

    def submit(self, index: MemoryIndex, query: CandidateQuery) -> "asyncio.Future[Candidates]":
        """Raises Busy when too many wait. Sees every write that was acknowledged before."""
        if self._pool is None:
            raise Unavailable("the store is not open")
        if len(self._waiting) >= _WAITING:
            raise Busy(f"{_WAITING} searches are waiting; try again in a moment")
        future: asyncio.Future[Candidates] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, future))
        # After all that is ready in this turn of the loop: questions embedded in one batch come in one turn.
        asyncio.get_running_loop().call_soon(self._start, index)
        return future

    def _start(self, index: MemoryIndex) -> None:
        while self._waiting and self._running < self._threads and self._pool is not None:
            batch: list[tuple[CandidateQuery, asyncio.Future[Candidates]]] = []
            while self._waiting and len(batch) < _TOGETHER:
                query, future = self._waiting.popleft()
                if not future.done():
                    batch.append((query, future))
            if not batch:
                return
            self._running += 1
            futures = [future for _, future in batch]
            work = self._pool.submit(index.search, [query for query, _ in batch])
            loop = asyncio.get_running_loop()
            work.add_done_callback(partial(self._hand_back, loop, index, futures))

    def _hand_back(
        self,
        loop: asyncio.AbstractEventLoop,
        index: MemoryIndex,
        futures: "list[asyncio.Future[Candidates]]",
        done: "Future[list[Candidates]]",
    ) -> None:
        """Runs on the searching thread."""
        loop.call_soon_threadsafe(self._finish, index, futures, done)

    def _finish(
        self, index: MemoryIndex, futures: "list[asyncio.Future[Candidates]]", done: "Future[list[Candidates]]"
    ) -> None:
        self._running -= 1
        error = done.exception()
        for place, future in enumerate(futures):
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(done.result()[place])
        self._start(index)
