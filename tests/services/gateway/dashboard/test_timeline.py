"""Episodes over time as a table."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from anamnesis.contracts.insight import Bucket, TimelinePoint
from services.gateway.dashboard.timeline import MOST_COLUMNS, MOST_ROWS, OTHERS, bucket_for, earliest_shown, table

MONDAY = datetime(2026, 9, 7, tzinfo=UTC)


def point(start: datetime, project: str, episodes: int, instance: str = "laptop") -> TimelinePoint:
    return TimelinePoint(start=start, project=project, instance=instance, episodes=episodes)


def test_buckets_without_episodes_are_rows_of_zeros() -> None:
    """So that a picture shows the pause."""
    made = table([point(MONDAY, "a", 2), point(MONDAY + timedelta(days=3), "b", 1)], Bucket.DAY, "project")
    assert made.columns == ("a", "b")
    assert [row.counts for row in made.rows] == [(2, 0), (0, 0), (0, 0), (0, 1)]
    assert made.totals == (2, 1)


def test_months_are_as_long_as_they_are() -> None:
    """One row a month, over the turn of a year."""
    points = [point(datetime(2025, 11, 1, tzinfo=UTC), "a", 1), point(datetime(2026, 2, 1, tzinfo=UTC), "a", 1)]
    starts = [row.start.month for row in table(points, Bucket.MONTH, "project").rows]
    assert starts == [11, 12, 1, 2]


def test_small_ones_are_put_together() -> None:
    """The largest have a column of their own."""
    points = [point(MONDAY, f"p{number}", 100 - number) for number in range(MOST_COLUMNS + 5)]
    made = table(points, Bucket.WEEK, "project")
    assert made.columns[:2] == ("p0", "p1")
    assert made.columns[-1] == OTHERS
    assert len(made.columns) == MOST_COLUMNS + 1


def test_by_instance() -> None:
    """The same points, other columns."""
    points = [point(MONDAY, "a", 2, "laptop"), point(MONDAY, "b", 3, "cc")]
    assert table(points, Bucket.WEEK, "instance").columns == ("cc", "laptop")


def test_nothing_is_nothing() -> None:
    assert table([], Bucket.DAY, "project").rows == ()


@given(
    st.lists(
        st.tuples(st.integers(0, 3000), st.sampled_from([f"p{n}" for n in range(12)]), st.integers(1, 50)), max_size=40
    )
)
def test_no_episode_of_the_kept_time_is_lost(entries: list[tuple[int, str, int]]) -> None:
    """The numbers of the table add up to those of the points in its rows."""
    points = [point(MONDAY + timedelta(days=day), name, count) for day, name, count in entries]
    made = table(points, Bucket.DAY, "project")
    first = made.rows[0].start if made.rows else MONDAY
    assert sum(made.totals) == sum(one.episodes for one in points if one.start >= first)
    assert sum(sum(row.counts) for row in made.rows) == sum(made.totals)
    assert len(made.rows) <= MOST_ROWS


def test_the_bucket_fits_the_course() -> None:
    """Days, weeks or months, so that there are neither three bars nor a thousand."""
    assert bucket_for(None, None) is Bucket.DAY
    assert bucket_for(MONDAY, MONDAY + timedelta(days=30)) is Bucket.DAY
    assert bucket_for(MONDAY, MONDAY + timedelta(days=400)) is Bucket.WEEK
    assert bucket_for(MONDAY, MONDAY + timedelta(days=2000)) is Bucket.MONTH


def test_what_would_not_be_shown_is_not_asked_for() -> None:
    """Days end after a year or so, weeks after years."""
    assert earliest_shown(None, Bucket.DAY) is None
    day, week = (earliest_shown(MONDAY, bucket) for bucket in (Bucket.DAY, Bucket.WEEK))
    assert day == MONDAY - timedelta(days=MOST_ROWS - 1)
    assert week is not None
    assert week < MONDAY - timedelta(days=7 * 365)
