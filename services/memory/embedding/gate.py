"""The gate between writers and the move to another embedding model.

A writer embeds by the active model and stores; were the model switched in between, its episode would
lie in the store without vectors of the new one. So writers hold the gate together, and the switch alone.
Sweeping up after the switch instead would leave such episodes out of searches by meaning for a while.
Where writers bring in more than the move gets done, they are shut out now and then by the same gate.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from anamnesis.kit.errors import DeadlineExceeded


class Gate:
    """Held by many writers, or alone. Who waits to hold it alone lets no new writer in, for a bounded time."""

    def __init__(self) -> None:
        self._writers = 0
        self._shut = False
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def writing(self, timeout: float = 150.0) -> AsyncIterator[None]:
        """Hold it beside other writers. Raises `DeadlineExceeded` after `timeout` seconds of waiting."""
        await self._until(lambda: not self._shut, timeout)
        self._writers += 1
        try:
            yield
        finally:
            self._writers -= 1
            self._changed.set()

    @asynccontextmanager
    async def alone(self, timeout: float) -> AsyncIterator[None]:
        """Hold it while no writer does, once those that have it are done.

        Raises `DeadlineExceeded` when they are not within `timeout` seconds; writers then go on as before.
        """
        await self._until(lambda: not self._shut, timeout)
        self._shut = True
        try:
            await self._until(lambda: not self._writers, timeout)
            yield
        finally:
            self._shut = False
            self._changed.set()

    async def _until(self, free: Callable[[], bool], timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not free():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            raise DeadlineExceeded("the embedding model is being switched: try again in a moment") from error
