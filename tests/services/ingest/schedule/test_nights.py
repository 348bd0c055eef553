"""Nights over a real memory: once a day whatever happens, by one instance, and gone on with after a crash."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import time_machine

from anamnesis.contracts.schedule import STEPS, Schedule, StepName
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import Conflict, Unavailable
from services.ingest.lease import Lease
from services.ingest.schedule.alarm import Alarm
from services.ingest.schedule.book import Book
from services.ingest.schedule.carrying import Step
from services.ingest.schedule.nights import Nights
from tests.services.ingest.memory_service import MemoryService, remembering

NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
NEXT = datetime(2026, 5, 6, 5, tzinfo=UTC)
"""When the first night begins, for who first looks at noon."""
HOUR = timedelta(hours=1)


@dataclass
class World:
    """A clock that a test sets, and steps that keep who did what."""

    memory: MemoryService
    client: ServiceClient
    now: datetime = NOON
    did: list[str] = field(default_factory=list)
    since: list[datetime | None] = field(default_factory=list)
    fails: set[str] = field(default_factory=set)
    holds: dict[str, asyncio.Event] = field(default_factory=dict)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    machines: list[Nights] = field(default_factory=list)

    def machine(self, name: str = "a", seconds: float = 60.0, lag: timedelta = timedelta(0)) -> Nights:
        """An instance of the service that looks only when it is told to."""

        def step(part: StepName) -> Step:
            async def do(since: datetime | None) -> str:
                self.did.append(f"{name}:{part}")
                self.since.append(since)
                if part in self.holds:
                    self.reached.set()
                    await self.holds[part].wait()
                if part in self.fails:
                    raise Unavailable(f"{part} is away")
                return f"{part} done"

            return do

        steps: Mapping[StepName, Step] = {part: step(part) for part in STEPS}
        lease = Lease(self.client, "night", name, seconds)
        nights = Nights(Book(self.client), lease, steps, name, clock=lambda: self.now + lag)
        self.machines.append(nights)
        return nights

    async def over(self, nights: Nights) -> None:
        """A look, and the end of what it began."""
        await nights.look()
        await idle(nights)

    def parts(self) -> list[str]:
        return [one.partition(":")[2] for one in self.did]


async def idle(nights: Nights) -> None:
    async with asyncio.timeout(30):
        while nights._night is not None:  # noqa: ASYNC110 -- seen from outside
            await asyncio.sleep(0.01)


async def until(happens: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not happens():  # noqa: ASYNC110 -- seen from outside
            await asyncio.sleep(0.01)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with remembering(tmp_path) as memory, memory.client() as client:
        one = World(memory, client)
        yield one
        for machine in one.machines:
            await machine.close()


async def test_a_night_comes_once_a_day(world: World) -> None:
    """Not before its time, once after it, and again on the next day; the steps in order, and told of."""
    a = world.machine()
    await world.over(a)
    world.now = NEXT - HOUR
    await world.over(a)
    assert world.did == []
    assert (await a.status()).next_run == NEXT
    world.now = NEXT + timedelta(seconds=7)
    for _ in range(3):
        await world.over(a)
    assert world.parts() == list(STEPS)
    status = await a.status()
    assert status.last is not None
    assert (status.last.state, status.last.day, status.last.trigger) == ("done", "2026-05-06", "schedule")
    assert [step.told for step in status.last.steps] == [f"{name} done" for name in STEPS]
    assert (status.last_successful_day, status.next_run) == ("2026-05-06", NEXT + 24 * HOUR)
    world.now += 24 * HOUR
    await world.over(a)
    assert world.parts() == [*STEPS, *STEPS]
    assert world.since == [None] * 4 + [NEXT + timedelta(seconds=7)] * 4


async def test_a_machine_that_slept_has_one_night(world: World) -> None:
    """Four days of sleep are made up for by one night, when it wakes or when it starts."""
    a = world.machine()
    await world.over(a)
    world.now = NEXT + 4 * 24 * HOUR + 6 * HOUR
    await world.over(a)
    await world.over(a)
    assert world.parts() == list(STEPS)
    world.now += 3 * 24 * HOUR
    b = world.machine("b")  # a new process
    await world.over(b)
    await world.over(a)
    assert world.did[4:] == [f"b:{name}" for name in STEPS]


async def test_two_instances_share_one_night(world: World) -> None:
    """While one runs it the other waits, sees it, and does not run it afterwards, though its clock differs."""
    a, b = world.machine("a"), world.machine("b", lag=timedelta(seconds=3))
    await a.look()
    world.now = NEXT + timedelta(seconds=1)
    world.holds["crawl"] = asyncio.Event()
    await asyncio.gather(a.look(), b.look())
    await world.reached.wait()
    await asyncio.gather(a.look(), b.look())
    runs = world.did[0][0]
    mine, other = (a, b) if runs == "a" else (b, a)
    seen = await other.status()
    assert seen.held_by == runs
    assert seen.current is not None
    assert [step.state for step in seen.current.steps] == ["done", "running", "waiting", "waiting"]
    assert (await other.begin(STEPS)).started is False
    world.holds["crawl"].set()
    await idle(mine)
    await world.over(other)
    await world.over(mine)
    assert world.did == [f"{runs}:{name}" for name in STEPS]
    assert (await other.status()).held_by is None


async def test_a_crash_is_gone_on_with(world: World) -> None:
    """When its lease has lapsed another goes on where the book says; what was done is not done again."""
    a, b = world.machine("a"), world.machine("b")
    await a.look()
    world.now = NEXT
    world.holds["summaries"] = asyncio.Event()
    await a.look()
    await world.reached.wait()
    assert a._running is not None
    # As kill -9 leaves it: no word in the book, and a lease that nobody renews.
    before = await world.memory.store.read("settings", "nights")
    a._lease.release = nothing  # type: ignore[method-assign]
    await a.close()
    assert await world.memory.store.read("settings", "nights") == before
    await world.over(b)
    assert "b:summaries" not in world.did
    await world.memory.lapse("night")
    world.holds.clear()
    world.now += timedelta(minutes=2)
    await world.over(b)
    assert world.did == ["a:transcripts", "a:crawl", "a:summaries", "b:summaries", "b:consolidation"]
    status = await b.status()
    assert status.last is not None
    assert (status.last.state, status.last_successful_day) == ("done", "2026-05-06")
    assert status.last.started_at == NEXT


async def nothing() -> None: ...


async def test_a_stopped_service_gives_the_night_away(world: World) -> None:
    """A service that is stopped in good order leaves the lease, and the next start goes on at once."""
    a, b = world.machine("a"), world.machine("b")
    await a.look()
    world.now = NEXT
    world.holds["crawl"] = asyncio.Event()
    await a.look()
    await world.reached.wait()
    await a.close()
    world.holds.clear()
    await world.over(b)
    assert world.did == ["a:transcripts", "a:crawl", "b:crawl", "b:summaries", "b:consolidation"]


async def test_a_lost_lease_ends_the_night(world: World) -> None:
    """A machine that slept in mid-night, and whose night another has done since, stops and writes nothing over it."""
    a, b = world.machine("a", seconds=1.0), world.machine("b")
    await a.look()
    world.now = NEXT
    world.holds["summaries"] = asyncio.Event()
    await a.look()
    await world.reached.wait()
    del world.holds["summaries"]
    world.holds["consolidation"] = asyncio.Event()
    await taken_over(world, Lease(world.client, "night", "b"))
    await b.look()
    await until(lambda: "b:consolidation" in world.did)
    await idle(a)  # stopped in the middle of a step that would never have ended
    world.holds["consolidation"].set()
    await idle(b)
    status = await a.status()
    assert status.last is not None
    assert status.last.state == "done"
    assert world.did[3:] == ["b:summaries", "b:consolidation"]
    await world.over(a)
    assert len(world.did) == 5


async def taken_over(world: World, lease: Lease) -> None:
    """The lease lapses, and this one is faster than a renewal."""
    async with asyncio.timeout(30):
        while not await lease.take():
            await world.memory.lapse("night")


async def test_a_book_that_another_wrote_ends_the_night(world: World) -> None:
    """Also where the lease could be had again meanwhile: what is not ours any more is not written over."""
    a, b = world.machine("a"), world.machine("b")
    await a.look()
    world.now = NEXT
    world.holds["summaries"] = held = asyncio.Event()
    await a.look()
    await world.reached.wait()
    del world.holds["summaries"]
    await taken_over(world, Lease(world.client, "night", "b"))
    await world.over(b)
    held.set()
    await idle(a)
    assert world.did[3:] == ["b:summaries", "b:consolidation"]
    status = await a.status()
    assert status.last is not None
    assert (status.last.state, status.current) == ("done", None)


async def test_a_step_that_fails_keeps_no_other_from_running(world: World) -> None:
    """The night is failed, says why, and is tried again after a while: only what failed."""
    a = world.machine()
    await a.look()
    world.now = NEXT
    world.fails = {"crawl"}
    await world.over(a)
    await world.over(a)
    assert world.parts() == list(STEPS)
    status = await a.status()
    assert status.last is not None
    assert (status.last.state, status.last.error) == ("failed", "crawl: crawl is away")
    assert [step.state for step in status.last.steps] == ["done", "failed", "done", "done"]
    assert (status.last_successful_day, status.next_run) == (None, NEXT + timedelta(minutes=5))
    world.now += timedelta(minutes=6)
    world.fails = set()
    await world.over(a)
    assert world.parts() == [*STEPS, "crawl"]
    assert (await a.status()).last_successful_day == "2026-05-06"


async def test_a_night_that_always_fails_is_left_at_that(world: World) -> None:
    """Five times a day, and the next day again."""
    a = world.machine()
    await a.look()
    world.now = NEXT
    world.fails = {"consolidation"}
    for _ in range(24 * 6 - 1):
        await world.over(a)
        world.now += timedelta(minutes=10)
    assert world.parts().count("consolidation") == 5
    world.now = NEXT + 24 * HOUR
    world.fails = set()
    await world.over(a)
    assert world.parts()[-4:] == list(STEPS)


async def test_a_clock_that_is_set_neither_skips_nor_doubles(world: World) -> None:
    """Back over the night's time, a year ahead and back again: no day twice, and none without."""
    a = world.machine()
    await a.look()
    days = []
    for moment in (NEXT, NEXT - HOUR, NEXT, NEXT + 365 * 24 * HOUR, NEXT + HOUR, NEXT + 24 * HOUR, NEXT + 23 * HOUR):
        world.now = moment
        before = len(world.did)
        await world.over(a)
        days.append(len(world.did) - before)
    assert days == [4, 0, 0, 4, 0, 4, 0]


