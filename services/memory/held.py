"""Ids that one writer at a time may change."""

import asyncio
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager

from anamnesis.kit.errors import Busy

PATIENCE = 120.0  # seconds that a writer waits for another one of the same id


class Held:
    """Writers of different ids pass each other; the second writer of an id waits for the first."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._released = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, ids: Set[str]) -> AsyncIterator[None]:
        """All ids at once, so that two writers cannot wait for each other. Raises `Busy` after two minutes."""
        async with self._released:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._released.wait_for(lambda: self._ids.isdisjoint(ids))
            except TimeoutError:
                raise Busy("this is being written by another request; try again in a moment") from None
            self._ids |= ids
        try:
            yield
        finally:
            async with self._released:
                self._ids -= ids
                self._released.notify_all()
