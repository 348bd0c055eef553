"""Nights: begun when their day is due, by the one instance that holds the lease, and gone on with after a crash.

Every half minute, and when the alarm rings, the book is read and `wish` says what is to be done. The half minutes are
counted by a clock that nobody sets; so a machine that wakes, and one whose clock was set, notices soon.
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Literal, NamedTuple

from anamnesis.contracts.base import now
from anamnesis.contracts.schedule import STEPS, Night, NightStarted, NightStep, Schedule, ScheduleStatus, StepName
from anamnesis.kit.errors import AnamnesisError, Conflict
from anamnesis.kit.logs import logger, where
from services.ingest.lease import Lease
from services.ingest.schedule.alarm import Alarm
from services.ingest.schedule.book import Book, Kept, Page, Record
from services.ingest.schedule.carrying import Steps, carry_out, planned
from services.ingest.schedule.days import due, following, latest

BEAT = 30.0  # seconds between two looks at the clock
CLOSE = 15.0  # seconds for what is under way to end
_JUMP = 5.0  # seconds by which two clocks may differ between two beats
Trigger = Literal["schedule", "request"]
LEFT = "the service ended while it ran"


class Wish(NamedTuple):
    """What is to be done now."""

    night: Night
    over: bool = False
    """It will not be gone on with: only write down that it is over."""


def wish(moment: datetime, page: Page) -> Wish | None:
    """What whoever gets the lease should do at this moment; none = nothing."""
    record = page.record
    if record is None:
        return None
    day = latest(moment, page.schedule).day.isoformat()
    wanted = due(moment, page.schedule, record.days, _since(page)) is not None
    left = record.current
    if left is not None:  # somebody runs it, or did when it ended: the lease tells which
        if left.day == day and not record.worn_out(day):
            return Wish(left.model_copy(update={"steps": planned([step.name for step in left.steps], left.steps)}))
        if not wanted or record.worn_out(day):
            over = {"state": "stopped", "error": LEFT, "finished_at": moment}
            return Wish(left.model_copy(update=over), over=True)
    if not wanted or record.retry_at(day, moment) != moment:
        return None
    before = record.last.steps if record.last is not None and record.last.day == day else ()
    return Wish(_night("schedule", day, planned(STEPS, before), moment))


class Nights:
    """Keeps the schedule, and runs the nights that are this instance's."""

    def __init__(
        self,
        book: Book,
        lease: Lease,
        steps: Steps,
        holder: str,
        clock: Callable[[], datetime] = now,
        beat: float = BEAT,
    ) -> None:
        """`holder` is the one that the lease is taken for."""
        self._book = book
        self._lease = lease
        self._steps = steps
        self._holder = holder
        self._clock = clock
        self._beat = beat
        self._alarm = Alarm(self.look)
        self._one = asyncio.Lock()
        """Held while a night is begun."""
        self._beating: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._night: Night | None = None
        self._page: Page | None = None

    def open(self) -> None:
        self._alarm.open()
        self._beating = asyncio.create_task(self._keep_looking(), name="nights")

    async def close(self) -> None:
        """Stop; a night under way goes on with the next start, here or elsewhere."""
        self._alarm.close()
        tasks = [task for task in (self._beating, self._running) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE)

    @property
    def next_run(self) -> datetime | None:
        """When the next night begins, as far as it is known here."""
        return None if self._page is None else self._next_run(self._page)

    async def status(self) -> ScheduleStatus:
        """Raises what the client raises."""
        page = self._page = await self._book.read()
        record, mine = page.record, self._night
        others = record.current if record is not None and mine is None else None
        return ScheduleStatus(
            schedule=Schedule.model_validate(page.schedule.model_dump(exclude={"since"})),
            version=page.schedule_version,
            next_run=self._next_run(page),
            last_successful_day=record.days[-1] if record is not None and record.days else None,
            current=mine or others,
            last=record.last if record is not None else None,
            held_by=record.holder if record is not None and others is not None else None,
        )

    async def change(self, schedule: Schedule, version: int | None) -> ScheduleStatus:
        """Write the schedule. Raises `Conflict` where somebody wrote meanwhile."""
        page = await self._book.read()
        # Whoever switches nights on does not want last week's at once.
        switched_on = schedule.enabled and not page.schedule.enabled
        since = self._clock() if switched_on else page.schedule.since
        over = page.schedule_version if version is None else version
        await self._book.schedule(Kept(**schedule.model_dump(), since=since), over)
        status = await self.status()
        self._alarm.set(status.schedule)
        return status

    async def begin(self, names: tuple[StepName, ...]) -> NightStarted:
        """Run these steps now. Raises `Conflict` while another instance is about to begin."""
        async with self._one:
            if self._night is not None:
                return NightStarted(night=self._night, started=False)
            if not await self._lease.take():
                record = (await self._book.read()).record
                if record is not None and record.current is not None:
                    return NightStarted(night=record.current, started=False)
                raise Conflict("another instance of the ingest service holds the nights; try again in a minute")
            page = await self._initial(await self._book.read())
            moment = self._clock()
            day = latest(moment, page.schedule).day.isoformat()
            ordered = [name for name in STEPS if name in names]
            night = _night("request", day, planned(ordered), moment)
            await self._start(night, page)
            return NightStarted(night=night, started=True)

    async def look(self) -> None:
        """Begin what is due; called by the alarm and between. Never raises: the next look comes soon."""
        try:
            async with self._one:
                await self._look()
        except AnamnesisError as error:
            logger().warning("nights_wait", reason=error.code)
        except Exception as error:  # noqa: BLE001 -- the edge of a background task: nights must not end with it
            logger().error("nights_failed", error=where(error))

    async def _look(self) -> None:
        if self._night is not None:
            return
        page = self._page = await self._initial(await self._book.read())
        self._alarm.set(page.schedule)
        if wish(self._clock(), page) is None or not await self._lease.take():
            return
        # Whoever held it before may have done it since the book was read.
        page = self._page = await self._book.read()
        wanted = wish(self._clock(), page)
        if wanted is None or page.record is None:
            await self._lease.release()
        elif wanted.over:
            await self._book.record(page.record.end(wanted.night), page.record_version)
            await self._lease.release()
        else:
            await self._start(wanted.night, page)

    async def _initial(self, page: Page) -> Page:
        """The page, with a record; nights count from the first look on."""
        if page.record is not None:
            return page
        record = Record(begun=self._clock())
        return page._replace(record=record, record_version=await self._book.record(record, page.record_version))

    async def _start(self, night: Night, page: Page) -> None:
        """Write down that it begins, and begin; the lease is held."""
        assert page.record is not None
        try:
            record = page.record.begin(night, self._holder)
            version = await self._book.record(record, page.record_version)
        except BaseException:
            await self._lease.release()
            raise
        self._night = night
        self._page = page._replace(record=record, record_version=version)
        self._running = asyncio.create_task(self._carry(night, record, version), name="night")
        logger().info("night_begins", run_id=night.run_id, day=night.day, trigger=night.trigger)

    async def _carry(self, night: Night, record: Record, version: int) -> None:
        """Carry the night out for as long as the lease is ours."""

        async def tell(changed: Night) -> None:
            nonlocal record, version
            self._night = changed
            record = record.model_copy(update={"current": changed})
            try:
                version = await self._book.record(record, version)
            except Conflict:
                raise  # somebody else writes the book: it is no longer ours
            except AnamnesisError as error:
                logger().warning("night_not_written", reason=error.code)  # the next change tells all of it

        since = record.succeeded_at if record.succeeded_at is not None and record.succeeded_at < self._clock() else None
        work = asyncio.create_task(carry_out(night, self._steps, since, tell, self._clock))
        keeping = asyncio.create_task(self._lease.keep())
        try:
            await asyncio.wait({work, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await self._end(record.end(work.result()), version)
            else:
                logger().warning("night_lost", run_id=night.run_id)
        except asyncio.CancelledError:
            for task in (work, keeping):
                await _ended(task)
            await self._lease.release()  # the book says how far it is: whoever takes the lease next goes on
            raise
        except Conflict:
            logger().warning("night_lost", run_id=night.run_id)
        except Exception as error:  # noqa: BLE001 -- the edge of a background task
            logger().error("night_failed", error=where(error))
        finally:
            for task in (work, keeping):
                await _ended(task)
            self._night = None

    async def _end(self, record: Record, version: int) -> None:
        """Write how it ended. Where that fails the lease lapses, and the night goes on where its book says."""
        last = record.last
        assert last is not None
        logger().info("night_ends", run_id=last.run_id, day=last.day, state=last.state)
        try:
            await self._book.record(record, version)
        except AnamnesisError as error:
            logger().warning("night_not_written", run_id=last.run_id, reason=error.code)
        await self._lease.release()

    async def _keep_looking(self) -> None:
        wall, ticks = time.time(), time.monotonic()
        while True:
            await self.look()
            await asyncio.sleep(self._beat)
            passed = time.monotonic() - ticks
            if abs(time.time() - wall - passed) > _JUMP and self._page is not None:
                self._alarm.set(self._page.schedule, anew=True)  # it counts on from where the clock was
            wall, ticks = time.time(), time.monotonic()

    def _next_run(self, page: Page) -> datetime | None:
        if not page.schedule.enabled:
            return None
        moment = self._clock()
        record = page.record
        done = record.days if record is not None else ()
        night = due(moment, page.schedule, done, _since(page)) if record is not None else None
        if record is not None and night is not None and self._night is None and record.current is None:
            retry = record.retry_at(night.day.isoformat(), moment)
            if retry != "never":
                return retry
        return following(moment, page.schedule, done).at


def _night(trigger: Trigger, day: str, steps: tuple[NightStep, ...], moment: datetime) -> Night:
    return Night(run_id=uuid.uuid4().hex, trigger=trigger, day=day, state="running", started_at=moment, steps=steps)


def _since(page: Page) -> datetime | None:
    moments = [one for one in (page.record.begun if page.record else None, page.schedule.since) if one is not None]
    return max(moments, default=None)


async def _ended(task: "asyncio.Task[Night] | asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task], timeout=CLOSE)