async def test_nights_on_request(world: World) -> None:
    """Some steps alone are no night of their day; all of them, done well, are."""
    a = world.machine()
    await a.look()
    started = await a.begin(("summaries", "transcripts"))
    assert started.started
    await idle(a)
    assert world.parts() == ["transcripts", "summaries"]
    assert (await a.status()).last_successful_day is None
    world.now = NEXT + HOUR
    await a.begin(STEPS)
    await idle(a)
    await world.over(a)
    assert world.parts()[2:] == list(STEPS)
    assert (await a.status()).last_successful_day == "2026-05-06"


async def test_nights_are_switched_off_and_on(world: World) -> None:
    """What was missed while they were off is not made up for; whoever writes over another's version is told."""
    a = world.machine()
    await a.look()
    off = await a.change(Schedule(enabled=False), 0)
    assert (off.version, off.next_run) == (1, None)
    world.now = NEXT + HOUR
    await world.over(a)
    with pytest.raises(Conflict):
        await a.change(Schedule(at="06:30", time_zone="Europe/Berlin"), 0)
    on = await a.change(Schedule(at="06:30", time_zone="Europe/Berlin"), 1)
    await world.over(a)
    assert world.did == []
    assert on.next_run == datetime(2026, 5, 7, 4, 30, tzinfo=UTC)
    world.now = datetime(2026, 5, 7, 4, 31, tzinfo=UTC)
    await world.over(a)
    assert world.parts() == list(STEPS)


