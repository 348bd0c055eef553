"""What this process has written lately, for searches to see before the search indexes do.

MongoDB's search indexes follow the data with a lag. The newest writes are therefore remembered for a while, scored
exactly, and joined to what an index finds. Vectors over a bound leave memory, the oldest first; a search reads them
from the database then. Beyond further bounds the oldest writes are forgotten, and found when the index has them.
"""

import time
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np

from services.memory.stores.base import Filter, Vector, Vectors
from services.memory.stores.mongo_documents import Meta, matches
from services.memory.stores.mongo_words import K1

DEFAULT_SECONDS = 30.0
MOST_WINDOWS = 16_384
"""In memory: 24 MB at 384 dimensions, 64 MB at 1,024."""
MOST_AWAY = 8_192
"""Windows that a search may have to read: some tenths of a second of it."""
MOST_EPISODES = 16_384


@dataclass(frozen=True)
class Written:
    """An episode as it was written."""

    meta: Meta
    terms: Mapping[str, int]
    """And how often each occurs."""
    vectors: Mapping[str, Vectors]
    """By model."""
    away: Mapping[str, int] = field(default_factory=dict)
    """Model -> how many vectors have left memory and are in the database alone."""
    at: float = field(default_factory=time.monotonic)

    @property
    def windows(self) -> int:
        return sum(len(vectors) for vectors in self.vectors.values())

    def without_vectors(self) -> "Written":
        left = {model: len(vectors) for model, vectors in self.vectors.items()}
        return replace(self, vectors={}, away={**self.away, **left})


class Recent:
    """The overlay of one store; used from its event loop only."""

    def __init__(
        self,
        seconds: float = DEFAULT_SECONDS,
        windows: int = MOST_WINDOWS,
        away: int = MOST_AWAY,
        episodes: int = MOST_EPISODES,
    ) -> None:
        self._seconds = seconds
        self._most_windows = windows
        self._most_away = away
        self._most_episodes = episodes
        self._entries: dict[str, Written] = {}
        """The oldest first."""
        self._emptied: dict[str, Written] = {}
        """Those whose vectors have left memory; all older than the others."""
        self._outdated: dict[str, float] = {}
        """Episode -> when its text was last replaced or removed."""
        self._windows = 0
        self._away = 0

    def put(self, episode_id: str, written: Written, rewritten: bool = False) -> None:
        """An episode was written: all of it that is known replaces what was known. `rewritten`: had another text."""
        self._pop(episode_id)
        if rewritten:
            self._outdate(episode_id)
        self._entries[episode_id] = written
        self._windows += written.windows
        self._away += sum(written.away.values())
        self._trim()

    def embed(self, episode_id: str, written: Written) -> None:
        """An episode got vectors by one more model."""
        known = self._entries.get(episode_id) or self._emptied.get(episode_id)
        if known is not None:
            away = {model: count for model, count in known.away.items() if model not in written.vectors}
            written = replace(written, vectors={**known.vectors, **written.vectors}, away=away)
        self.put(episode_id, written)

    def remove(self, episode_ids: Iterable[str]) -> None:
        for episode_id in episode_ids:
            self._pop(episode_id)
            self._outdate(episode_id)
        self._trim()

    def __len__(self) -> int:
        return len(self._entries) + len(self._emptied)

    @property
    def outdated(self) -> Set[str]:
        """Episodes of which an index may still hold a former text: what it says of them counts for nothing."""
        self._trim()
        return self._outdated.keys()

    def _outdate(self, episode_id: str) -> None:
        self._outdated.pop(episode_id, None)
        self._outdated[episode_id] = time.monotonic()

    def _pop(self, episode_id: str) -> Written | None:
        entry = self._entries.pop(episode_id, None) or self._emptied.pop(episode_id, None)
        if entry is not None:
            self._windows -= entry.windows
            self._away -= sum(entry.away.values())
        return entry

    def _trim(self) -> None:
        oldest = time.monotonic() - self._seconds
        for entries in (self._emptied, self._entries):
            while (first := next(iter(entries), None)) is not None and entries[first].at < oldest:
                self._pop(first)
        while self._windows > self._most_windows:
            first = next(iter(self._entries))
            if (entry := self._pop(first)) is not None:
                self._emptied[first] = entry = entry.without_vectors()
                self._away += sum(entry.away.values())
        while len(self) > self._most_episodes or (self._away > self._most_away and self._emptied):
            forgotten = next(iter(self._emptied or self._entries))
            self._pop(forgotten)
            self._outdated.pop(forgotten, None)  # the index is all that is left to ask
        while self._outdated:
            first, at = next(iter(self._outdated.items()))
            if at >= oldest and len(self._outdated) <= self._most_episodes:
                break
            del self._outdated[first]

    def cosines(self, model: str, question: Vector, where: Filter) -> dict[str, float]:
        """Episode -> cosine of its best window, of those in memory by this model that the filter leaves."""
        self._trim()
        chosen = {
            episode_id: entry.vectors[model]
            for episode_id, entry in self._entries.items()
            if len(entry.vectors.get(model, ())) and matches(where, entry.meta)
        }
        return best_cosines(chosen, question)

    def away(self, model: str, where: Filter) -> list[str]:
        """Episodes that the filter leaves whose vectors by this model a search must read from the database."""
        self._trim()
        return [
            episode_id
            for entries in (self._emptied, self._entries)
            for episode_id, entry in entries.items()
            if entry.away.get(model) and matches(where, entry.meta)
        ]

    def scores(self, weights: Mapping[str, float], where: Filter) -> dict[str, float]:
        """Episode -> BM25 as if it were of average length, of those that hold any of the terms.

        `weights`: what each term of the question can bring at most.
        """
        self._trim()
        scores: dict[str, float] = {}
        for entries in (self._emptied, self._entries):
            for episode_id, entry in entries.items():
                shared = weights.keys() & entry.terms.keys()
                if shared and matches(where, entry.meta):
                    scores[episode_id] = sum(
                        weights[term] * entry.terms[term] / (entry.terms[term] + K1) for term in shared
                    )
        return scores


def best_cosines(episodes: Mapping[str, Vectors], question: Vector) -> dict[str, float]:
    """Episode -> the cosine of its best window: (w d) each, at least one window each."""
    return dict(zip(episodes, best_windows(list(episodes.values()), question), strict=True)) if episodes else {}


def best_windows(episodes: Sequence[Vectors], question: Vector) -> list[float]:
    """The cosine of each episode's best window: (w d) each, at least one window each."""
    starts = np.cumsum([0, *(len(vectors) for vectors in episodes[:-1])])
    scores = np.concatenate(list(episodes)) @ np.asarray(question, dtype=np.float32)
    return [float(score) for score in np.maximum.reduceat(scores, starts)]
