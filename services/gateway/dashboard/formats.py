"""How numbers, sizes, durations and moments are written on the pages."""

from collections.abc import Callable, Mapping
from datetime import datetime
from math import isfinite
from types import MappingProxyType


def number(value: float | None) -> str:
    """1234567 -> 1,234,567; nothing known -> a dash."""
    return "–" if value is None else f"{value:,.0f}"


def size(value: float | None) -> str:
    """Bytes in a unit that people read."""
    if value is None:
        return "–"
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(amount) < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: `41 s`, `3 min 20 s`, `2 h 5 min`, `3 days`."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    if whole < 48 * 3600:
        return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")
    return f"{whole // 86400} days"


def share(value: float | None) -> str:
    """0.734 -> 73 %."""
    return "–" if value is None else f"{value * 100:.0f} %"


def decimal(value: float | None) -> str:
    """Three places, as scores are read."""
    return "–" if value is None else f"{value:.3f}"


def moment(value: datetime | None) -> str:
    """A moment in UTC; the page turns it into the reader's own time."""
    return "–" if value is None else value.strftime("%Y-%m-%d %H:%M UTC")


def numeric(text: str) -> str:
    """Text that a field for numbers takes; what is no number is left out of it."""
    try:
        return text if isfinite(float(text)) else ""
    except ValueError:
        return ""


FILTERS: Mapping[str, Callable[..., str]] = MappingProxyType(
    {one.__name__: one for one in (number, size, duration, share, decimal, moment, numeric)}
)