async def test_a_memory_that_is_away_is_waited_for(world: World) -> None:
    """A look at a memory that is away does nothing and breaks nothing."""
    async with ServiceClient("http://127.0.0.1:9", None) as nobody:
        nights = Nights(Book(nobody, within=0.5), Lease(nobody, "night", "x"), {}, "x")
        await nights.look()
        assert nights.next_run is None


async def test_what_others_left_on_the_page_does_no_harm(world: World) -> None:
    """A setting that nobody understands counts as none."""
    for name in ("schedule", "nights"):
        await world.memory.store.write("settings", name, {"at": "late"}, expect=None)
    a = world.machine()
    await world.over(a)
    assert (await a.status()).schedule == Schedule()


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
async def test_the_alarm_rings_at_the_local_time(zone: str) -> None:
    """APScheduler wakes us at the time of the zone; when the clock was set back meanwhile, it is set anew."""
    rung = asyncio.Event()

    async def ring() -> None:
        rung.set()

    schedule = Schedule(at="05:00", time_zone=zone)
    with time_machine.travel(local(zone, 4, 59, 59) + timedelta(days=300), tick=True):
        alarm = Alarm(ring)
        alarm.open()
        alarm.set(schedule)
        async with asyncio.timeout(20):
            await rung.wait()
    rung.clear()
    with time_machine.travel(local(zone, 4, 59, 59), tick=True):
        alarm.set(schedule)  # by itself it waits for the day after the one that it rang on
        await asyncio.sleep(1.5)
        assert not rung.is_set()
    with time_machine.travel(local(zone, 4, 59, 59), tick=True):
        alarm.set(schedule, anew=True)
        async with asyncio.timeout(20):
            await rung.wait()
    alarm.set(schedule.model_copy(update={"enabled": False}))
    alarm.close()


def local(zone: str, hour: int, minute: int, second: int) -> datetime:
    return datetime(2026, 1, 15, hour, minute, second, tzinfo=ZoneInfo(zone))


async def test_a_service_keeps_looking(world: World) -> None:
    """Opened, it begins what is due by itself, and closes in good order."""
    nights = world.machine()
    await nights.look()
    world.now = NEXT
    nights.open()
    await until(lambda: len(world.did) == 4)
