"""The night: when everything is read, summarised and consolidated, and how it went."""

from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, StringConstraints

from anamnesis.contracts.base import Contract, Moment


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name[:60]!r}; one is written as Europe/Berlin or UTC") from None
    return name


TimeZone = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True), AfterValidator(_zone)]
Day = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]
StepName = Literal["transcripts", "crawl", "summaries", "consolidation"]
STEPS: tuple[StepName, ...] = ("transcripts", "crawl", "summaries", "consolidation")


class Schedule(Contract):
    """One run a day. What a machine slept through is caught up once when it wakes."""

    enabled: bool = True
    at: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "05:00"
    """Local time, HH:MM. Where a clock change leaves it out it is the first moment after the gap; where a change
    repeats it, the first of the two."""
    time_zone: TimeZone = "UTC"


class NightStep(Contract):
    name: StepName
    state: Literal["waiting", "running", "done", "failed", "skipped"]
    seconds: float | None = None
    told: str = ""
    """In a few words, what came of it, or why not."""


class Night(Contract):
    """One run of the schedule."""

    run_id: str
    trigger: Literal["schedule", "request"]
    day: Day
    """The local day that it counts for."""
    state: Literal["running", "done", "failed", "stopped"]
    started_at: Moment
    finished_at: Moment | None = None
    steps: tuple[NightStep, ...]
    error: str | None = None


class ScheduleStatus(Contract):
    schedule: Schedule
    version: int
    """Of the setting; 0 = never set."""
    next_run: Moment | None = None
    """None while it is disabled."""
    last_successful_day: Day | None = None
    current: Night | None = None
    last: Night | None = None
    held_by: str | None = None
    """Another instance of this service that has the lease and runs the nights."""


class NightStarted(Contract):
    night: Night
    started: bool
    """False when one was under way already; that one is given."""


class ScheduleRequest(Contract):
    steps: tuple[StepName, ...] = Field(default=STEPS, min_length=1, max_length=4)
