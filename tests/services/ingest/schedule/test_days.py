"""Which night is due: every zone, every time of day, and clocks that are set forwards and back."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anamnesis.contracts.schedule import STEPS, Night, NightStep, Schedule
from services.ingest.schedule.book import Record
from services.ingest.schedule.days import due, following, latest, moment, night_of

ZONES = st.sampled_from(sorted(available_timezones() - {"localtime", "Factory"}))
TIMES = st.times().map(lambda one: f"{one.hour:02}:{one.minute:02}")
DAYS = st.dates(date(1975, 1, 1), date(2035, 12, 31))
MINUTE = timedelta(minutes=1)


def shown(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def by_looking(local: datetime, zone: ZoneInfo) -> datetime:
    """The first minute at which clocks show this or later: found by looking at a clock minute by minute."""
    instant = local.replace(tzinfo=UTC) - timedelta(hours=27)
    while shown(instant, zone) < local:
        instant += MINUTE
    return instant


@settings(deadline=None, max_examples=60)
@given(zone=ZONES, day=DAYS, at=st.times())
@example(zone="Europe/Berlin", day=date(2026, 3, 29), at=time(2, 30))  # a gap
@example(zone="Europe/Berlin", day=date(2026, 10, 25), at=time(2, 30))  # twice
@example(zone="America/Sao_Paulo", day=date(2018, 11, 4), at=time(0, 0))  # midnight is in the gap
@example(zone="Australia/Lord_Howe", day=date(2026, 10, 4), at=time(2, 15))  # half an hour
@example(zone="Pacific/Apia", day=date(2011, 12, 30), at=time(5, 0))  # a day that was left out
@example(zone="Antarctica/Troll", day=date(2026, 3, 29), at=time(2, 0))  # two hours
@example(zone="Africa/Casablanca", day=date(2026, 3, 22), at=time(2, 0))
def test_a_moment_is_the_first_at_which_clocks_show_it(zone: str, day: date, at: time) -> None:
    """As found by looking at a clock minute by minute, in gaps and folds too."""
    where = ZoneInfo(zone)
    local = datetime.combine(day, at.replace(second=0, microsecond=0))
    assert moment(local, where) == by_looking(local, where)


def test_gaps_and_folds_by_name() -> None:
    """What the contract says, on dates that anybody can look up."""
    berlin = Schedule(at="02:30", time_zone="Europe/Berlin")
    gap, fold = night_of(date(2026, 3, 29), berlin), night_of(date(2026, 10, 25), berlin)
    assert gap is not None
    assert fold is not None
    assert gap.at == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)  # 03:00, the first after the gap
    assert fold.at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # the first of the two
    samoa = Schedule(at="05:00", time_zone="Pacific/Apia")
    assert night_of(date(2011, 12, 30), samoa) is None  # there was no such day
    assert following(datetime(2011, 12, 29, 18, 0, tzinfo=UTC), samoa, ()).day == date(2011, 12, 31)


@settings(deadline=None, max_examples=25)
@given(zone=ZONES, at=TIMES, start=DAYS)
@example(zone="Europe/Berlin", at="02:30", start=date(2026, 3, 20))
@example(zone="Europe/Berlin", at="02:30", start=date(2026, 10, 20))
@example(zone="Pacific/Apia", at="05:00", start=date(2011, 12, 20))
@example(zone="America/New_York", at="01:30", start=date(2026, 10, 25))
def test_a_clock_that_only_ticks_has_one_night_a_day(zone: str, at: str, start: date) -> None:
    """Looking every ten minutes for three weeks: each day that there is has one night, at its time."""
    schedule = Schedule(at=at, time_zone=zone)
    instant = datetime.combine(start, time(12), UTC)
    first = latest(instant, schedule).day
    done = [first.isoformat()]
    for _ in range(21 * 144):
        instant += timedelta(minutes=10)
        night = due(instant, schedule, done, None)
        if night is not None:
            assert timedelta(0) <= instant - night.at < timedelta(minutes=10)
            done.append(night.day.isoformat())
    last = date.fromisoformat(done[-1])
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    assert done == [day.isoformat() for day in days if night_of(day, schedule) is not None]


@settings(deadline=None, max_examples=150)
@given(
    zone=ZONES,
    at=TIMES,
    start=DAYS,
    jumps=st.lists(st.timedeltas(timedelta(days=-20), timedelta(days=20)), max_size=30),
)
def test_a_clock_that_jumps_neither_skips_nor_doubles(zone: str, at: str, start: date, jumps: list[timedelta]) -> None:
    """However a clock is set, no day's night is done twice, and the last one that has come is always done."""
    schedule = Schedule(at=at, time_zone=zone)
    instant = datetime.combine(start, time(12), UTC)
    record = Record(begun=instant)
    ran: list[str] = []
    for jump in jumps:
        instant += jump
        if (night := due(instant, schedule, record.days, None)) is not None:
            ran.append(night.day.isoformat())
            record = record.end(done(night.day.isoformat(), instant))
        assert latest(instant, schedule).day.isoformat() in record.days
        assert following(instant, schedule, record.days).at > instant
    assert len(ran) == len(set(ran))


def done(day: str, at: datetime) -> Night:
    steps = tuple(NightStep(name=name, state="done") for name in STEPS)
    return Night(run_id="r", trigger="schedule", day=day, state="done", started_at=at, finished_at=at, steps=steps)


def test_what_came_before_is_not_made_up_for() -> None:
    """Nights before the first look, or before they were switched on, are none; nor does a wrong clock keep us away."""
    schedule = Schedule(time_zone="UTC")
    noon = datetime(2026, 5, 5, 12, tzinfo=UTC)
    assert due(noon, schedule, (), noon - timedelta(hours=1)) is None
    assert due(noon, schedule, (), noon - timedelta(hours=8)) is not None
    assert due(noon, schedule, (), noon + timedelta(days=400)) is not None
    assert due(noon, schedule.model_copy(update={"enabled": False}), (), None) is None
    assert due(noon, schedule, ("2026-05-05",), None) is None


def test_another_time_of_day_is_not_another_night() -> None:
    """A day that is done stays so when the time is changed; the next one comes at the new time."""
    noon = datetime(2026, 5, 5, 12, tzinfo=UTC)
    later = Schedule(at="23:00")
    assert due(noon, later, ("2026-05-04", "2026-05-05"), None) is None
    assert following(noon, later, ("2026-05-04", "2026-05-05")).at == datetime(2026, 5, 6, 23, tzinfo=UTC)


@pytest.mark.parametrize(("failures", "minutes"), [(1, 5), (2, 15), (3, 45), (4, 120)])
def test_pauses_grow(failures: int, minutes: int) -> None:
    """A night that failed is tried again after a while, a longer one each time, and at last not any more."""
    at = datetime(2026, 5, 5, 5, tzinfo=UTC)
    record = Record(begun=at - timedelta(days=9))
    failed = done("2026-05-05", at).model_copy(update={"state": "failed"})
    for _ in range(failures):
        record = record.begin(failed, "me").end(failed)
    assert record.days == ()
    assert record.retry_at("2026-05-05", at + MINUTE) == at + timedelta(minutes=minutes)
    assert record.retry_at("2026-05-05", at + timedelta(hours=3)) == at + timedelta(hours=3)
    assert record.retry_at("2026-05-06", at + MINUTE) == at + MINUTE
    for _ in range(5 - failures):
        record = record.begin(failed, "me").end(failed)
    assert record.retry_at("2026-05-05", at + timedelta(hours=9)) == "never"
