"""The breaker, beside a reference that remembers everything and works its state out from the beginning each time."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.gateway.failover.breaker import BUSY, LONGEST, PAUSE, Breaker, Permit, State


@dataclass
class Hands:
    """A clock that is set by hand."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Event(NamedTuple):
    at: float
    what: str
    """`try`, `good`, `bad`, `busy`, `gone`, `probe good`, `probe bad`."""
    number: int = 0
    anyway: bool = False
    retry_after: float | None = None


@dataclass(frozen=True)
class Told:
    """What follows from a history."""

    state: str = "closed"
    opens: float = 0.0
    bad: int = 0
    good: int = 0
    trial: int | None = None
    live: tuple[int, ...] = ()
    """Tries that began in this state and have not ended."""
    pauses: int = 0
    asked: bool = False
    by_probe: bool = False
    lies: bool = False


def told(history: list[Event], now: float) -> Told:
    """The reference: the rules of the breaker, one after another, over all that has happened."""
    t = Told()
    for event in [*history, Event(now, "look")]:
        fresh = Told(pauses=t.pauses, lies=t.lies)
        half = replace(fresh, state="half-open")
        if t.state == "open" and event.at >= t.opens and event.what in ("try", "look", "probe bad"):
            t = half
        counts = event.what in ("good", "bad", "busy", "gone") and event.number in t.live
        if counts:
            t = replace(t, live=tuple(n for n in t.live if n != event.number))
            t = replace(t, trial=None) if t.trial == event.number else t
        match event.what, t.state:
            case "try", "closed":
                t = replace(t, live=(*t.live, event.number))
            case "try", "half-open" if t.trial is None:
                t = replace(t, trial=event.number, live=(*t.live, event.number))
            case "try", _ if event.anyway:
                t = replace(t, live=(*t.live, event.number))
            case "good", "closed" if counts:
                t = replace(t, bad=0)
            case "good", "half-open" if counts:
                t = replace(t, good=t.good + 1) if t.good == 0 else Told()
            case "good", "open" if counts:
                t = replace(half, good=1)
            case "probe good", "open" if event.at < t.opens and not t.asked and not t.lies:
                t = replace(half, by_probe=True)
        ill = (event.what == "bad" and counts) or (event.what == "probe bad" and t.trial is None)
        if ill and t.state != "open":
            lies = t.lies or (t.by_probe and event.what == "bad")
            t = replace(t, bad=t.bad + 1, lies=lies)
            if t.state == "half-open" or t.bad == 5:
                pause = min(30.0 * 2**t.pauses, 300.0)
                t = Told(state="open", opens=event.at + pause, pauses=t.pauses + 1, lies=lies)
        if event.what == "busy" and counts and t.state != "open":
            pause = 5.0 if event.retry_after is None else min(event.retry_after, 300.0)
            t = Told(state="open", opens=event.at + pause, pauses=t.pauses, asked=True, lies=t.lies)
    return t


