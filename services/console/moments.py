"""Moments as people write them: dates, times, `7d`, `yesterday`."""

import re
from datetime import UTC, datetime, timedelta

_AGO = re.compile(r"(\d{1,6})\s*(m|min|h|d|w|y)")
_UNITS = {
    "m": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}
_MONTH = re.compile(r"\d{4}-\d{2}")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
EXPECTED = (
    "a date (2026-11-03), a month (2026-11), a time (2026-11-03T14:30), "
    "90m, 12h, 7d, 3w, 1y, today, yesterday or a weekday"
)


def parse(text: str, now: datetime) -> datetime:
    """The moment meant, in UTC. Raises `ValueError` with what is expected.

    Days begin at this machine's midnight, and times are on its clock, as it was or will be on that day.
    """
    word = text.strip().lower()
    today = now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    try:
        if ago := _AGO.fullmatch(word):
            return (now - int(ago[1]) * _UNITS[ago[2]]).astimezone(UTC)
        if word == "now":
            return now.astimezone(UTC)
        if word in ("today", "yesterday"):
            return _midnight(today, 0 if word == "today" else 1)
        if word in _WEEKDAYS:
            return _midnight(today, (today.weekday() - _WEEKDAYS.index(word)) % 7)
        return datetime.fromisoformat(word + "-01" if _MONTH.fullmatch(word) else text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no moment; expected {EXPECTED}") from None


def _midnight(today: datetime, days: int) -> datetime:
    return (today - timedelta(days=days)).astimezone(UTC)  # without a zone: the system's on that day
