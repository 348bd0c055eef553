"""An ordered list of backends as one: names in, an answer under way out, or one error that tells why there is none."""

import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace

from pydantic import JsonValue

from anamnesis.contracts.chat import Attempt
from anamnesis.kit.errors import (
    AnamnesisError,
    BadRequest,
    Busy,
    Conflict,
    DeadlineExceeded,
    Invalid,
    NotFound,
    TooLarge,
    Unavailable,
    UpstreamFailed,
)
from services.gateway.backends.base import Ask, Backend, Endpoint, Piece
from services.gateway.failover.breaker import LONGEST
from services.gateway.failover.pool import Pool
from services.gateway.failover.walk import Begun, Deadlines, Failed, Kind, NobodyAnswered, Stop, Walk

MAX_MESSAGE = 4_000  # characters of a message with the reasons of all who were asked
_OURS: Mapping[int, type[AnamnesisError]] = {400: BadRequest, 404: NotFound, 413: TooLarge, 422: Invalid}
"""What a client did wrong, by the status that a backend gives it."""
_SHARED: Mapping[int, type[AnamnesisError]] = {404: NotFound, 409: Conflict}
"""What moves on, and is the client's to mend once everybody has said it."""


class Chain:
    """Asks backends in the order in which they are named. Their breakers and loads outlive a request."""

    def __init__(
        self,
        backends: Sequence[Backend],
        deadlines: Deadlines,
        *,
        pools: Mapping[str, Pool] | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """`pools`: those that others use or probe too, by the backend's name; the rest are made when first needed."""
        self._backends = {one.name: one for one in backends}
        self._deadlines = deadlines
        self._pools = dict(pools or {})
        self._chance = chance or random.Random()  # noqa: S311 - jitter is no secret

    async def begin(self, ask: Ask, names: Sequence[str], *, whole: bool = False) -> Begun:
        """The first answer that has something to say.

        `names`: `backend`, or `backend:model`. `whole`: return only when the answer has ended well, so that one that
        breaks off half-way moves on too; for answers that are not streamed. Raises `AnamnesisError`, whose `detail`
        lists every try and why it failed. Cancelling it ends the work at the backend.
        """
        if not names:
            raise BadRequest("name at least one backend")
        stops: list[Stop] = []
        passed: list[Attempt] = []
        unable = False
        for name in dict.fromkeys(names):
            backend, model = self._find(name)
            asked = replace(ask, model=model) if model else ask
            if (why := backend.missing) is None and (why := backend.cannot(asked)) is not None:
                unable = True
            if why is not None:
                passed.append(Attempt(backend=backend.name, endpoint="", error=why))
                continue
            stops.append(
                Stop(
                    backend.name,
                    self.pool(backend.name),
                    _answer(backend, asked),
                    model=asked.model or "",
                    dialect=backend.dialect,
                )
            )
        if not stops:
            raise _nobody_can(passed, unable=unable)
        try:
            return await Walk(stops, self._deadlines, chance=self._chance, attempts=passed, whole=whole).begin()
        except NobodyAnswered as end:
            raise failure_of(end) from None

    def pool(self, name: str) -> Pool:
        """The endpoints of a backend, for who shows or probes them."""
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = Pool(self._backends[name].endpoints)
        return pool

    def _find(self, name: str) -> tuple[Backend, str]:
        backend, _, model = name.partition(":")
        found = self._backends.get(backend)
        if found is None:
            known = ", ".join(self._backends) or "none"
            raise BadRequest(f"there is no backend {backend[:100]!r}; these are known: {known}")
        return found, model


def _answer(backend: Backend, ask: Ask) -> Callable[[Endpoint], AsyncGenerator[Piece, None]]:
    # A pool may be shared with others who know its endpoints at another address: the name is what they have in common.
    own = {one.name: one for one in backend.endpoints}
    return lambda endpoint: backend.answer(ask, own[endpoint.name])


def _nobody_can(passed: Sequence[Attempt], *, unable: bool) -> AnamnesisError:
    reasons = "; ".join(f"{one.backend}: {one.error}" for one in passed)
    if unable:
        return BadRequest(f"no backend can take this request: {reasons}", _listed(passed))
    return Unavailable(f"no backend is configured: {reasons}", _listed(passed))


def failure_of(end: NobodyAnswered) -> AnamnesisError:
    """What a client is told when nobody answered: one status for what all tries have in common."""
    detail = _listed(end.attempts)
    last = end.failed[-1] if end.failed else None
    if last is not None and last.kind is Kind.BAD:
        return _refused(last, detail)
    if end.expired:
        return DeadlineExceeded(_why("no backend began to answer in the time that a request has", end), detail)
    kinds = {one.kind for one in end.failed}
    statuses = {one.failure.status for one in end.failed}
    if len(statuses) == 1 and (shared := _SHARED.get(statuses.pop() or 0)) is not None and last is not None:
        return shared(f"{last.backend}: {last.failure.reason}", detail)
    if kinds == {Kind.BUSY}:
        waits = [one.failure.retry_after for one in end.failed if one.failure.retry_after is not None]
        wait = min(max(min(waits, default=1.0), 1.0), LONGEST)
        return Busy(_why("everybody who could answer is busy, try again later", end), detail, retry_after=wait)
    if kinds == {Kind.LATE}:
        return DeadlineExceeded(_why("nobody began to answer in time", end), detail)
    if Kind.BROKEN in kinds:
        return UpstreamFailed(_why("nobody gave an answer", end), detail)
    return Unavailable(_why("nobody can answer now", end), detail)


def _why(message: str, end: NobodyAnswered) -> str:
    """The message with the reason of each who was asked: many clients show nothing else of an error."""
    reasons = dict.fromkeys(f"{one.backend}: {one.error}" for one in end.attempts if one.error)
    return f"{message}: {'; '.join(reasons)}"[:MAX_MESSAGE] if reasons else message


def _refused(last: Failed, detail: JsonValue) -> AnamnesisError:
    """A request that nobody else would take either. Where it is our key that was refused, the client's is not wrong."""
    status = last.failure.status or 0
    ours = _OURS.get(status)
    if ours is not None:
        return ours(f"{last.backend} refuses the request: {last.failure.reason}", detail)
    if status in (401, 403):
        return UpstreamFailed(
            f"{last.backend} does not accept the key that this gateway is configured with; set the right one", detail
        )
    return UpstreamFailed(f"{last.backend} refuses the request: {last.failure.reason}", detail)


def _listed(attempts: Sequence[Attempt]) -> JsonValue:
    return [one.model_dump(mode="json") for one in attempts]
