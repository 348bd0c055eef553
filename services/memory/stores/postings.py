"""Which episodes hold a term, as immutable arrays: the base of BM25 and of tag filters.

Owns the packed form of an episode's terms, segments of postings, their merging and the scoring. A term is known
by 64 bits of its BLAKE2b hash, so that no vocabulary outlives the episodes it came from; two of a million terms
share a hash with a probability of 3e-8. Slots are places in the in-memory index (see `index`).

Legend: n slots, p postings, t distinct terms.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

K1 = 1.2
B = 0.75
"""BM25's usual constants: saturation of repeated terms, and how far length counts. Atlas Search has the same, so that
one floor and one set of weights serve both stores; fused with the cosines, 0.9 measured no better."""

_KEY_BYTES = 8
_TIMES_BYTES = 2
_MOST = 0xFFFF
SMALL = 16_384
"""Postings below which a segment is always merged into its successor."""

Keys = NDArray[np.uint64]
Slots = NDArray[np.int32]
Times = NDArray[np.uint16]
Flags = NDArray[np.bool_]


def key(term: str) -> int:
    """The 64 bits by which a term or tag is known."""
    return int.from_bytes(blake2b(term.encode(), digest_size=_KEY_BYTES).digest(), "little")


def pack(terms: Mapping[str, int]) -> bytes:
    """An episode's terms and counts in 10 bytes each: all keys, then all counts (cut at 65,535)."""
    found = [(blake2b(term.encode(), digest_size=_KEY_BYTES).digest(), times) for term, times in terms.items() if times]
    counts = np.fromiter((min(times, _MOST) for _, times in found), dtype="<u2", count=len(found))
    return b"".join([digest for digest, _ in found]) + counts.tobytes()


def length(packed: bytes) -> int:
    """How many terms an episode has, repetitions counted."""
    return int(np.frombuffer(packed, dtype="<u2", offset=_distinct(packed) * _KEY_BYTES).sum(dtype=np.int64))


def _distinct(packed: bytes) -> int:
    return len(packed) // (_KEY_BYTES + _TIMES_BYTES)


@dataclass(frozen=True)
class Segment:
    """Postings in order of term: those of term i lie in [starts[i], starts[i + 1])."""

    keys: Keys
    """(t) ascending, each once."""
    starts: NDArray[np.int64]
    """(t + 1)"""
    slots: Slots
    """(p)"""
    times: Times
    """(p): how often the term occurs in the slot's episode."""

    @classmethod
    def of_packed(cls, slots: Sequence[int], packed: Sequence[bytes]) -> "Segment":
        """Terms of several episodes, as `pack` gave them."""
        counts = [_distinct(terms) for terms in packed]
        pairs = list(zip(packed, counts, strict=True))
        keys = np.frombuffer(b"".join([terms[: count * _KEY_BYTES] for terms, count in pairs]), dtype="<u8")
        times = np.frombuffer(b"".join([terms[count * _KEY_BYTES :] for terms, count in pairs]), dtype="<u2")
        return cls._sorted(keys, np.repeat(np.asarray(slots, dtype=np.int32), counts), times)

    @classmethod
    def of_tags(cls, tags: Iterable[tuple[int, str]]) -> "Segment":
        """(slot, tag) pairs."""
        pairs = list(tags)
        keys = np.fromiter((key(tag) for _, tag in pairs), dtype=np.uint64, count=len(pairs))
        slots = np.fromiter((slot for slot, _ in pairs), dtype=np.int32, count=len(pairs))
        return cls._sorted(keys, slots, np.ones(len(pairs), dtype=np.uint16))

    @classmethod
    def _sorted(cls, keys: Keys, slots: Slots, times: Times) -> "Segment":
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        first = _firsts(ordered)
        return cls(ordered[first], np.append(first, len(keys)), slots[order], times[order])

    def __len__(self) -> int:
        return len(self.slots)

    def spans(self, terms: Keys) -> Iterator[tuple[int, int, int]]:
        """(place, first, last) of those of the terms that have postings here; `place` is the term's among `terms`."""
        if not len(self.keys):
            return
        found = np.minimum(np.searchsorted(self.keys, terms), len(self.keys) - 1)
        for place in np.flatnonzero(self.keys[found] == terms).tolist():
            at = int(found[place])
            yield place, int(self.starts[at]), int(self.starts[at + 1])

    def moved(self, to: Slots) -> "Segment":
        """The same postings with slot s at to[s]; those with to[s] < 0 are left out, as are terms without any."""
        return self._left(to[self.slots])

    def without(self, pairs: Mapping[int, Sequence[int]]) -> "Segment":
        """Without the postings of these slots, by term."""
        slots = self.slots.copy()
        terms = np.fromiter(pairs, dtype=np.uint64, count=len(pairs))
        lists = list(pairs.values())
        for place, first, last in self.spans(terms):
            slots[first:last][np.isin(slots[first:last], lists[place])] = -1
        return self._left(slots)

    def _left(self, slots: Slots) -> "Segment":
        """The same postings at these slots; those below 0 are left out, as are terms without any."""
        kept = slots >= 0
        counts = np.add.reduceat(kept, self.starts[:-1], dtype=np.int64) if len(self) else np.zeros(0, np.int64)
        used = counts > 0
        starts = np.concatenate(([0], np.cumsum(counts[used])))
        return Segment(self.keys[used], starts, slots[kept], self.times[kept])


