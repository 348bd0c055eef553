"""The alarm clock of the night: APScheduler wakes us at the local time, and only wakes us.

What it cannot know (that another instance has done it, that the machine slept, that a clock was set) is asked anew
whenever it rings, and every half minute beside it.
"""

from collections.abc import Awaitable, Callable

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

from anamnesis.contracts.schedule import Schedule

_JOB = "night"


class Alarm:
    def __init__(self, ring: Callable[[], Awaitable[None]]) -> None:
        self._ring = ring
        self._scheduler = AsyncIOScheduler(timezone="UTC")
        self._set: tuple[bool, str, str] | None = None

    def open(self) -> None:
        self._scheduler.start()

    def close(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def set(self, schedule: Schedule, *, anew: bool = False) -> None:
        """Ring at this time of every day. With `anew` also where nothing has changed: a clock has been set since."""
        wanted = (schedule.enabled, schedule.at, schedule.time_zone)
        if wanted == self._set and not anew:
            return
        self._set = wanted
        if not schedule.enabled:
            if self._scheduler.get_job(_JOB) is not None:
                self._scheduler.remove_job(_JOB)
            return
        hour, minute = schedule.at.split(":")
        self._scheduler.add_job(
            self._ring,
            CronTrigger(hour=int(hour), minute=int(minute), timezone=schedule.time_zone),
            id=_JOB,
            replace_existing=True,
            misfire_grace_time=None,
            coalesce=True,
            max_instances=1,
        )
