"""What this process has written lately, for searches to see before the search indexes do.

MongoDB's search indexes follow the data with a lag. The newest writes are therefore kept in memory for a while,
scored exactly, and joined to what an index finds. Bounded by age and by windows; the oldest go first.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from services.memory.stores.base import Filter, Vector, Vectors
from services.memory.stores.mongo_documents import Meta, matches
from services.memory.stores.mongo_words import K1

DEFAULT_SECONDS = 30.0
MOST_WINDOWS = 16_384
"""24 MB at 384 dimensions, 64 MB at 1,024."""
MOST_EPISODES = 16_384


@dataclass(frozen=True)
class Written:
    """An episode as it was written."""

    meta: Meta
    terms: Mapping[str, int]
    """And how often each occurs."""
    vectors: Mapping[str, Vectors]
    """By model."""
    at: float = field(default_factory=time.monotonic)

    @property
    def windows(self) -> int:
        return sum(len(vectors) for vectors in self.vectors.values())


class Recent:
    """The overlay of one store; used from its event loop only."""

    def __init__(
        self, seconds: float = DEFAULT_SECONDS, windows: int = MOST_WINDOWS, episodes: int = MOST_EPISODES
    ) -> None:
        self._seconds = seconds
        self._most_windows = windows
        self._most_episodes = episodes
        self._entries: dict[str, Written] = {}
        self._windows = 0

    def put(self, episode_id: str, written: Written) -> None:
        """An episode was written: all of it that is known replaces what was known."""
        self.drop([episode_id])
        self._entries[episode_id] = written
        self._windows += written.windows
        self._trim()

    def embed(self, episode_id: str, written: Written) -> None:
        """An episode got vectors by one more model."""
        known = self._entries.get(episode_id)
        if known is not None:
            written = replace(written, vectors={**known.vectors, **written.vectors})
        self.put(episode_id, written)

    def drop(self, episode_ids: Iterable[str]) -> None:
        for episode_id in episode_ids:
            entry = self._entries.pop(episode_id, None)
            if entry is not None:
                self._windows -= entry.windows

    def __len__(self) -> int:
        return len(self._entries)

    def _trim(self) -> None:
        oldest = time.monotonic() - self._seconds
        gone = []
        windows, episodes = self._windows, len(self._entries)
        for episode_id, entry in self._entries.items():
            if entry.at >= oldest and windows <= self._most_windows and episodes <= self._most_episodes:
                break
            gone.append(episode_id)
            windows, episodes = windows - entry.windows, episodes - 1
        self.drop(gone)

    def cosines(self, model: str, question: Vector, where: Filter) -> dict[str, float]:
        """Episode -> cosine of its best window, of those with vectors of this model that the filter leaves."""
        self._trim()
        chosen = [
            (episode_id, vectors)
            for episode_id, entry in self._entries.items()
            if len(vectors := entry.vectors.get(model, ())) and matches(where, entry.meta)
        ]
        if not chosen:
            return {}
        return dict(
            zip(
                [episode_id for episode_id, _ in chosen],
                best_windows([np.asarray(vectors) for _, vectors in chosen], question),
                strict=True,
            )
        )

    def scores(self, weights: Mapping[str, float], where: Filter) -> dict[str, float]:
        """Episode -> BM25 as if it were of average length, of those that hold any of the terms.

        `weights`: what each term of the question can bring at most.
        """
        self._trim()
        scores: dict[str, float] = {}
        for episode_id, entry in self._entries.items():
            shared = weights.keys() & entry.terms.keys()
            if shared and matches(where, entry.meta):
                scores[episode_id] = sum(
                    weights[term] * entry.terms[term] / (entry.terms[term] + K1) for term in shared
                )
        return scores


def best_windows(episodes: Sequence[Vectors], question: Vector) -> list[float]:
    """The cosine of each episode's best window: (w d) each, at least one window each."""
    starts = np.cumsum([0, *(len(vectors) for vectors in episodes[:-1])])
    scores = np.concatenate(list(episodes)) @ np.asarray(question, dtype=np.float32)
    return [float(score) for score in np.maximum.reduceat(scores, starts)]
