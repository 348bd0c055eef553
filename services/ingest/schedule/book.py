"""What is written down of nights, in two settings of memory: when they are wanted, and how they went.

Both are written over a version, so of two instances that read the same page only one can write the next.
"""

from datetime import datetime, timedelta
from typing import Literal, NamedTuple, TypeVar

from pydantic import ValidationError

from anamnesis.contracts.base import Contract, Moment
from anamnesis.contracts.schedule import STEPS, Day, Night, Schedule
from anamnesis.contracts.state import Setting
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import NotFound
from anamnesis.kit.logs import logger

SCHEDULE, NIGHTS = "schedule", "nights"
"""Settings."""
WITHIN = 15.0  # seconds
KEPT = 60
"""Days that are known to be done: enough for every clock that is set back by less than two months."""
FAILURES = 5
"""Nights of one day that may fail before the next day is waited for."""
STARTS = 20
"""Nights of one day that may begin at all: a night that kills the service must not do so for ever."""
PAUSES = tuple(timedelta(minutes=minutes) for minutes in (5, 15, 45, 120))
"""After the first failure, the second, ..."""

C = TypeVar("C", bound=Contract)


class Kept(Schedule):
    """The schedule, and from when on it counts."""

    since: Moment | None = None
    """When nights were last switched on; those that came before are not made up for."""


class Attempts(Contract):
    """How often the night of one day was begun by the clock."""

    day: Day
    began: Moment
    starts: int = 0
    failures: int = 0
    failed_at: Moment | None = None


class Record(Contract):
    """How the nights went."""

    begun: Moment
    """When this was first looked at; nights that came before are none of ours."""
    days: tuple[Day, ...] = ()
    """Done, in the order in which they were."""
    succeeded_at: Moment | None = None
    """When the last whole night began that ended well: what came since has not been consolidated."""
    current: Night | None = None
    last: Night | None = None
    holder: str = ""
    """Who runs the present one, or ran the last."""
    attempts: Attempts | None = None

    def begin(self, night: Night, holder: str) -> "Record":
        """A night begins, or goes on in other hands."""
        attempts = self.attempts
        goes_on = self.current is not None and self.current.run_id == night.run_id
        if night.trigger == "schedule" or goes_on:
            if attempts is None or attempts.day != night.day:
                attempts = Attempts(day=night.day, began=night.started_at)
            attempts = attempts.model_copy(update={"starts": attempts.starts + 1})
        return self.model_copy(update={"current": night, "holder": holder, "attempts": attempts})

    def end(self, night: Night) -> "Record":
        """It is over. One that did all it had to, and all of it well, makes its day a day that is done."""
        attempts = self.attempts
        if attempts is not None and night.trigger == "schedule" and night.state == "failed":
            failed = {"failures": attempts.failures + 1, "failed_at": night.finished_at}
            attempts = attempts.model_copy(update=failed)
        changed = self.model_copy(update={"current": None, "last": night, "attempts": attempts})
        if night.state != "done" or len(night.steps) < len(STEPS):
            return changed
        began = night.started_at
        if attempts is not None and attempts.day == night.day:
            began = min(began, attempts.began)
        days = (*(day for day in self.days if day != night.day), night.day)[-KEPT:]
        return changed.model_copy(update={"days": days, "succeeded_at": began})

    def worn_out(self, day: str) -> bool:
        """Whether the night of this day has been begun, or has failed, so often that it is left at that."""
        tried = self.attempts
        return tried is not None and tried.day == day and (tried.failures >= FAILURES or tried.starts >= STARTS)

    def retry_at(self, day: str, now: datetime) -> datetime | Literal["never"]:
        """When a night of this day may begin: now, after a pause, or never again because it has failed too often."""
        tried = self.attempts
        if self.worn_out(day):
            return "never"
        if tried is None or tried.day != day or tried.failed_at is None:
            return now
        pause = PAUSES[min(tried.failures, len(PAUSES)) - 1]
        # A failure that lies ahead was written by a clock that was wrong.
        return max(now, tried.failed_at + pause) if tried.failed_at <= now else now


class Page(NamedTuple):
    schedule: Kept
    schedule_version: int
    """0 = never set."""
    record: Record | None
    """None = no instance has ever looked."""
    record_version: int


class Book:
    """Reads and writes both settings."""

    def __init__(self, memory: ServiceClient, within: float = WITHIN) -> None:
        """`within`: seconds for reading or writing one of them."""
        self._memory = memory
        self._within = within

    async def read(self) -> Page:
        """Raises what the client raises."""
        kept, schedule_version = await self._setting(SCHEDULE, Kept)
        record, record_version = await self._setting(NIGHTS, Record)
        return Page(kept or Kept(), schedule_version, record, record_version)

    async def schedule(self, kept: Kept, version: int | None) -> int:
        """Write the schedule; its new version. Raises `Conflict` where the present version is another."""
        return await self._write(SCHEDULE, kept, version)

    async def record(self, record: Record, version: int) -> int:
        """Write how nights went, over a version; the new version. Raises `Conflict`."""
        return await self._write(NIGHTS, record, version)

    async def _setting(self, name: str, shape: type[C]) -> tuple[C | None, int]:
        try:
            setting = await self._memory.get(f"/api/settings/{name}", Setting, deadline=self._within)
        except NotFound:
            return None, 0
        try:
            return shape.model_validate(setting.value), setting.version
        except ValidationError:
            logger().error("setting_unreadable", name=name)  # written by hand, or by another version of this service
            return None, setting.version

    async def _write(self, name: str, value: Contract, version: int | None) -> int:
        path, over = f"/api/settings/{name}", {"version": version}
        return (await self._memory.request("PUT", path, Setting, body=value, query=over, deadline=self._within)).version
