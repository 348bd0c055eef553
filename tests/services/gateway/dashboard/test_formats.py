"""Numbers, sizes and durations as people read them, and what an address says about which episodes."""

from datetime import UTC, datetime

import pytest

from anamnesis.kit.errors import BadRequest
from services.gateway.dashboard import formats
from services.gateway.dashboard.filters import Filters


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (26_746, "26.7 kB"), (123_456_789, "123 MB"), (4e15, "4000.0 TB")]
)
def test_sizes(value: float, text: str) -> None:
    assert formats.size(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (300_000, "3 days")],
)
def test_durations(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


def test_what_is_not_known_is_a_dash() -> None:
    """Never a None on a page."""
    for one in (formats.size, formats.duration, formats.number, formats.share, formats.decimal, formats.moment):
        assert one(None) == "–"


@pytest.mark.parametrize(
    ("text", "kept"), [("5", "5"), ("0.2", "0.2"), ("", ""), ("nan", ""), ("1e999", ""), ("<b>", "")]
)
def test_only_numbers_go_into_fields_for_numbers(text: str, kept: str) -> None:
    assert formats.numeric(text) == kept


def test_filters_are_read_as_their_form_writes_them() -> None:
    """Whole days, the last one included; tags with or without their mark."""
    filters = Filters.of({"project": " shop ", "tag": "#bug, decision,,", "since": "2026-11-01", "until": "2026-11-30"})
    assert (filters.project, filters.tags) == ("shop", ["bug", "decision"])
    assert (filters.begin, filters.end) == (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    assert Filters.of({}).query == ""


def test_a_day_that_is_none_is_a_mistake_of_the_asker() -> None:
    with pytest.raises(BadRequest):
        _ = Filters.of({"since": "soon"}).begin
