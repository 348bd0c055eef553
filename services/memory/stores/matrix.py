"""The vectors of one embedding model in memory: a dense matrix of windows, and which episode owns which rows.

A matrix is a value: `extended` gives the next one and leaves the former as it was. Both share buffers; only rows
beyond the former's end are written, so whoever still reads the former sees no change. Only the newest one of a
line may be extended.

Legend: w windows, e entries (episodes with vectors), n slots, d width, k questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.memory.stores.base import Vectors
from services.memory.stores.postings import Flags, Slots

GATHER_BELOW = 0.4
"""Share of the windows under which picking rows is faster than scoring all of them (measured)."""
_BLOCK = 2048
"""Rows picked at a time: they stay in the processor's cache, and memory stays flat."""
_SEVERAL = 4
"""Questions from which one product of matrices beats a product of matrix and vector for each (measured)."""
_TILE = 256
"""Rows that such a product takes at a time (measured: a quarter faster than all at once)."""
_NOTHING = np.float32(-np.inf)

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Matrix:
    dimension: int
    rows: Vectors
    """(capacity d); the first `windows` are in use, in order of entry."""
    windows: int
    starts: NDArray[np.int64]
    """(e + 1): entry i owns rows [starts[i], starts[i + 1])."""
    entries: Slots
    """(n): a slot's entry, or -1."""
    dead: int = 0
    """Windows whose entry no slot points to any more."""
    aligned: bool = False
    """Entry i belongs to slot i, for all slots."""

    @classmethod
    def empty(cls, dimension: int, slots: int, room: int = 0) -> "Matrix":
        """No vectors yet for any of the slots; room for so many windows."""
        return cls(
            dimension=dimension,
            rows=np.empty((max(room, 64), dimension), dtype=np.float32),
            windows=0,
            starts=np.zeros(1, dtype=np.int64),
            entries=np.full(slots, -1, dtype=np.int32),
        )

    def extended(self, slots: int, items: Sequence[tuple[int, Vectors]]) -> "Matrix":
        """With so many slots in all, and with vectors (w d) for some of them; new ones replace a slot's old ones."""
        entries, rows, starts, dead = self.entries, self.rows, self.starts, self.dead
        if slots > len(entries) or items:
            entries = np.full(slots, -1, dtype=np.int32)
            entries[: len(self.entries)] = self.entries
        if not items:
            return Matrix(self.dimension, rows, self.windows, starts, entries, dead)
        counts = np.fromiter((len(vectors) for _, vectors in items), dtype=np.int64, count=len(items))
        end = self.windows + int(counts.sum())
        if end > len(rows):
            rows = np.empty((max(end, len(rows) * 3 // 2), self.dimension), dtype=np.float32)
            rows[: self.windows] = self.rows[: self.windows]
        rows[self.windows : end] = items[0][1] if len(items) == 1 else np.concatenate([v for _, v in items])
        for number, (slot, _) in enumerate(items, start=len(starts) - 1):
            former = int(entries[slot])
            if 0 <= former < len(starts) - 1:
                dead += int(starts[former + 1] - starts[former])
            elif former >= 0:
                dead += int(counts[former - len(starts) + 1])
            entries[slot] = number
        starts = np.concatenate((starts, self.windows + np.cumsum(counts)))
        aligned = slots == len(starts) - 1 and bool(np.array_equal(entries, np.arange(slots)))
        return Matrix(self.dimension, rows, end, starts, entries, dead, aligned)

    def without(self, slots: Sequence[int]) -> "Matrix":
        """Those slots have no vectors any more."""
        gone = self.entries[np.asarray(slots, dtype=np.int64)]
        gone = gone[gone >= 0]
        if not len(gone):
            return self
        entries = self.entries.copy()
        entries[np.asarray(slots, dtype=np.int64)] = -1
        dead = self.dead + int((self.starts[gone + 1] - self.starts[gone]).sum())
        return Matrix(self.dimension, self.rows, self.windows, self.starts, entries, dead)

    def compacted(self, kept: NDArray[np.int64]) -> "Matrix":
        """Only those old slots (ascending), numbered anew from 0, in buffers of its own."""
        old = self.entries[kept]
        having = np.flatnonzero(old >= 0)
        picked, counts = self._rows_of(old[having].astype(np.int64))
        entries = np.full(len(kept), -1, dtype=np.int32)
        entries[having] = np.arange(len(having), dtype=np.int32)
        rows = np.empty((max(len(picked) * 9 // 8, 64), self.dimension), dtype=np.float32)
        np.take(self.rows, picked, axis=0, out=rows[: len(picked)], mode="clip")
        starts = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
        return Matrix(self.dimension, rows, len(picked), starts, entries, aligned=len(having) == len(kept))

    def best(self, questions: Vectors) -> Scores:
        """(k d) -> (k n): cosine of each question and each slot's best window; -inf without vectors."""
        scores = _products(questions, self.rows[: self.windows])
        count = len(self.starts) - 1
        if self.windows > count:
            scores = np.maximum.reduceat(scores, self.starts[:-1], axis=1)
        if self.aligned:
            return scores
        out = np.full((len(questions), len(self.entries)), _NOTHING, dtype=np.float32)
        having = np.flatnonzero(self.entries >= 0)
        if len(having):
            out[:, having] = np.take(scores, self.entries[having], axis=1)
        return out

    def best_of(self, question: Vectors, slots: NDArray[np.int64]) -> Scores:
        """(d), slots (s) -> (s): the same for some slots only, by picking their rows."""
        out = np.full(len(slots), _NOTHING, dtype=np.float32)
        entries = self.entries[slots].astype(np.int64)
        having = np.flatnonzero(entries >= 0)
        if not len(having):
            return out
        picked, counts = self._rows_of(entries[having])
        scores = np.empty(len(picked), dtype=np.float32)
        block = np.empty((min(_BLOCK, len(picked)), self.dimension), dtype=np.float32)
        for at in range(0, len(picked), _BLOCK):
            some = picked[at : at + _BLOCK]
            np.take(self.rows, some, axis=0, out=block[: len(some)], mode="clip")
            np.dot(block[: len(some)], question, out=scores[at : at + len(some)])
        if len(picked) > len(counts):
            scores = np.maximum.reduceat(scores, np.concatenate(([0], np.cumsum(counts)[:-1])))
        out[having] = scores
        return out

    def opening(self, question: Vectors, slots: NDArray[np.int64]) -> Scores:
        """(d), slots (s) -> (s): cosine of the question and each slot's first window; -inf without vectors."""
        out = np.full(len(slots), _NOTHING, dtype=np.float32)
        entries = self.entries[slots]
        having = np.flatnonzero(entries >= 0)
        out[having] = self.rows[self.starts[entries[having]]] @ question
        return out

    def has(self, slots: NDArray[np.int64]) -> Flags:
        """(s): which of these slots have vectors."""
        return self.entries[slots] >= 0

    def firsts(self, slots: NDArray[np.int64]) -> Vectors:
        """(s d): a copy of the first window of each of these slots, which all have vectors."""
        return self.rows[self.starts[self.entries[slots]]]

    def _rows_of(self, entries: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row numbers of these entries, joined, and how many each has."""
        firsts = self.starts[entries]
        counts = self.starts[entries + 1] - firsts
        if int(counts.sum()) == len(entries):
            return firsts, counts
        shift = np.repeat(firsts - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
        return shift + np.arange(int(counts.sum()), dtype=np.int64), counts


def _products(questions: Vectors, windows: Vectors) -> Scores:
    """(k d), (w d) -> (k w). One question is answered at memory's speed, several from the processor's cache."""
    scores = np.empty((len(questions), len(windows)), dtype=np.float32)
    tile = _TILE if len(questions) > 1 else max(1, len(windows))
    for at in range(0, len(windows), tile):
        some = windows[at : at + tile]
        if len(questions) < _SEVERAL:
            for question, out in zip(questions, scores, strict=True):
                np.dot(some, question, out=out[at : at + tile])
        else:
            np.matmul(questions, some.T, out=scores[:, at : at + tile])
    return scores


def worth_picking(matrix: Matrix, mask: Flags) -> bool:
    """The mask leaves so few slots that `best_of` beats `best`."""
    return int(np.count_nonzero(mask)) < GATHER_BELOW * len(mask) and matrix.windows > 0
