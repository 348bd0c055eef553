"""Which endpoint of a backend is asked, and what is kept of each try."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.backends.base import BackendFailure, Endpoint
from services.gateway.failover.breaker import PAUSE, State
from services.gateway.failover.pool import Lease, Pool
from services.gateway.failover.probes import Probes

from .test_breaker import Hands

A, B, C = (Endpoint(name, f"http://{name}") for name in "abc")
BROKEN = BackendFailure("broke off")


def taken(pool: Pool, passed: tuple[str, ...] = ()) -> Lease:
    lease = pool.take(passed)
    assert lease is not None
    return lease


def shut(pool: Pool, name: str) -> None:
    """Open the breaker of one endpoint."""
    for _ in range(5):
        pool.insist(name).failed(BROKEN)


def in_flight(pool: Pool) -> dict[str, int]:
    return {one.endpoint.name: one.in_flight for one in pool.status()}


def test_the_least_busy_is_next_and_ties_take_turns() -> None:
    """Idle endpoints are asked in turn; one with fewer answers under way comes before its turn."""
    pool = Pool((A, B, C))
    names = []
    for _ in range(4):
        lease = taken(pool)
        names.append(lease.endpoint.name)
        lease.succeeded()
    assert names == ["a", "b", "c", "a"]
    held = [taken(pool) for _ in range(3)]
    assert sorted(one.endpoint.name for one in held) == ["a", "b", "c"]
    held[1].succeeded()
    assert taken(pool).endpoint == held[1].endpoint


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_load_is_level_and_never_lost(steps: list[tuple[bool, int]]) -> None:
    """Whatever begins and ends, what is counted is what is under way, and no endpoint that is taken has more than
    another."""
    pool = Pool((A, B, C))
    held: list[Lease] = []
    for begin, which in steps:
        if begin:
            fewest = min(in_flight(pool).values())
            lease = taken(pool)
            held.append(lease)
            assert in_flight(pool)[lease.endpoint.name] == fewest + 1
        elif held:
            lease = held.pop(which % len(held))
            (lease.succeeded, lease.let_go)[which % 2]()
            lease.let_go()
            lease.failed(BROKEN)
        assert sum(in_flight(pool).values()) == len(held)


def test_an_open_breaker_is_passed_over_until_its_pause_is_over() -> None:
    """An endpoint that failed is left alone, gets one trial after the pause, and everything after two successes."""
    clock = Hands()
    pool = Pool((A, B), clock)
    shut(pool, "a")
    assert [taken(pool).endpoint.name for _ in range(4)] == ["b"] * 4
    assert pool.take(("b",)) is None
    clock.now += PAUSE
    trial = taken(pool)
    assert trial.endpoint == A
    assert taken(pool).endpoint == B
    trial.succeeded()
    taken(pool).succeeded()
    assert pool.status()[0].state is State.CLOSED


def test_of_those_left_alone_the_soonest_is_known() -> None:
    """When all are left alone, the one that is let in again first can still be asked."""
    clock = Hands()
    pool = Pool((A, B), clock)
    shut(pool, "b")
    clock.now += 3
    shut(pool, "a")
    assert pool.take() is None
    assert pool.soonest() == (PAUSE - 3, "b")
    assert pool.soonest(("b",)) == (PAUSE, "a")
    assert pool.soonest(("a", "b")) is None
    assert pool.insist("b").endpoint == B


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 422])
def test_a_bad_request_says_nothing_against_an_endpoint(status: int) -> None:
    """Any number of bad requests leave an endpoint as trusted as it was."""
    pool = Pool((A,))
    for _ in range(10):
        taken(pool).failed(BackendFailure("no", status=status, moves_on=False))
    assert pool.status()[0][1:] == (State.CLOSED, 0, 0, 0.0, None)


def test_busy_leaves_it_alone_at_once() -> None:
    """One 429 is enough, for as long as it asks."""
    clock = Hands()
    pool = Pool((A, B), clock)
    taken(pool).failed(BackendFailure("busy", status=429, retry_after=7))
    status = pool.status()[0]
    assert (status.state, status.wait, status.error) == (State.OPEN, 7.0, "busy")


async def test_probes_look_at_what_is_doubtful() -> None:
    """Endpoints left alone, failing, or silent for a minute are asked; others are not; a hanging one is given up."""
    clock = Hands()
    pool = Pool((A, B, C), clock)
    shut(pool, "a")
    pool.insist("b").failed(BROKEN)
    asked: list[str] = []

    async def probe(endpoint: Endpoint) -> None:
        asked.append(endpoint.name)
        if endpoint == B:
            await asyncio.Event().wait()
        if endpoint == C:
            raise BackendFailure("answered 503", status=503)

    probes = Probes(pool, probe, chance=random.Random(7), within=0.05)
    await probes.round()
    assert sorted(asked) == ["a", "b"]
    a, b, c = pool.status()
    assert (a.state, a.error) == (State.HALF_OPEN, None)
    assert (b.state, b.failures, b.error) == (State.CLOSED, 2, "did not say within 0.05 s whether it is ready")
    assert (c.failures, c.error) == (0, None)
    clock.now += 60
    await probes.round()
    assert pool.status()[2].error == "answered 503"


async def test_probes_go_on_round_after_round() -> None:
    """The loop asks again and again, at jittered times, until it is cancelled."""
    pool = Pool((A,))
    shut(pool, "a")
    rounds = asyncio.Semaphore(0)

    async def probe(endpoint: Endpoint) -> None:
        rounds.release()
        raise BackendFailure("not yet")

    running = asyncio.create_task(Probes(pool, probe, chance=random.Random(7), every=0.01).run())
    for _ in range(3):
        await asyncio.wait_for(rounds.acquire(), 15)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert pool.status()[0].error == "not yet"
