"""What a store tells of itself as a whole: one body over all stores, against counting in plain loops."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anamnesis.contracts.insight import Bucket, TimelinePoint
from services.memory.stores.base import Filter, Record, Removal, Store
from tests.contract.conftest import MakeStore
from tests.contract.oracle import passes
from tests.contract.records import MODEL, OTHER, START, make_record

DAY = 24 * 60  # minutes


def beginning(moment: datetime, bucket: Bucket) -> datetime:
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if bucket is Bucket.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if bucket is Bucket.MONTH else day


def expected(records: Sequence[Record], where: Filter, bucket: Bucket) -> list[TimelinePoint]:
    counts = Counter(
        (beginning(episode.timestamp, bucket), episode.project, episode.instance)
        for record in records
        if passes(record, where)
        for episode in [record.episode]
    )
    return [
        TimelinePoint(start=start, project=project, instance=instance, episodes=n)
        for (start, project, instance), n in sorted(counts.items())
    ]


_POOL = [
    make_record(
        f"ep_{number:03}",
        project=("atlas", "Zeta", "äther", "\U0001f4a1")[number % 4],
        instance=("laptop", "desk")[number % 3 % 2],
        tags=("even",) if number % 2 == 0 else (),
        minute=number * 137 * 29 - 400 * DAY,
        superseded_by="ep_000" if number % 7 == 3 else None,
    )
    for number in range(120)
]
_MOMENTS = st.none() | st.datetimes(datetime(2024, 11, 1), datetime(2026, 3, 1), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)
_FILTERS = st.builds(
    Filter,
    project=st.none() | st.sampled_from(["atlas", "äther", "absent"]),
    instance=st.none() | st.sampled_from(["laptop", "desk"]),
    tags=st.just(()) | st.just(("even",)),
    since=_MOMENTS,
    until=_MOMENTS,
    include_superseded=st.booleans(),
)


async def test_a_timeline_counts_what_the_filter_leaves(make_store: MakeStore) -> None:
    """Every point is a bucket, a project and an instance that hold something, in order, with the exact number."""
    store = make_store()
    await store.open()
    await store.insert(_POOL)
    asked: list[tuple[Filter, Bucket]] = []

    @given(_FILTERS, st.sampled_from(Bucket))
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    def gather(where: Filter, bucket: Bucket) -> None:
        asked.append((where, bucket))

    gather()
    try:
        for where, bucket in asked:
            assert await store.timeline(where, bucket, 10_000) == expected(_POOL, where, bucket)
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("moment", "bucket", "start"),
    [
        (datetime(2026, 1, 4, 23, 59, 59, 999_000), Bucket.WEEK, datetime(2025, 12, 29)),
        (datetime(2026, 1, 5), Bucket.WEEK, datetime(2026, 1, 5)),
        (datetime(2024, 2, 29, 12), Bucket.MONTH, datetime(2024, 2, 1)),
        (datetime(1969, 12, 31, 23, 59, 59, 999_000), Bucket.DAY, datetime(1969, 12, 31)),
        (datetime(1969, 12, 28), Bucket.WEEK, datetime(1969, 12, 22)),
        (datetime(1912, 3, 1), Bucket.MONTH, datetime(1912, 3, 1)),
    ],
)
async def test_buckets_begin_at_midnight_utc(store: Store, moment: datetime, bucket: Bucket, start: datetime) -> None:
    """A week begins on Monday, a month on its first day, and the last millisecond of a bucket belongs to it."""
    minutes = (moment.replace(tzinfo=UTC) - START) / timedelta(minutes=1)
    record = make_record("ep_a")
    await store.insert(
        [record._replace(episode=record.episode.model_copy(update={"timestamp": START + timedelta(minutes=minutes)}))]
    )
    [point] = await store.timeline(Filter(), bucket, 10)
    assert point.start == start.replace(tzinfo=UTC)


async def test_a_timeline_ends_at_its_limit(store: Store) -> None:
    """No more points come than were asked for, the earliest first; an empty store has none."""
    assert await store.timeline(Filter(), Bucket.DAY, 10) == []
    await store.insert([make_record(f"ep_{number}", minute=number * DAY) for number in range(5)])
    points = await store.timeline(Filter(), Bucket.DAY, 3)
    assert [point.start for point in points] == [START + timedelta(days=number) for number in range(3)]


async def test_a_timeline_follows_writes(store: Store) -> None:
    """What is removed, moved in time or to another project is counted where it is now."""
    await store.insert([make_record("ep_a"), make_record("ep_b"), make_record("ep_c", minute=DAY)])
    await store.remove(Removal(("ep_a",)))
    await store.replace([make_record("ep_b", project="other", minute=2 * DAY)])
    told = [(point.start, point.project, point.episodes) for point in await store.timeline(Filter(), Bucket.DAY, 10)]
    assert told == [(START + timedelta(days=1), "atlas", 1), (START + timedelta(days=2), "other", 1)]


async def test_openings_are_first_windows_of_the_newest(store: Store) -> None:
    """The newest that match and have vectors of the model come with their first windows; the others are counted."""
    pool = [
        make_record(f"ep_{number}", minute=number // 2, windows=1 + number % 3, project="ab"[number % 2])
        for number in range(8)
    ]
    await store.insert([*pool, make_record("ep_bare", minute=99, model=None)])
    found = await store.openings(MODEL, Filter(), 5)
    assert found.total == 8
    assert found.episode_ids == ["ep_6", "ep_7", "ep_4", "ep_5", "ep_2"]
    assert found.projects == ["a", "b", "a", "b", "a"]
    by_id = {record.episode.episode_id: record for record in pool}
    for episode_id, vector in zip(found.episode_ids, found.vectors, strict=True):
        vectors = by_id[episode_id].vectors
        assert vectors is not None
        np.testing.assert_array_equal(vector, vectors[0])
    some = await store.openings(MODEL, Filter(project="b"), 5)
    assert (some.total, some.episode_ids) == (4, ["ep_7", "ep_5", "ep_3", "ep_1"])


async def test_openings_of_nothing(store: Store) -> None:
    """A model without vectors, a filter that leaves nothing: no episodes, and no error."""
    for model in (MODEL, OTHER):
        found = await store.openings(model, Filter(), 5)
        assert (found.total, found.episode_ids, len(found.vectors)) == (0, [], 0)
    await store.insert([make_record("ep_a")])
    assert (await store.openings(MODEL, Filter(project="absent"), 5)).episode_ids == []
    assert (await store.openings(OTHER, Filter(), 5)).episode_ids == []
