"""A circuit breaker: leaves an endpoint alone after it has failed, and lets it back in step by step.

    closed ── 5 failures in a row, or one "busy" ──> open ── pause over ──> half-open ── 2 successes ──> closed
                                                      ^                         │
                                                      └──── a failed trial ─────┘  (the pause doubles)

Pure: it knows no network and no loop, and takes its clock from outside. Every try is let in by `admit` and ends by
exactly one of `succeeded`, `failed` and `let_go`; what a try says that began before the breaker last changed its state
is no longer news and changes nothing.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

FAILURES = 5  # in a row
SUCCESSES = 2  # one may be luck: a process that dies of its second request, a kept answer
PAUSE = 30.0  # seconds
LONGEST = 300.0  # seconds; also the most that an endpoint may ask for
BUSY = 5.0  # seconds after a "busy" that does not say how long

Clock = Callable[[], float]


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Permit(NamedTuple):
    """One try that was let in."""

    turn: int
    """How often the state had changed when it was."""
    trial: bool


class Breaker:
    """Of one endpoint. Not for several threads: a loop has one."""

    def __init__(
        self,
        clock: Clock,
        *,
        failures: int = FAILURES,
        successes: int = SUCCESSES,
        pause: float = PAUSE,
        longest: float = LONGEST,
    ) -> None:
        self._clock = clock
        self._limit = failures
        self._needed = successes
        self._pause = pause
        self._longest = longest
        self._state = State.CLOSED
        self._turn = 0
        self._failures = 0
        self._successes = 0
        self._on_trial = False
        self._until = 0.0
        self._grown = 0
        self._asked_to_wait = False
        self._by_probe = False
        """A probe ended the pause; nothing is known of real work yet."""
        self._probes_lie = False

    @property
    def state(self) -> State:
        """An open breaker whose pause is over is half-open."""
        if self._state is State.OPEN and self._clock() >= self._until:
            return State.HALF_OPEN
        return self._state

    @property
    def failures(self) -> int:
        """In a row, while closed."""
        return self._failures

    @property
    def wait(self) -> float:
        """Seconds until a try is let in; 0 = now, unless a trial is under way."""
        return max(0.0, self._until - self._clock()) if self._state is State.OPEN else 0.0

    def admit(self, *, anyway: bool = False) -> Permit | None:
        """Let a try in, or not. `anyway`: there is nobody else, so it is let in whatever the state."""
        if self._state is State.OPEN and self._clock() >= self._until:
            self._become(State.HALF_OPEN)
        trial = self._state is State.HALF_OPEN and not self._on_trial
        if not trial and not anyway and self._state is not State.CLOSED:
            return None
        self._on_trial = self._on_trial or trial
        return Permit(self._turn, trial)

    def succeeded(self, permit: Permit) -> None:
        if not self._news(permit):
            return
        self._failures = 0
        if self._state is State.CLOSED:
            return
        if self._state is State.OPEN:  # somebody insisted, and was right
            self._become(State.HALF_OPEN)
        self._successes += 1
        if self._successes >= self._needed:
            self._become(State.CLOSED)
            self._grown = 0
            self._probes_lie = False

    def failed(self, permit: Permit, *, busy: bool = False, retry_after: float | None = None) -> None:
        """`busy`: it answered that it takes nothing now, and perhaps for how many seconds."""
        if not self._news(permit) or self._state is State.OPEN:
            return  # whoever insists on an open one does not make it stay open longer
        self._failures += 1
        self._probes_lie = self._probes_lie or (self._by_probe and not busy)
        if busy:
            self._open(min(max(BUSY if retry_after is None else retry_after, 0.0), self._longest), asked=True)
        elif self._state is State.HALF_OPEN or self._failures >= self._limit:
            self._open(min(self._pause * 2**self._grown, self._longest))
            self._grown = min(self._grown + 1, 32)

    def let_go(self, permit: Permit) -> None:
        """The try ended without telling anything of the endpoint."""
        self._news(permit)

    def probed(self, well: bool) -> None:
        """What a probe found. It does not stand for a try: an endpoint may be ready and still fail at its work.

        A good one ends the pause; if the trial after it fails all the same, probes are believed no more until the
        breaker has closed. An endpoint that asked to be left alone is left alone.
        """
        state = self.state
        if well and state is State.OPEN and not self._probes_lie and not self._asked_to_wait:
            self._become(State.HALF_OPEN)
            self._by_probe = True
        elif not well and (state is State.CLOSED or (state is State.HALF_OPEN and not self._on_trial)):
            self._by_probe = False
            permit = self.admit()
            assert permit is not None
            self.failed(permit)

    def _news(self, permit: Permit) -> bool:
        """Whether the try began in the present state; a trial is over in any case."""
        if permit.turn != self._turn:
            return False
        if permit.trial:
            self._on_trial = False
        return True

    def _open(self, seconds: float, *, asked: bool = False) -> None:
        self._become(State.OPEN)
        self._until = self._clock() + seconds
        self._asked_to_wait = asked

    def _become(self, state: State) -> None:
        self._state = state
        self._turn += 1
        self._failures = self._successes = 0
        self._on_trial = False
        self._by_probe = False
