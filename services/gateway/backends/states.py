"""`GET /api/backends`: which backends are configured, whether they answer, and what they offer."""

import asyncio
import time
from collections.abc import Sequence

from fastapi import APIRouter

from anamnesis.contracts.chat import BackendState, BackendStates
from services.gateway.backends.base import Backend, BackendFailure

WAIT = 2.0  # seconds that each may take, all at once
KEPT = 10.0  # seconds that an answer is remembered


class States:
    """Asks all backends at once, at most once in `KEPT` seconds, however many people look."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends
        self._lock = asyncio.Lock()
        self._known: BackendStates | None = None
        self._at = 0.0

    async def now(self) -> BackendStates:
        async with self._lock:
            if self._known is None or time.monotonic() - self._at > KEPT:
                self._known = BackendStates(backends=tuple(await asyncio.gather(*map(_state, self._backends))))
                self._at = time.monotonic()
            return self._known


def routes(states: States) -> APIRouter:
    router = APIRouter()

    @router.get("/api/backends")
    async def backends() -> BackendStates:
        """Who can be asked in a chat, in the order in which they are asked, and what is missing or wrong."""
        return await states.now()

    return router


async def _state(backend: Backend) -> BackendState:
    reason, models = backend.missing, tuple[str, ...]()
    if reason is None:
        try:
            async with asyncio.timeout(WAIT):
                models = tuple(await backend.models())
        except TimeoutError:
            reason = f"did not answer within {WAIT:g} s"
        except BackendFailure as failure:
            reason = failure.reason
    return BackendState(
        name=backend.name,
        configured=backend.missing is None,
        reason=reason,
        models=models,
        endpoints=tuple(endpoint.name for endpoint in backend.endpoints),
    )
