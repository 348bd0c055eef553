"""Moments as people write them."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.console.moments import parse

SUMMER = timezone(timedelta(hours=2))
NOW = datetime(2026, 11, 18, 9, 30, tzinfo=timezone(timedelta(hours=1)))  # a Wednesday


@pytest.fixture(autouse=True, scope="module")
def central_europe() -> Iterator[None]:
    """This machine's zone has summer time, from the last Sunday of March to that of October."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-03", datetime(2026, 11, 2, 23, 0, tzinfo=UTC)),
        ("2026-07-01", datetime(2026, 6, 30, 22, 0, tzinfo=UTC)),
        ("2026-11", datetime(2026, 10, 31, 23, 0, tzinfo=UTC)),
        ("2026-07", datetime(2026, 6, 30, 22, 0, tzinfo=UTC)),
        ("2026-11-03T14:30", datetime(2026, 11, 3, 13, 30, tzinfo=UTC)),
        ("2026-07-03 14:30", datetime(2026, 7, 3, 12, 30, tzinfo=UTC)),
        ("2026-11-03T14:30:00Z", datetime(2026, 11, 3, 14, 30, tzinfo=UTC)),
        ("7d", datetime(2026, 11, 11, 8, 30, tzinfo=UTC)),
        ("12h", datetime(2026, 11, 17, 20, 30, tzinfo=UTC)),
        ("90m", datetime(2026, 11, 18, 7, 0, tzinfo=UTC)),
        ("2w", datetime(2026, 11, 4, 8, 30, tzinfo=UTC)),
        ("today", datetime(2026, 11, 17, 23, 0, tzinfo=UTC)),
        ("Yesterday", datetime(2026, 11, 16, 23, 0, tzinfo=UTC)),
        ("monday", datetime(2026, 11, 15, 23, 0, tzinfo=UTC)),
        ("wednesday", datetime(2026, 11, 17, 23, 0, tzinfo=UTC)),
        ("thursday", datetime(2026, 11, 11, 23, 0, tzinfo=UTC)),
        ("now", datetime(2026, 11, 18, 8, 30, tzinfo=UTC)),
    ],
)
def test_what_people_write_is_understood(text: str, moment: datetime) -> None:
    """Days begin at that day's local midnight, spans count back from now, weekdays are the last of their name."""
    assert parse(text, NOW) == moment


@pytest.mark.parametrize(("text", "day"), [("today", 24), ("yesterday", 23), ("friday", 22)])
def test_a_day_on_which_the_clock_changes_begins_before_the_change(text: str, day: int) -> None:
    """On the evening after the change (a Sunday), midnights before it are still those of summer time."""
    evening = datetime(2026, 10, 25, 20, 0, tzinfo=timezone(timedelta(hours=1)))
    assert parse(text, evening) == datetime(2026, 10, day, 22, tzinfo=UTC)


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
    aware = moment.replace(tzinfo=SUMMER)
    assert parse(aware.isoformat(), NOW) == aware
