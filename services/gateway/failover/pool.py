"""The endpoints of one backend: which is asked next, and what each try told of it.

Fewest answers under way first, in turn where several have as few. An endpoint whose breaker is open is passed over; the
walk comes back to one of them when nobody else is left (`insist`), because a refusal without having asked anybody helps
nobody. All of it is plain bookkeeping: nothing here waits.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from services.gateway.backends.base import BackendFailure, Endpoint
from services.gateway.failover.breaker import Breaker, Clock, Permit, State

BUSY = 429


class EndpointStatus(NamedTuple):
    """An endpoint as a page shows it."""

    endpoint: Endpoint
    state: State
    in_flight: int
    failures: int
    """In a row."""
    wait: float
    """Seconds until it is tried again; 0 = now."""
    error: str | None
    """What went wrong last; none = the last answer was whole."""


@dataclass(eq=False)
class _Place:
    endpoint: Endpoint
    breaker: Breaker
    heard: float
    """When it was last known to work or not to, on the pool's clock."""
    in_flight: int = 0
    error: str | None = None


class Lease:
    """One try of one endpoint. The first of `succeeded`, `failed` and `let_go` counts; all others do nothing."""

    def __init__(self, place: _Place, permit: Permit, clock: Clock) -> None:
        self._place = place
        self._permit = permit
        self._clock = clock
        self._over = False
        place.in_flight += 1

    @property
    def endpoint(self) -> Endpoint:
        return self._place.endpoint

    def succeeded(self) -> None:
        if self._end():
            self._place.error = None
            self._place.heard = self._clock()
            self._place.breaker.succeeded(self._permit)

    def failed(self, failure: BackendFailure) -> None:
        """A request that it calls bad says nothing against it: it is there, and reads what it is sent."""
        status = failure.status
        if status is not None and 400 <= status < 500 and status not in (408, BUSY):
            return self.let_go()
        if self._end():
            self._place.error = failure.reason
            self._place.heard = self._clock()
            self._place.breaker.failed(self._permit, busy=status == BUSY, retry_after=failure.retry_after)

    def let_go(self) -> None:
        """The try ended for a reason that is not the endpoint's: the client left, the request was bad."""
        if self._end():
            self._place.breaker.let_go(self._permit)

    def _end(self) -> bool:
        first, self._over = not self._over, True
        if first:
            self._place.in_flight -= 1
        return first


@dataclass
class Pool:
    """Of one backend; it has at least one endpoint, or nothing to offer."""

    endpoints: Sequence[Endpoint]
    clock: Clock = time.monotonic
    _places: list[_Place] = field(init=False)
    _turn: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._places = [_Place(one, Breaker(self.clock), self.clock()) for one in self.endpoints]

    def take(self, passed: Collection[str] = ()) -> Lease | None:
        """The next endpoint that may be asked, but for those named in `passed`; none = no other is let in now."""
        count = len(self._places)
        order = sorted(range(count), key=lambda at: (self._places[at].in_flight, (at - self._turn) % count))
        for at in order:
            place = self._places[at]
            if place.endpoint.name in passed:
                continue
            permit = place.breaker.admit()
            if permit is not None:
                self._turn = at + 1
                return Lease(place, permit, self.clock)
        return None

    def insist(self, name: str) -> Lease:
        """This endpoint, whatever its breaker says."""
        place = self._place(name)
        permit = place.breaker.admit(anyway=True)
        assert permit is not None, "a breaker lets everybody in who insists"
        return Lease(place, permit, self.clock)

    def soonest(self, passed: Collection[str] = ()) -> tuple[float, str] | None:
        """Of those that are not in `passed`, the one that is let in again first: in how many seconds, and its name."""
        waits = [(one.breaker.wait, one.endpoint.name) for one in self._places if one.endpoint.name not in passed]
        return min(waits, default=None, key=lambda wait: wait[0])

    def doubtful(self, idle: float) -> list[Endpoint]:
        """Those that a probe should look at: left alone, failing, or not heard of for `idle` seconds."""
        now = self.clock()
        return [
            one.endpoint
            for one in self._places
            if one.breaker.state is not State.CLOSED or one.breaker.failures or now - one.heard >= idle
        ]

    def probed(self, name: str, error: str | None) -> None:
        """What a probe of an endpoint found; none = it is ready."""
        place = self._place(name)
        place.heard = self.clock()
        place.error = error
        place.breaker.probed(error is None)

    def status(self) -> tuple[EndpointStatus, ...]:
        return tuple(
            EndpointStatus(
                one.endpoint, one.breaker.state, one.in_flight, one.breaker.failures, one.breaker.wait, one.error
            )
            for one in self._places
        )

    def _place(self, name: str) -> _Place:
        return next(one for one in self._places if one.endpoint.name == name)
