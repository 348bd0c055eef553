"""All that a search needs, in memory, rebuilt from the database at every start: exact, and never the truth.

Owns slots (one an episode), their columns for filters, the postings of terms and tags and a matrix a model, and
answers questions. Reading the database and deciding what is durable belong to `sqlite`.

Readers and the writer never wait for each other: `apply` builds the next `Frame` beside the present one and
publishes it by one assignment. What a published frame can reach is never changed; columns grow in place only
beyond its end, flags that flip are copied first. A search takes one frame and sees one moment. Changed episodes
get a new slot; dead slots are cleared away when they are a quarter of all.

Legend: n slots, s chosen slots, k questions, d width.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anamnesis.contracts.insight import Bucket, TimelinePoint
from services.memory.stores import postings
from services.memory.stores.base import Candidate, CandidateQuery, Candidates, Filter, Openings, Vectors
from services.memory.stores.columns import Columns, Row, milliseconds
from services.memory.stores.matrix import Matrix, Scores, worth_picking
from services.memory.stores.postings import Corpus, Flags, Lexical, Segment, Segments

_BLOCKS = 64
"""Scores a block when the highest are looked for."""
_DEAD_SHARE = 0.25
_DEAD_LEAST = 2048
"""Dead slots, or dead windows of a model, are cleared away when there are more than both of these."""


class Put(NamedTuple):
    """An episode is new, or is another now; its vectors, of all models, are these."""

    row: Row
    vectors: Mapping[str, Vectors]


class Drop(NamedTuple):
    number: int


class Mark(NamedTuple):
    """An episode is superseded, or is not any more."""

    number: int
    superseded: bool


class Retag(NamedTuple):
    """An episode has other tags now; all else of it is as it was."""

    number: int
    former: tuple[str, ...]
    tags: tuple[str, ...]


class Embed(NamedTuple):
    """An episode has these vectors by this model."""

    number: int
    model: str
    vectors: Vectors


class Reset(NamedTuple):
    """A model has no vectors any more, or is to have vectors of another dimension."""

    model: str


Change = Put | Drop | Mark | Retag | Embed | Reset
"""What a committed write did; episodes are known by their number in the database."""

_OfVectors = Put | Drop | Embed


@dataclass(frozen=True)
class Frame:
    """One moment of the index."""

    columns: Columns
    alive: Flags
    superseded: Flags
    living: int
    length: int
    """Terms of all episodes alive."""
    terms: Segments
    tags: Segments
    matrices: Mapping[str, Matrix]

    @property
    def n(self) -> int:
        return self.columns.n

    @cached_property
    def corpus(self) -> Corpus:
        alive = None if self.living == self.n else self.alive[: self.n]
        return Corpus.of(self.columns.length[: self.n], alive, self.living, self.length)

    def mask(self, where: Filter) -> Flags | None:
        """(n): the slots meant; none = all."""
        columns, n = self.columns, self.n
        conditions: list[Flags] = [] if self.living == n else [self.alive[:n]]
        if where.project is not None:
            conditions.append(columns.project[:n] == columns.projects.get(where.project, -1))
        if where.instance is not None:
            conditions.append(columns.instance[:n] == columns.instances.get(where.instance, -1))
        if where.since is not None:
            conditions.append(columns.time[:n] >= milliseconds(where.since))
        if where.until is not None:
            conditions.append(columns.time[:n] < milliseconds(where.until))
        if not where.include_superseded and bool(self.superseded[:n].any()):
            conditions.append(~self.superseded[:n])
        conditions.extend(postings.flags(self.tags, postings.key(tag), n) for tag in where.tags)
        if not conditions:
            return None
        mask = conditions[0].copy()
        for condition in conditions[1:]:
            mask &= condition
        return mask

    def slots(self, where: Filter) -> NDArray[np.int64]:
        """(s): the slots meant, ascending."""
        mask = self.mask(where)
        return np.arange(self.n, dtype=np.int64) if mask is None else np.flatnonzero(mask)


@dataclass
class _Loading:
    """A model whose vectors are being read while writes go on."""

    touched: set[int] = field(default_factory=set)
    """Numbers whose vectors were written since: what is read of them is older than what the index has."""


class MemoryIndex:
    """Exact search over all episodes. `apply` and the loading methods may be called from any thread."""

    def __init__(self, dead_least: int = _DEAD_LEAST, small: int = postings.SMALL) -> None:
        """`dead_least`: dead slots that are never worth clearing; `small`: postings that are always merged."""
        self._dead_least = dead_least
        self._small = small
        self._lock = threading.Lock()
        self._slots: dict[int, int] = {}
        self._loading: dict[str, _Loading] = {}
        none = np.zeros(0, dtype=np.bool_)
        self._frame = Frame(Columns.empty(), none, none, 0, 0, (), (), {})

    # Writing ----------------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change]) -> None:
        """Take over what a committed transaction did, in order; visible to searches that begin afterwards."""
        if not changes:
            return
        with self._lock:
            for loading in self._loading.values():
                loading.touched.update(_number(change) for change in changes if isinstance(change, _OfVectors))
            self._frame = self._compacted(self._next(self._frame, changes))

    def _next(self, frame: Frame, changes: Sequence[Change]) -> Frame:
        n = frame.n
        added: list[Row] = []
        vectors: dict[str, dict[int, Vectors]] = {model: {} for model in frame.matrices}
        dying: set[int] = set()
        marks: dict[int, bool] = {}
        retagged: dict[int, Retag] = {}
        for change in changes:
            if isinstance(change, Reset):
                vectors.pop(change.model, None)
                self._loading.pop(change.model, None)
                continue
            slot = self._slots.get(_number(change))
            if isinstance(change, Put):
                if slot is not None:
                    dying.add(slot)
                slot = n + len(added)
                self._slots[change.row.number] = slot
                added.append(change.row)
                marks[slot] = change.row.superseded
                for model, windows in change.vectors.items():
                    if model in vectors:
                        vectors[model][slot] = windows
            elif slot is None:
                continue
            elif isinstance(change, Drop):
                dying.add(slot)
                del self._slots[change.number]
            elif isinstance(change, Mark):
                marks[slot] = change.superseded
            elif isinstance(change, Retag):
                if slot >= n:
                    added[slot - n] = added[slot - n]._replace(tags=change.tags)
                else:
                    before = retagged.get(slot, change)
                    retagged[slot] = change._replace(former=before.former)
            elif change.model in vectors:
                vectors[change.model][slot] = change.vectors

        columns = frame.columns.extended(added)
        alive = _grown(frame.alive, n, columns.n, copy=any(slot < n for slot in dying))
        alive[n : columns.n] = True
        superseded = _grown(frame.superseded, n, columns.n, copy=any(slot < n for slot in marks))
        superseded[n : columns.n] = False
        for slot, value in marks.items():
            superseded[slot] = value
        if dying:
            alive[list(dying)] = False
        lengths = columns.length
        terms = Segment.of_packed(range(n, columns.n), [row.terms for row in added])
        lost = [(slot, tag) for slot, one in retagged.items() for tag in one.former if tag not in one.tags]
        won = [(slot, tag) for slot, one in retagged.items() for tag in one.tags if tag not in one.former]
        tags = Segment.of_tags([*won, *((slot, tag) for slot, row in enumerate(added, start=n) for tag in row.tags)])
        return Frame(
            columns=columns,
            alive=alive,
            superseded=superseded,
            living=frame.living + len(added) - len(dying),
            length=frame.length + int(lengths[n : columns.n].sum()) - sum(int(lengths[slot]) for slot in dying),
            terms=postings.joined(frame.terms, terms, self._small),
            tags=postings.joined(postings.without(frame.tags, lost), tags, self._small),
            matrices={
                model: matrix.without(sorted(slot for slot in dying if slot < n)).extended(
                    columns.n, [(slot, windows) for slot, windows in vectors[model].items() if slot not in dying]
                )
                for model, matrix in frame.matrices.items()
                if model in vectors
            },
        )

    def _compacted(self, frame: Frame) -> Frame:
        dead = frame.n - frame.living
        crowded = dead > max(self._dead_least, frame.n * _DEAD_SHARE) or any(
            matrix.dead > max(self._dead_least, matrix.windows * _DEAD_SHARE) for matrix in frame.matrices.values()
        )
        if not crowded:
            return frame
        kept = np.flatnonzero(frame.alive[: frame.n])
        to = np.full(frame.n, -1, dtype=np.int32)
        to[kept] = np.arange(len(kept), dtype=np.int32)
        columns = frame.columns.compacted(kept)
        self._slots = {number: slot for slot, number in enumerate(columns.number[: columns.n].tolist())}
        return Frame(
            columns=columns,
            alive=np.ones(len(kept), dtype=np.bool_),
            superseded=frame.superseded[kept],
            living=len(kept),
            length=frame.length,
            terms=tuple(segment.moved(to) for segment in frame.terms),
            tags=tuple(segment.moved(to) for segment in frame.tags),
            matrices={model: matrix.compacted(kept) for model, matrix in frame.matrices.items()},
        )

    # Models -----------------------------------------------------------------------------------

    def begin(self, model: str, dimension: int, windows: int) -> None:
        """Make room for a model's vectors. From now on writes reach it; `fill` brings what was there before."""
        with self._lock:
            self._loading[model] = _Loading()
            matrix = Matrix.empty(dimension, self._frame.n, windows + windows // 16)
            self._frame = replace(self._frame, matrices={**self._frame.matrices, model: matrix})

    def fill(self, model: str, items: Iterable[tuple[int, Vectors]]) -> None:
        """Vectors as read from the database after `begin`; those written since are left as they are."""
        with self._lock:
            if model not in self._loading:
                return
            matrix = self._frame.matrices[model]
            touched = self._loading[model].touched
            known = [
                (self._slots[number], vectors)
                for number, vectors in items
                if number in self._slots and number not in touched
            ]
            matrix = matrix.extended(self._frame.n, known)
            self._frame = replace(self._frame, matrices={**self._frame.matrices, model: matrix})

    def finish(self, model: str) -> None:
        """All of the model's vectors are there: `ready` says so from now on."""
        with self._lock:
            self._loading.pop(model, None)

    def release(self, model: str) -> None:
        """Give a model's memory back."""
        with self._lock:
            self._loading.pop(model, None)
            matrices = {name: matrix for name, matrix in self._frame.matrices.items() if name != model}
            self._frame = replace(self._frame, matrices=matrices)

    def ready(self, model: str) -> bool:
        return model in self._frame.matrices and model not in self._loading

    def models(self) -> tuple[str, ...]:
        """Those in memory, whole or being loaded."""
        return tuple(self._frame.matrices)

    def dimension(self, model: str) -> int | None:
        matrix = self._frame.matrices.get(model)
        return None if matrix is None else matrix.dimension

    def count(self, episode_ids: Iterable[str]) -> int:
        """How many of these a search can find."""
        frame, wanted = self._frame, set(episode_ids)
        ids, n = frame.columns.ids, frame.n
        return sum(ids[slot] in wanted for slot in np.flatnonzero(frame.alive[:n]).tolist())

    def __len__(self) -> int:
        return self._frame.living

    # Looking at the whole ---------------------------------------------------------------------

    def timeline(self, where: Filter, bucket: Bucket, limit: int) -> list[TimelinePoint]:
        frame = self._frame
        return frame.columns.timeline(frame.slots(where), bucket, limit)

    def openings(self, model: str, where: Filter, limit: int) -> Openings:
        frame = self._frame
        matrix = frame.matrices.get(model)
        if matrix is None:
            return Openings(0, [], [], np.empty((0, 0), dtype=np.float32))
        slots = frame.slots(where)
        slots = slots[matrix.has(slots)]
        newest = frame.columns.newest(slots, limit)
        projects = list(frame.columns.projects)
        return Openings(
            len(slots),
            [frame.columns.ids[slot] for slot in newest.tolist()],
            [projects[code] for code in frame.columns.project[newest].tolist()],
            matrix.firsts(newest),
        )

    # Searching --------------------------------------------------------------------------------

    def search(self, queries: Sequence[CandidateQuery]) -> list[Candidates]:
        """Answer questions that wait together at one moment: those that read a whole matrix share the reading."""
        frame = self._frame
        masks = [frame.mask(query.where) for query in queries]
        dense: list[Scores | None] = [None] * len(queries)
        together: dict[str, list[int]] = {}
        for at, (query, mask) in enumerate(zip(queries, masks, strict=True)):
            matrix = frame.matrices.get(query.model)
            if matrix is None or query.vector.shape != (matrix.dimension,):
                continue
            if mask is not None and worth_picking(matrix, mask):
                slots = np.flatnonzero(mask)
                scores = np.full(frame.n, -np.inf, dtype=np.float32)
                scores[slots] = matrix.best_of(np.ascontiguousarray(query.vector, dtype=np.float32), slots)
                dense[at] = scores
            else:
                together.setdefault(query.model, []).append(at)
        for model, places in together.items():
            questions = np.stack([np.asarray(queries[at].vector, dtype=np.float32) for at in places])
            for at, scores in zip(places, frame.matrices[model].best(questions), strict=True):
                mask = masks[at]
                if mask is not None:
                    scores[~mask] = -np.inf
                dense[at] = scores
        found = []
        for query, mask, dense_scores in zip(queries, masks, dense, strict=True):
            lexical = postings.bm25(frame.terms, map(postings.key, set(query.terms)), frame.corpus, mask)
            found.append(_found(frame, mask, dense_scores, lexical, query))
        return found


def _number(change: Put | Drop | Mark | Retag | Embed) -> int:
    return change.row.number if isinstance(change, Put) else change.number


def _grown(flags: Flags, used: int, size: int, copy: bool) -> Flags:
    """The flags with room for `size`: the same buffer when it has the room and need not be copied."""
    if size <= len(flags) and not copy:
        return flags
    grown = np.zeros(max(size, len(flags)) if size <= len(flags) else size + size // 4 + 64, dtype=np.bool_)
    grown[:used] = flags[:used]
    return grown


def _top(scores: Scores, above: float, limit: int) -> NDArray[np.int64]:
    """The slots with the highest scores, best first, of those whose score lies above `above`."""
    blocks = len(scores) // _BLOCKS
    if blocks > limit:
        # The best so many maxima of disjoint blocks are so many scores: the least of them bounds the rest from below.
        maxima = scores[: blocks * _BLOCKS].reshape(_BLOCKS, blocks).max(axis=0)
        bound = np.partition(maxima, blocks - limit)[blocks - limit]
        slots = np.flatnonzero(scores >= bound if bound > above else scores > above)
    else:
        slots = np.flatnonzero(scores > above)
    values = scores[slots]
    if len(slots) > limit:
        best = np.argpartition(values, len(values) - limit)[len(values) - limit :]
        slots, values = slots[best], values[best]
    return slots[np.argsort(-values, kind="stable")]


def _cosines(scores: Scores) -> list[float | None]:
    return [None if score == -np.inf else score for score in scores.tolist()]


def _found(frame: Frame, mask: Flags | None, dense: Scores | None, words: Lexical, query: CandidateQuery) -> Candidates:
    lexical = words.scores
    by_words = _top(lexical, 0.0, query.limit)
    by_meaning = np.zeros(0, dtype=np.int64) if dense is None else _top(dense, -np.inf, query.limit)
    seeds = max(1, query.limit // 4)
    best = np.array(sorted({*by_words[:seeds].tolist(), *by_meaning[:seeds].tolist()}), dtype=np.int64)
    beside = frame.columns.neighbours(best, mask)
    slots = np.array(sorted({*by_words.tolist(), *by_meaning.tolist(), *beside.tolist()}), dtype=np.int64)
    columns = frame.columns
    nothing: list[float | None] = [None] * len(slots)
    matrix = frame.matrices.get(query.model)
    fields = zip(
        [columns.ids[slot] for slot in slots.tolist()],
        _cosines(dense[slots]) if dense is not None else nothing,
        lexical[slots].tolist(),
        [columns.session_names[code] if code >= 0 else None for code in columns.session[slots].tolist()],
        [position if position >= 0 else None for position in columns.position[slots].tolist()],
        (columns.time[slots] / 1000).tolist(),
        [columns.trusts[code] for code in columns.trust[slots].tolist()],
        frame.superseded[slots].tolist(),
        _cosines(matrix.opening(query.vector, slots)) if dense is not None and matrix is not None else nothing,
        strict=True,
    )
    found = list(map(Candidate._make, fields))
    return Candidates(found, "bm25", words.ceiling)
