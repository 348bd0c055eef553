"""Asks endpoints that are left alone, failing or silent for long whether they are ready, so that no request has to.

The rounds are jittered: several gateways over the same trainers must not ask in step.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from services.gateway.backends.base import BackendFailure, Endpoint
from services.gateway.failover.pool import Pool

EVERY = 10.0  # seconds between rounds
JITTER = 0.2  # of that, either way
IDLE = 60.0  # seconds without news after which a healthy endpoint is asked too
WITHIN = 2.0  # seconds for one probe
AT_ONCE = 8  # probes

Probe = Callable[[Endpoint], Awaitable[None]]
"""Returns when the endpoint is ready, and raises `BackendFailure` when it is not."""


class Probes:
    """Looks after a pool until it is cancelled."""

    def __init__(
        self,
        pool: Pool,
        probe: Probe,
        *,
        chance: random.Random,
        every: float = EVERY,
        idle: float = IDLE,
        within: float = WITHIN,
    ) -> None:
        self._pool = pool
        self._probe = probe
        self._chance = chance
        self._every = every
        self._idle = idle
        self._within = within
        self._room = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._every * self._chance.uniform(1 - JITTER, 1 + JITTER))
            await self.round()

    async def round(self) -> None:
        """Ask those that need it, side by side."""
        async with asyncio.TaskGroup() as group:
            for endpoint in self._pool.doubtful(self._idle):
                group.create_task(self._ask(endpoint))

    async def _ask(self, endpoint: Endpoint) -> None:
        error: str | None = None
        async with self._room:
            try:
                async with asyncio.timeout(self._within):
                    await self._probe(endpoint)
            except BackendFailure as failure:
                error = failure.reason
            except TimeoutError:
                error = f"did not say within {self._within:g} s whether it is ready"
        self._pool.probed(endpoint.name, error)
