"""Episodes over time as a table: a row a bucket, a column for each of the largest projects (or instances)."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from anamnesis.contracts.insight import Bucket, TimelinePoint

MOST_COLUMNS = 7
"""As many as there are colours that can be told apart; what is smaller is put together."""
MOST_ROWS = 400
DAYS = {Bucket.DAY: 1, Bucket.WEEK: 7, Bucket.MONTH: 31}
OTHERS = "others"
By = Literal["project", "instance"]


class Row(NamedTuple):
    start: datetime
    counts: tuple[int, ...]


class Table(NamedTuple):
    """`columns`: names, the largest first. Buckets in which nothing happened are rows of zeros."""

    columns: tuple[str, ...]
    totals: tuple[int, ...]
    rows: tuple[Row, ...]


def bucket_for(earliest: datetime | None, latest: datetime | None) -> Bucket:
    """The bucket in which a course of this length is read best."""
    days = (latest - earliest).days if earliest and latest else 0
    return Bucket.DAY if days <= 100 else Bucket.WEEK if days <= 3 * 365 else Bucket.MONTH


def earliest_shown(latest: datetime | None, bucket: Bucket) -> datetime | None:
    """Before this moment nothing is asked for: there would be more bars than a picture can hold."""
    return latest - timedelta(days=DAYS[bucket] * (MOST_ROWS - 1)) if latest else None


def table(points: Sequence[TimelinePoint], bucket: Bucket, by: By) -> Table:
    """The latest `MOST_ROWS` buckets up to the last one in which something happened."""
    if not points:
        return Table((), (), ())
    starts = _starts(min(one.start for one in points), max(one.start for one in points), bucket)
    kept = [one for one in points if one.start >= starts[0]]
    sums: Counter[str] = Counter()
    for one in kept:
        sums[getattr(one, by)] += one.episodes
    names = [name for name, _ in sums.most_common(MOST_COLUMNS)]
    columns = (*names, OTHERS) if len(sums) > len(names) else tuple(names)
    place = {name: at for at, name in enumerate(names)}
    counts = {start: [0] * len(columns) for start in starts}
    for one in kept:
        counts.setdefault(one.start, [0] * len(columns))[place.get(getattr(one, by), len(columns) - 1)] += one.episodes
    rows = tuple(Row(start, tuple(values)) for start, values in sorted(counts.items()))
    return Table(columns, tuple(map(sum, zip(*(row.counts for row in rows), strict=True))), rows)


def _starts(first: datetime, last: datetime, bucket: Bucket) -> list[datetime]:
    found = [last]
    while found[-1] > first and len(found) < MOST_ROWS:
        found.append(_before(found[-1], bucket))
    return found[::-1]


def _before(start: datetime, bucket: Bucket) -> datetime:
    if bucket is Bucket.MONTH:
        year, month = (start.year, start.month - 1) if start.month > 1 else (start.year - 1, 12)
        return datetime(year, month, 1, tzinfo=UTC)
    return start - timedelta(days=7 if bucket is Bucket.WEEK else 1)
