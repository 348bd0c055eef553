"""Which local day's night is due, and when the next one comes: pure functions of the clock and of what was done.

A night counts for a local day, and a day that is done is never done again: so it does not matter how often anybody
looks, how late, or what the clock did meanwhile. Clock changes: a time that a day leaves out is the first moment
after the gap, a time that it has twice is the first of the two, and a day that a zone left out as a whole has no night.
"""

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from anamnesis.contracts.schedule import Schedule

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


class Night(NamedTuple):
    """A local day and the moment at which its night begins."""

    day: date
    at: datetime
    """In UTC."""


def moment(local: datetime, zone: ZoneInfo) -> datetime:
    """The first moment, in UTC, at which clocks in the zone show this time or a later one of the same change."""
    found = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _shown(found, zone) == local:
        return found
    # The time lies in a gap: what it would be by the offset after the change is before it, and the other way round.
    before, after = local.replace(tzinfo=zone, fold=1).astimezone(UTC), found
    while after - before > _SECOND:
        middle = before + timedelta(seconds=(after - before) // _SECOND // 2)
        if _shown(middle, zone) >= local:
            after = middle
        else:
            before = middle
    return after


def night_of(day: date, schedule: Schedule) -> Night | None:
    """The night of a local day; none where the zone left the whole day out."""
    zone = ZoneInfo(schedule.time_zone)
    if _shown(moment(datetime.combine(day, time.min), zone), zone).date() != day:
        return None
    return Night(day, moment(datetime.combine(day, time.fromisoformat(schedule.at)), zone))


def latest(now: datetime, schedule: Schedule) -> Night:
    """The last night that has come."""
    day = _shown(now, ZoneInfo(schedule.time_zone)).date() + _DAY
    while (night := night_of(day, schedule)) is None or night.at > now:
        day -= _DAY
    return night


def due(now: datetime, schedule: Schedule, done: Collection[str], since: datetime | None) -> Night | None:
    """The night that is to be done now: the last one that has come, unless it is done or came before `since`.

    What lies more than a day ahead of the clock was written by a clock that was wrong, and does not count as `since`.
    Nights before the last one are not made up for: one run reads all that there is.
    """
    night = latest(now, schedule)
    if not schedule.enabled or night.day.isoformat() in done:
        return None
    if since is not None and night.at <= since <= now + _DAY:
        return None
    return night


def following(now: datetime, schedule: Schedule, done: Collection[str]) -> Night:
    """The first night to come that is not done."""
    day = latest(now, schedule).day + _DAY
    while (night := night_of(day, schedule)) is None or night.day.isoformat() in done:
        day += _DAY
    return night


def _shown(instant: datetime, zone: ZoneInfo) -> datetime:
    """What clocks in the zone show."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)