class BreakerMachine(RuleBasedStateMachine):
    """Any interleaving of tries, their ends, probes and waiting, with both side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Hands()
        self.breaker = Breaker(self.clock)
        self.history: list[Event] = []
        self.open_tries: dict[int, Permit] = {}
        self.number = 0

    @rule(anyway=st.booleans())
    def begin(self, anyway: bool) -> None:
        before = told(self.history, self.clock.now)
        permit = self.breaker.admit(anyway=anyway)
        free = before.state == "closed" or (before.state == "half-open" and before.trial is None)
        assert (permit is not None) == (free or anyway)
        self.number += 1
        self.history.append(Event(self.clock.now, "try", self.number, anyway))
        if permit is not None:
            self.open_tries[self.number] = permit

    @rule(data=st.data(), how=st.sampled_from(["good", "bad", "bad", "busy", "gone"]))
    def end(self, data: st.DataObject, how: str) -> None:
        if not self.open_tries:
            return
        number = data.draw(st.sampled_from(sorted(self.open_tries)))
        permit = self.open_tries.pop(number)
        retry_after = data.draw(st.none() | st.floats(0, 10_000)) if how == "busy" else None
        self.history.append(Event(self.clock.now, how, number, retry_after=retry_after))
        match how:
            case "good":
                self.breaker.succeeded(permit)
            case "gone":
                self.breaker.let_go(permit)
            case _:
                self.breaker.failed(permit, busy=how == "busy", retry_after=retry_after)

    @rule(count=st.integers(1, 6))
    def fail_in_a_row(self, count: int) -> None:
        for _ in range(count):
            self.begin(False)
            permit = self.open_tries.pop(self.number, None)
            if permit is not None:
                self.history.append(Event(self.clock.now, "bad", self.number))
                self.breaker.failed(permit)

    @rule(well=st.booleans())
    def probe(self, well: bool) -> None:
        self.history.append(Event(self.clock.now, "probe good" if well else "probe bad"))
        self.breaker.probed(well)

    @rule(seconds=st.sampled_from([0.5, 4.0, 29.0, 30.0, 61.0, 301.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def wait_it_out(self) -> None:
        self.clock.now += self.breaker.wait

    @invariant()
    def both_agree(self) -> None:
        expected = told(self.history, self.clock.now)
        assert self.breaker.state == expected.state
        assert self.breaker.wait == (max(0.0, expected.opens - self.clock.now) if expected.state == "open" else 0.0)
        assert 0.0 <= self.breaker.wait <= LONGEST


TestBreaker = BreakerMachine.TestCase
TestBreaker.__doc__ = "The breaker does what the reference says, whatever happens in whatever order."


def tried(breaker: Breaker) -> Permit:
    permit = breaker.admit()
    assert permit is not None
    return permit


def opened(clock: Hands) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(5):
        breaker.failed(tried(breaker))
    return breaker


def test_five_failures_in_a_row_open_it() -> None:
    """Four failures and a success leave it closed; five in a row open it, and nobody is let in for the pause."""
    clock = Hands()
    breaker = Breaker(clock)
    for _ in range(4):
        breaker.failed(tried(breaker))
    breaker.succeeded(tried(breaker))
    for _ in range(5):
        assert breaker.state is State.CLOSED
        breaker.failed(tried(breaker))
    assert (breaker.state, breaker.wait) == (State.OPEN, PAUSE)
    clock.now += PAUSE - 0.001
    assert breaker.admit() is None


def test_half_open_lets_one_trial_through() -> None:
    """After the pause one try is let in and no second beside it; two successes close it."""
    clock = Hands()
    breaker = opened(clock)
    clock.now += PAUSE
    first = tried(breaker)
    assert breaker.admit() is None
    breaker.succeeded(first)
    assert breaker.state is State.HALF_OPEN
    breaker.succeeded(tried(breaker))
    assert [breaker.state] == [State.CLOSED]


def test_a_trial_that_nobody_waits_for_frees_its_place() -> None:
    """A client that leaves during the trial says nothing of the endpoint: the next one is the trial."""
    clock = Hands()
    breaker = opened(clock)
    clock.now += PAUSE
    breaker.let_go(tried(breaker))
    assert breaker.state is State.HALF_OPEN
    assert tried(breaker).trial


def test_the_pause_doubles_up_to_its_bound() -> None:
    """Each failed trial doubles the pause, five minutes at most; once closed it begins anew."""
    clock = Hands()
    breaker = opened(clock)
    pauses = []
    for _ in range(6):
        pauses.append(breaker.wait)
        clock.now += breaker.wait
        breaker.failed(tried(breaker))
    assert pauses == [30, 60, 120, 240, 300, 300]
    clock.now += LONGEST
    for _ in range(2):
        breaker.succeeded(tried(breaker))
    for _ in range(5):
        breaker.failed(tried(breaker))
    assert breaker.wait == PAUSE


@pytest.mark.parametrize(("retry_after", "pause"), [(7.0, 7.0), (None, BUSY), (86_400.0, LONGEST)])
def test_busy_opens_it_at_once(retry_after: float | None, pause: float) -> None:
    """One 429 is enough, for as long as it asks, within bounds; no probe ends that."""
    breaker = Breaker(Hands())
    breaker.failed(tried(breaker), busy=True, retry_after=retry_after)
    breaker.probed(well=True)
    assert (breaker.state, breaker.wait) == (State.OPEN, pause)


def test_old_news_changes_nothing() -> None:
    """What a try says that began before the breaker opened neither lengthens the pause nor ends it."""
    clock = Hands()
    breaker = Breaker(clock)
    old = [tried(breaker) for _ in range(7)]
    for permit in old[:5]:
        breaker.failed(permit)
    clock.now += 10
    breaker.failed(old[5])
    breaker.succeeded(old[6])
    assert (breaker.state, breaker.wait) == (State.OPEN, PAUSE - 10)


def test_a_good_probe_ends_the_pause_and_is_believed_once() -> None:
    """A ready endpoint gets its trial at once; where the trial fails, the next good probe waits for the pause."""
    clock = Hands()
    breaker = opened(clock)
    breaker.probed(well=True)
    assert breaker.state is State.HALF_OPEN
    breaker.failed(tried(breaker))
    breaker.probed(well=True)
    assert (breaker.state, breaker.wait) == (State.OPEN, 2 * PAUSE)


def test_bad_probes_open_it_too() -> None:
    """Five bad probes in a row open it, and a good one after them lets a trial in: a restart costs no request."""
    breaker = Breaker(Hands())
    for _ in range(5):
        breaker.probed(well=False)
    assert breaker.state is State.OPEN
    breaker.probed(well=True)
    assert tried(breaker).trial
