"""Which models the backends have, asked of all at once and kept for a while."""

import asyncio
import time
from collections.abc import Mapping, Sequence

from anamnesis.kit.logs import logger
from services.gateway.backends.base import Backend, BackendFailure

FRESH = 60.0  # seconds that an answer is taken for true
WITHIN = 3.0  # seconds for a backend to list its models


class Catalogue:
    """Lists models. A backend that is not configured or does not answer has none."""

    def __init__(self, backends: Sequence[Backend], *, fresh: float = FRESH, within: float = WITHIN) -> None:
        self._backends = backends
        self._fresh = fresh
        self._within = within
        self._listed: Mapping[str, tuple[str, ...]] | None = None
        self._asked_at = 0.0
        self._asking: asyncio.Task[None] | None = None

    async def listed(self) -> Mapping[str, tuple[str, ...]]:
        """Models by backend, each one's default first. Only the first caller waits: later ones get what is known."""
        if self._asking is None and (self._listed is None or time.monotonic() - self._asked_at > self._fresh):
            self._asking = asyncio.create_task(self._ask(), name="catalogue")
        if self._listed is None and self._asking is not None:
            await asyncio.shield(self._asking)
        return self._listed or {}

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> None:
        try:
            usable = [backend for backend in self._backends if backend.missing is None]
            models = await asyncio.gather(*(self._models(backend) for backend in usable))
            self._listed = {backend.name: each for backend, each in zip(usable, models, strict=True)}
            self._asked_at = time.monotonic()
        finally:
            self._asking = None

    async def _models(self, backend: Backend) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(self._within):
                return tuple(await backend.models())
        except (BackendFailure, TimeoutError) as failure:
            reason = failure.reason if isinstance(failure, BackendFailure) else "no answer in time"
            logger().info("models_not_listed", backend=backend.name, reason=reason)
            return ()
