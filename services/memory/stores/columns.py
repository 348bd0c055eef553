"""What filters and neighbours need to know of each episode, as one array a field.

`Columns` is a value like `matrix.Matrix`: `extended` gives the next one, which shares buffers with the former
and writes only beyond its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from anamnesis.contracts.insight import Bucket, TimelinePoint
from services.memory.stores import postings
from services.memory.stores.postings import Flags

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DAY = 86_400_000  # milliseconds
_MONDAY = 3
"""The epoch was a Thursday: so many days after a Monday."""
_T = TypeVar("_T", bound=np.generic)


def milliseconds(moment: datetime) -> int:
    """Since the epoch, rounded up to what stores keep, so that comparisons with kept moments stay exact."""
    return -((_EPOCH - moment) // _MILLISECOND)


def moment(since_epoch: int) -> datetime:
    """The moment of so many milliseconds since the epoch."""
    return _EPOCH + since_epoch * _MILLISECOND


def bucketed(times: NDArray[np.int64], bucket: Bucket) -> NDArray[np.int64]:
    """Milliseconds since the epoch -> the beginning, in days since the epoch, of the bucket that holds each (UTC)."""
    days: NDArray[np.int64] = times // _DAY
    if bucket is Bucket.WEEK:
        return (days + _MONDAY) // 7 * 7 - _MONDAY
    if bucket is Bucket.MONTH:
        return days.astype("datetime64[D]").astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return days


class Row(NamedTuple):
    """An episode as the index sees it."""

    number: int
    """Its key in the database."""
    episode_id: str
    project: str
    instance: str
    time: int
    """Event time, milliseconds since the epoch."""
    session: str | None
    position: int | None
    trust: str
    superseded: bool
    terms: bytes
    """As `postings.pack` gave them."""
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Columns:
    """One place a slot in every array; those at `n` and beyond mean nothing."""

    n: int
    number: NDArray[np.int64]
    project: NDArray[np.int32]
    instance: NDArray[np.int32]
    session: NDArray[np.int32]
    """-1 = none"""
    position: NDArray[np.int64]
    """-1 = none"""
    time: NDArray[np.int64]
    trust: NDArray[np.int16]
    length: NDArray[np.int32]
    """Terms, repetitions counted."""
    ids: list[str]
    """Only ever appended to, like the names below."""
    projects: dict[str, int]
    instances: dict[str, int]
    sessions: dict[str, int]
    session_names: list[str]
    trust_codes: dict[str, int]
    trusts: list[str]

    @classmethod
    def empty(cls) -> "Columns":
        return cls(
            n=0,
            number=np.zeros(0, np.int64),
            project=np.zeros(0, np.int32),
            instance=np.zeros(0, np.int32),
            session=np.zeros(0, np.int32),
            position=np.zeros(0, np.int64),
            time=np.zeros(0, np.int64),
            trust=np.zeros(0, np.int16),
            length=np.zeros(0, np.int32),
            ids=[],
            projects={},
            instances={},
            sessions={},
            session_names=[],
            trust_codes={},
            trusts=[],
        )

    def extended(self, rows: Sequence[Row]) -> "Columns":
        """With these rows behind the others."""
        if not rows:
            return self
        grown = self._with_room(self.n + len(rows))
        place = slice(self.n, grown.n)
        grown.number[place] = [row.number for row in rows]
        grown.project[place] = [_code(self.projects, row.project) for row in rows]
        grown.instance[place] = [_code(self.instances, row.instance) for row in rows]
        grown.session[place] = [
            -1 if row.session is None else _code(self.sessions, row.session, self.session_names) for row in rows
        ]
        grown.position[place] = [-1 if row.position is None else row.position for row in rows]
        grown.time[place] = [row.time for row in rows]
        grown.trust[place] = [_code(self.trust_codes, row.trust, self.trusts) for row in rows]
        grown.length[place] = [postings.length(row.terms) for row in rows]
        self.ids.extend(row.episode_id for row in rows)
        return grown

    def _with_room(self, n: int) -> "Columns":
        if n <= len(self.number):
            return replace(self, n=n)
        size = n + n // 4 + 64
        return replace(
            self,
            n=n,
            number=_wider(self.number, self.n, size),
            project=_wider(self.project, self.n, size),
            instance=_wider(self.instance, self.n, size),
            session=_wider(self.session, self.n, size),
            position=_wider(self.position, self.n, size),
            time=_wider(self.time, self.n, size),
            trust=_wider(self.trust, self.n, size),
            length=_wider(self.length, self.n, size),
        )

    def compacted(self, kept: NDArray[np.int64]) -> "Columns":
        """Only these slots (ascending), in buffers of their own."""
        return replace(
            self,
            n=len(kept),
            number=self.number[kept],
            project=self.project[kept],
            instance=self.instance[kept],
            session=self.session[kept],
            position=self.position[kept],
            time=self.time[kept],
            trust=self.trust[kept],
            length=self.length[kept],
            ids=[self.ids[slot] for slot in kept.tolist()],
        )

    def timeline(self, slots: NDArray[np.int64], bucket: Bucket, limit: int) -> list[TimelinePoint]:
        """How many of these slots lie in each bucket, by project and instance: by start, project and instance."""
        if not len(slots):
            return []
        projects, instances = list(self.projects), list(self.instances)
        starts = bucketed(self.time[slots], bucket)
        cells = np.stack([starts, _ranks(projects)[self.project[slots]], _ranks(instances)[self.instance[slots]]])
        order = np.lexsort(cells[::-1])
        cells = cells[:, order]
        firsts = np.flatnonzero(np.append(True, (cells[:, 1:] != cells[:, :-1]).any(axis=0)))
        counts = np.diff(np.append(firsts, len(slots)))
        shown = order[firsts[:limit]]
        return [
            TimelinePoint.model_construct(
                start=_EPOCH + timedelta(days=day), project=projects[one], instance=instances[two], episodes=n
            )
            for day, one, two, n in zip(
                starts[shown].tolist(),
                self.project[slots[shown]].tolist(),
                self.instance[slots[shown]].tolist(),
                counts.tolist(),
                strict=False,
            )
        ]

    def newest(self, slots: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
        """The newest so many of these slots, newest first, ties by id."""
        times = self.time[slots]
        if len(slots) > limit:
            bound = np.partition(times, len(times) - limit)[len(times) - limit]
            slots = slots[times >= bound]
        order = sorted(slots.tolist(), key=lambda slot: (-int(self.time[slot]), self.ids[slot]))
        return np.array(order[:limit], dtype=np.int64)

    def neighbours(self, slots: NDArray[np.int64], mask: Flags | None) -> NDArray[np.int64]:
        """The slot before and the slot after each of these in its session, of those the mask leaves (none = all).

        `slots` ascends. Within a session the order is by position, then by event time; those without a position
        come first. Costs the same however long a session is.
        """
        wanted = np.zeros(len(self.session_names) + 1, dtype=np.bool_)
        wanted[self.session[slots]] = True
        wanted[-1] = False  # where -1, no session, points to
        members = np.take(wanted, self.session[: self.n], mode="wrap")
        if mask is not None:
            members &= mask
        inside = np.flatnonzero(members)
        if not len(inside):
            return inside
        order = np.lexsort((inside, self.time[inside], self.position[inside], self.session[inside]))
        line = inside[order]
        session = self.session[line]
        place = np.minimum(np.searchsorted(slots, line), len(slots) - 1)
        at = np.flatnonzero(slots[place] == line)
        before = at[1:] if len(at) and at[0] == 0 else at
        after = at[:-1] if len(at) and at[-1] == len(line) - 1 else at
        return np.concatenate(
            (
                line[before - 1][session[before - 1] == session[before]],
                line[after + 1][session[after + 1] == session[after]],
            )
        )


def _code(codes: dict[str, int], name: str, names: list[str] | None = None) -> int:
    code = codes.get(name)
    if code is None:
        code = len(codes)
        if names is not None:
            names.append(name)
        codes[name] = code
    return code


def _ranks(names: list[str]) -> NDArray[np.int64]:
    """The place of each name in the order of names."""
    ranks = np.empty(len(names), dtype=np.int64)
    ranks[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return ranks


def _wider(array: NDArray[_T], used: int, size: int) -> NDArray[_T]:
    wider = np.empty(size, dtype=array.dtype)
    wider[:used] = array[:used]
    return wider
