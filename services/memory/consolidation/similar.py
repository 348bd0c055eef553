"""Which episodes are near-duplicates, from their vectors alone: plain functions of arrays, for a thread of their own.

Two episodes are as alike as the least alike part of them: their openings, and each window of the one beside the best
window of the other, both ways. So neither a long text vanishes behind a short one that it holds, nor a new paragraph
behind nine old ones. Openings alone find the pairs worth looking at, and miss none.

Legend: n episodes, p pairs, w windows, i items (an episode, or one that stands for several), d width.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.memory.stores.base import Vectors

MOST_NEAR = 64
"""Pairs that an episode keeps with those before it: its best. The rest of a heap of copies is met by later runs."""
_SCORES = 8 << 20
"""Cosines at a time: 32 MB."""
SLACK = 1e-5
"""What the cosine of two equal vectors may lack."""

Spent = Callable[[], bool]
"""Whether the time is over."""
Matrix = NDArray[np.float32]
"""(i i): how alike items are, symmetric."""


class Pairs(NamedTuple):
    left: NDArray[np.int32]
    """(p)"""
    right: NDArray[np.int32]
    """(p)"""
    cosine: NDArray[np.float32]
    """(p)"""
    complete: bool
    """False where the time was over before all were compared."""

    def only(self, chosen: NDArray[np.bool_]) -> "Pairs":
        """(p) -> these."""
        return Pairs(self.left[chosen], self.right[chosen], self.cosine[chosen], self.complete)


def pairs(openings: Vectors, least: float, fresh: NDArray[np.bool_] | None, spent: Spent) -> Pairs:
    """(n d): pairs whose openings have at least this cosine, each once; with `fresh` (n) one of them is fresh."""
    n = len(openings)
    asking = np.ones(n, dtype=np.bool_) if fresh is None else fresh
    rows = np.flatnonzero(asking)
    size = min(max(1, _SCORES // max(1, n)), max(1, len(rows)))
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    complete = True
    room = np.empty(size * n, dtype=np.float32)  # one for all: fresh pages cost as much as the products
    for at in range(0, len(rows), size):
        if spent():
            complete = False
            break
        some = rows[at : at + size]
        first = int(some[0]) if fresh is None else 0
        cosines = room[: len(some) * (n - first)].reshape(len(some), n - first)
        np.matmul(openings[some], openings[first:].T, out=cosines)
        row, column = np.nonzero(cosines >= least - SLACK)
        left, right = some[row], column + first
        # one of the asking is met from both sides: the one that comes first asks
        once = (right > left) | ~asking[right]
        row, left, right, scores = row[once], left[once], right[once], cosines[row[once], column[once]]
        kept = _best(row, scores)
        found.append((left[kept], right[kept], scores[kept]))
    if not found:
        none = np.zeros(0, dtype=np.int32)
        return Pairs(none, none, np.zeros(0, dtype=np.float32), complete)
    left, right, scores = (np.concatenate(part) for part in zip(*found, strict=True))
    return Pairs(left.astype(np.int32), right.astype(np.int32), scores, complete)


def _best(row: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Places of the best MOST_NEAR of each row (ascending)."""
    order = np.lexsort((-scores, row))
    starts = np.searchsorted(row, row[order])
    return np.sort(order[np.arange(len(row)) - starts < MOST_NEAR])


def components(n: int, found: Pairs) -> list[NDArray[np.int64]]:
    """The episodes that pairs tie together, by way of others too; each list ascends, those alone are left out."""
    label = np.arange(n)
    while True:
        before = label
        lower = np.minimum(label[found.left], label[found.right])
        label = label.copy()
        np.minimum.at(label, before[found.left], lower)
        np.minimum.at(label, before[found.right], lower)
        label = label[label]
        if np.array_equal(label, before):
            break
    order = np.argsort(label, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    return [part for part in parts if len(part) > 1]


def alike(items: Sequence[Sequence[Vectors]], spent: Spent) -> Matrix | None:
    """(i i): how alike items are, each given as the (w d) of its episodes: as the least alike of all of these.

    None where the time was over.
    """
    flat = [windows for item in items for windows in item]
    rows = np.concatenate(flat)
    counts = np.array([len(windows) for windows in flat])
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    best = np.empty((len(flat), len(flat)), dtype=np.float32)
    for at, (start, count) in enumerate(zip(starts.tolist(), counts.tolist(), strict=True)):
        if spent():
            return None
        cosines = rows[start : start + count] @ rows.T
        best[at] = np.maximum.reduceat(cosines, starts, axis=1).min(axis=0)
    openings = rows[starts]
    both = np.minimum(np.minimum(best, best.T), openings @ openings.T)
    firsts = np.concatenate(([0], np.cumsum([len(item) for item in items])[:-1]))
    whole: Matrix = np.minimum.reduceat(np.minimum.reduceat(both, firsts, axis=0), firsts, axis=1)
    return np.minimum(whole, whole.T)


def groups(alike: Matrix, least: Matrix, sizes: Sequence[int], most: int) -> list[list[int]]:
    """Items that belong together: within a group each two are at least as alike as `least` (i i) asks of them.

    Complete linkage: the two nearest groups become one as long as all of their members are near enough, so a chain
    of neighbours makes no group of strangers. `most` bounds the sum of `sizes` in a group. Ties go to what comes
    first; so do the members of a group, and groups.
    """
    link = np.where(alike >= least - SLACK, alike, -np.inf).astype(np.float32)
    np.fill_diagonal(link, -np.inf)
    members = [[item] for item in range(len(link))]
    size = np.array(sizes)
    link[size[:, None] + size > most] = -np.inf
    while len(link):
        one, other = divmod(int(np.argmax(link)), len(link))
        if link[one, other] == -np.inf:
            break
        members[one] += members[other]
        members[other] = []
        size[one] += size[other]
        joined = np.minimum(link[one], link[other])
        joined[[one, other]] = -np.inf
        joined[size + size[one] > most] = -np.inf
        link[one] = link[:, one] = joined
        link[other] = link[:, other] = -np.inf
    return sorted(sorted(group) for group in members if len(group) > 1)
