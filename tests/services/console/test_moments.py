"""Moments as people write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.console.moments import parse

ZONE = timezone(timedelta(hours=2))
NOW = datetime(2026, 11, 18, 9, 30, tzinfo=ZONE)  # a Wednesday


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-03", datetime(2026, 11, 2, 22, 0, tzinfo=UTC)),
        ("2026-11", datetime(2026, 10, 31, 22, 0, tzinfo=UTC)),
        ("2026-11-03T14:30", datetime(2026, 11, 3, 12, 30, tzinfo=UTC)),
        ("2026-11-03 14:30", datetime(2026, 11, 3, 12, 30, tzinfo=UTC)),
        ("2026-11-03T14:30:00Z", datetime(2026, 11, 3, 14, 30, tzinfo=UTC)),
        ("7d", datetime(2026, 11, 11, 7, 30, tzinfo=UTC)),
        ("12h", datetime(2026, 11, 17, 19, 30, tzinfo=UTC)),
        ("90m", datetime(2026, 11, 18, 6, 0, tzinfo=UTC)),
        ("2w", datetime(2026, 11, 4, 7, 30, tzinfo=UTC)),
        ("today", datetime(2026, 11, 17, 22, 0, tzinfo=UTC)),
        ("Yesterday", datetime(2026, 11, 16, 22, 0, tzinfo=UTC)),
        ("monday", datetime(2026, 11, 15, 22, 0, tzinfo=UTC)),
        ("wednesday", datetime(2026, 11, 17, 22, 0, tzinfo=UTC)),
        ("thursday", datetime(2026, 11, 11, 22, 0, tzinfo=UTC)),
        ("now", datetime(2026, 11, 18, 7, 30, tzinfo=UTC)),
    ],
)
def test_what_people_write_is_understood(text: str, moment: datetime) -> None:
    """Days begin at local midnight, spans count back from now, weekdays are the last of their name."""
    assert parse(text, NOW) == moment


@given(st.text(max_size=30))
def test_anything_else_is_refused_with_what_is_expected(text: str) -> None:
    """Whatever is written is a moment or a ValueError that says what is expected."""
    refusal = ""
    try:
        parse(text, NOW)
    except ValueError as error:
        refusal = str(error)
    assert not refusal or "expected a date" in refusal


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)))
def test_a_time_survives_being_written(moment: datetime) -> None:
    """A time written with its zone is the same moment."""
    aware = moment.replace(tzinfo=ZONE)
    assert parse(aware.isoformat(), NOW) == aware