def _firsts(ordered: Keys) -> NDArray[np.int64]:
    """Where each distinct key of an ascending array begins."""
    changes = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=changes[1:])
    return np.flatnonzero(changes)


def _merged(one: Segment, two: Segment) -> Segment:
    """Both in one, in time linear in their postings; those of `one` come first within a term."""
    both = np.sort(np.concatenate((one.keys, two.keys)), kind="stable")
    keys = both[_firsts(both)]
    sizes = [np.diff(part.starts) for part in (one, two)]
    places = [np.searchsorted(keys, part.keys) for part in (one, two)]
    totals = np.zeros(len(keys), dtype=np.int64)
    for place, size in zip(places, sizes, strict=True):
        totals[place] += size
    starts = np.concatenate(([0], np.cumsum(totals)))
    slots = np.empty(int(starts[-1]), dtype=np.int32)
    times = np.empty(int(starts[-1]), dtype=np.uint16)
    begins = starts[:-1].copy()
    for part, place, size in zip((one, two), places, sizes, strict=True):
        shift = np.repeat(begins[place] - part.starts[:-1], size)
        target = shift + np.arange(len(part), dtype=np.int64)
        slots[target] = part.slots
        times[target] = part.times
        begins[place] += size
    return Segment(keys, starts, slots, times)


Segments = tuple[Segment, ...]
"""Oldest and largest first; sizes at least halve from one to the next, so there are few."""


def joined(segments: Segments, added: Segment, small: int = SMALL) -> Segments:
    """The segments with another one, merged where that keeps them few. Each posting is copied O(log p) times."""
    if not len(added):
        return segments
    parts = [*segments, added]
    while len(parts) > 1 and (len(parts[-1]) * 2 >= len(parts[-2]) or len(parts[-2]) < small):
        last = parts.pop()
        parts[-1] = _merged(parts[-1], last)
    return tuple(parts)


def without(segments: Segments, tags: Iterable[tuple[int, str]]) -> Segments:
    """The segments without these (slot, tag) pairs, in time linear in the postings."""
    pairs: dict[int, list[int]] = {}
    for slot, tag in tags:
        pairs.setdefault(key(tag), []).append(slot)
    return tuple(left for one in segments if len(left := one.without(pairs))) if pairs else segments


def flags(segments: Segments, term: int, n: int) -> Flags:
    """(n): which slots hold the term."""
    found = np.zeros(n, dtype=np.bool_)
    for segment in segments:
        for _, first, last in segment.spans(np.array([term], dtype=np.uint64)):
            found[segment.slots[first:last]] = True
    return found


@dataclass(frozen=True)
class Corpus:
    """What BM25 must know of all episodes that are alive."""

    norms: NDArray[np.float32]
    """(n): K1 x (1 - B + B x length / mean length)."""
    alive: Flags | None
    """(n); none = all."""
    episodes: int

    @classmethod
    def of(cls, lengths: NDArray[np.int32], alive: Flags | None, episodes: int, terms: int) -> "Corpus":
        """`lengths` (n) of all slots; `terms` is their sum over those alive."""
        mean = max(terms / max(episodes, 1), 1e-9)
        norms = lengths.astype(np.float32)
        norms *= np.float32(K1 * B / mean)
        norms += np.float32(K1 * (1 - B))
        return cls(norms, alive, episodes)


class Lexical(NamedTuple):
    scores: NDArray[np.float32]
    """(n)"""
    ceiling: float
    """What a slot could reach at most: the sum of idf x (K1 + 1) over the question's terms."""


def bm25(segments: Segments, terms: Iterable[int], corpus: Corpus, mask: Flags | None) -> Lexical:
    """BM25 of each slot for a question's distinct term keys; 0 outside the mask and where no term is shared.

    idf = ln(1 + (N - df + 0.5) / (df + 0.5)) over the episodes alive, whatever the mask.
    """
    keys = np.fromiter(terms, dtype=np.uint64)
    scores = np.zeros(len(corpus.norms), dtype=np.float32)
    frequencies = np.zeros(len(keys), dtype=np.int64)
    parts: list[tuple[int, Slots, Times]] = []
    for segment in segments:
        for term, first, last in segment.spans(keys):
            slots = segment.slots[first:last]
            alive = last - first if corpus.alive is None else int(np.take(corpus.alive, slots, mode="clip").sum())
            frequencies[term] += alive
            parts.append((term, slots, segment.times[first:last]))
    most = np.log1p((corpus.episodes - frequencies + 0.5) / (frequencies + 0.5)) * (K1 + 1)
    if parts:
        slots = np.concatenate([slots for _, slots, _ in parts])
        times = np.concatenate([times for _, _, times in parts])
        share = np.repeat(most[[term for term, _, _ in parts]].astype(np.float32), [len(s) for _, s, _ in parts])
        if mask is not None:
            kept = np.take(mask, slots, mode="clip")
            slots, times, share = slots[kept], times[kept], share[kept]
        often = times.astype(np.float32)
        share *= often
        often += np.take(corpus.norms, slots, mode="clip")
        share /= often
        np.add.at(scores, slots, share)
    return Lexical(scores, float(most.sum()))
