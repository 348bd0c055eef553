"""What a page's address says about which episodes to show, as the fields of its form write it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from urllib.parse import urlencode

from anamnesis.kit.errors import BadRequest


class Filters(NamedTuple):
    """Days are whole days in UTC, the last one included; tags are separated by commas. Empty = any."""

    project: str = ""
    instance: str = ""
    tag: str = ""
    since: str = ""
    until: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Filters":
        return cls(*(query.get(name, "").strip() for name in cls._fields))

    @property
    def tags(self) -> list[str]:
        return [tag for tag in (one.strip().removeprefix("#") for one in self.tag.split(",")) if tag]

    @property
    def begin(self) -> datetime | None:
        return _day(self.since)

    @property
    def end(self) -> datetime | None:
        """The first moment that is too late."""
        last = _day(self.until)
        return last + timedelta(days=1) if last else None

    @property
    def query(self) -> str:
        """As part of an address."""
        return urlencode({name: value for name, value in self._asdict().items() if value})


def _day(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        raise BadRequest("write days as 2026-11-24") from None
