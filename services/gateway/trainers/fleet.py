"""All trainers together: who generates next, who is probed, and how each of them is."""

import asyncio
import random

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.generate import GenerateRequest
from anamnesis.contracts.trainers import TrainerPlace, TrainerPlaces, TrainerState, TrainerStates
from anamnesis.kit.errors import Unavailable
from anamnesis.kit.settings import without_user
from services.gateway.backends.anamnesis_gpt import NAME
from services.gateway.backends.base import BackendFailure
from services.gateway.failover.chain import failure_of
from services.gateway.failover.pool import EndpointStatus, Pool
from services.gateway.failover.probes import EVERY, Probes
from services.gateway.failover.walk import Begun, Deadlines, NobodyAnswered, Stop, Walk
from services.gateway.trainers.client import TrainerClient

UNSET = "set TRAINER_URLS to the addresses of your trainers, http://host:3011 for instance, and start again"
STATUS_WAIT = 2.0  # seconds for what a trainer says of itself


class Fleet:
    """The trainers. Open it before use, close it at the end; its `pool` may be shared with the chat."""

    def __init__(
        self,
        pool: Pool,
        client: TrainerClient,
        deadlines: Deadlines,
        *,
        chance: random.Random,
        probe_every: float = EVERY,
    ) -> None:
        self.pool = pool
        self._client = client
        self._deadlines = deadlines
        self._chance = chance
        self._probes = Probes(pool, client.ready, chance=chance, every=probe_every)
        self._probing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self._client.open()
        if self.pool.endpoints:
            self._probing = asyncio.create_task(self._probes.run(), name="trainer probes")

    async def close(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await self._client.close()

    def require_any(self) -> None:
        """Raise `Unavailable` where no trainer is configured."""
        if not self.pool.endpoints:
            raise Unavailable(f"no trainer is configured: {UNSET}")

    async def begin(self, request: GenerateRequest) -> Begun:
        """The first trainer's answer that has something to say; one that is not streamed, when it is whole.

        Trainers are always asked to stream: only so a stalled one is told from one that takes its time, and stopped
        within a token. Raises `AnamnesisError`.
        """
        self.require_any()
        body = request.model_copy(update={"stream": True}).model_dump_json(exclude_none=True).encode()
        stop = Stop(NAME, self.pool, lambda endpoint: self._client.generate(body, endpoint, raw=request.stream))
        try:
            return await Walk([stop], self._deadlines, chance=self._chance, whole=not request.stream).begin()
        except NobodyAnswered as end:
            raise failure_of(end) from None

    def places(self) -> TrainerPlaces:
        return TrainerPlaces(
            trainers=tuple(TrainerPlace(label=one.name, url=without_user(one.url)) for one in self.pool.endpoints)
        )

    async def states(self) -> TrainerStates:
        """How each is; all are asked at once, and none longer than two seconds."""
        states = await asyncio.gather(*(self._state(one) for one in self.pool.status()))
        return TrainerStates(trainers=tuple(states), reason=None if states else UNSET)

    async def _state(self, seen: EndpointStatus) -> TrainerState:
        inference: JsonObject | None = None
        reachable, error = True, seen.error
        try:
            async with asyncio.timeout(STATUS_WAIT):
                inference = await self._client.status(seen.endpoint)
        except BackendFailure as failure:
            reachable, error = failure.status is not None, failure.reason
        except TimeoutError:
            reachable, error = False, f"did not answer within {STATUS_WAIT:g} s"
        return TrainerState(
            label=seen.endpoint.name,
            url=without_user(seen.endpoint.url),
            reachable=reachable,
            error=error,
            breaker=seen.state.value,
            in_flight=seen.in_flight,
            failures=seen.failures,
            wait=round(seen.wait, 1),
            inference=inference,
        )
