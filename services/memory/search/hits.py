"""Counting what was retrieved, without making the one who searches wait for a disk."""

import asyncio
from collections import Counter
from collections.abc import Iterable

from anamnesis.contracts.base import now
from anamnesis.kit.errors import AnamnesisError
from anamnesis.kit.logs import logger
from services.memory.stores.base import Store

MAX_WAITING = 10_000  # episodes whose counts may wait for a store that is away; beyond it they are dropped
RETRY = 1.0  # seconds


class Hits:
    """Gathers the hits of searches; one write at a time takes all that have come meanwhile."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: Counter[str] = Counter()
        self._writing: asyncio.Task[None] | None = None
        self._closing = False

    def add(self, episode_ids: Iterable[str]) -> None:
        if len(self._waiting) < MAX_WAITING:
            self._waiting.update(episode_ids)
        if self._waiting and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write(), name="record-hits")

    async def close(self) -> None:
        """Write what waits; counts that the store does not take now are lost."""
        self._closing = True
        if self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, Counter()
            try:
                await self._store.record_hits(batch, now())
            except AnamnesisError as error:
                logger().warning("hits not recorded yet", error=error.code, episodes=len(batch))
                if self._closing:
                    return
                self._waiting.update(batch)
                await asyncio.sleep(RETRY)
