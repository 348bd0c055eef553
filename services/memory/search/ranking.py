"""How candidates become an order, and when the best of them is too little to return anything.

Pure functions over what a store found. Every term of a score is visible: value x weight, and the contributions add
up. The weights and the floor were measured (bench/results/beam.md says on what, and how they do on chats that
they were not chosen on); the floor holds for the shipped embedding model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from anamnesis.contracts.episodes import RankingWeights, Reason, Trust
from services.memory.stores.base import Candidate

DAY = 86_400.0  # seconds
SUPERSEDED = "superseded"
"""The term that lowers a superseded episode below its successor."""
UNUSED = "unused"
"""The term that lowers an episode which was put forward often and never of use."""
_MARGIN = 1e-6
"""By how much a superseded episode ends below its successor."""


@dataclass(frozen=True)
class Weights:
    """What each term counts. Values of the first three are shares of the best in the pool, 0..1."""

    dense: float = 0.2
    """For the cosine of an episode's best window."""
    opening: float = 0.45
    """For the cosine of its first window, which holds its summary; where that is not known, the best stands in."""
    lexical: float = 0.35
    """For BM25. Where it is missing altogether, or the cosines are, the other side takes its weight too."""
    neighbours: float = 0.05
    """For the better of an episode's two neighbours in its session: their value of the three terms above."""
    trust: float = 0.3
    """For the user's own words."""
    recency: float = 0.01
    """For an episode of this moment; halves with every half-life. No more than a tie-break."""
    half_life: float = 90 * DAY  # seconds
    unused: float = 0.05
    """By how much an episode sinks at most that was often put forward and never of use. Chosen to decide between
    near equals and no more; not measured, as no benchmark holds reports of use.
    """


DEFAULT = Weights()
DEFAULT_FLOOR = 0.32
"""Relevance below which nothing is returned."""
DENSE_ALONE = 0.87
"""Relevance of a cosine where there is no lexical side, so that one floor serves both."""
PARAPHRASE = 0.75
"""Relevance of a cosine where the lexical side is there but shares little: other words, another language, a store
too small for idf to mean much."""
LEXICAL_ALONE = 1.8
"""Relevance of a lexical share where no candidate has a vector."""

Values = NDArray[np.float64]
"""(c): one number a candidate."""


def weights_of(ranking: RankingWeights | None) -> Weights:
    """The shipped weights, with those that a request gives in their place."""
    if ranking is None:
        return DEFAULT
    terms = {field.name for field in fields(Weights)}
    given: dict[str, float] = ranking.model_dump(exclude_none=True, include=terms)
    return replace(DEFAULT, **given)


Terms = tuple[tuple[str, float, float], ...]
"""(name, value, weight) of every term of a score."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its score and what the score is made of."""

    candidate: Candidate
    score: float
    terms: Terms

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """The terms as clients see them; their contributions add up to the score."""
        return tuple(
            Reason(term=name, value=value, weight=weight, contribution=value * weight)
            for name, value, weight in self.terms
        )


def rank(
    candidates: Sequence[Candidate],
    now: float,
    weights: Weights = DEFAULT,
    successors: Mapping[str, str] | None = None,
    most: int | None = None,
    unused: Mapping[str, float] | None = None,
) -> list[Ranked]:
    """Order candidates, the best first and at most so many; ties by event time (newest first), then by id.

    `now` is in seconds since the epoch. `successors` tells which episode superseded which, and each superseded
    one then ends below its successor; where it is not known, superseded episodes end below all others. `unused`
    tells how far episodes sink that were never of use (0..1); where there is none, nothing changes.
    The order does not depend on the order of the input.
    """
    pool = sorted(candidates, key=lambda one: one.episode_id)
    if not pool:
        return []
    sides = _sides(pool, weights)
    fused = np.sum([values * weight for _, values, weight in sides], axis=0)
    ages = np.maximum(now - np.array([one.timestamp for one in pool]), 0.0)
    columns = [
        *sides,
        ("neighbours", _neighbours(pool, fused), weights.neighbours),
        ("trust", np.array([float(one.trust == Trust.USER) for one in pool]), weights.trust),
        ("recency", np.exp2(-ages / weights.half_life), weights.recency),
    ]
    scores = np.sum([values * weight for _, values, weight in columns], axis=0)
    known = unused if unused and weights.unused else {}
    sinking = {at: known[one.episode_id] for at, one in enumerate(pool) if known.get(one.episode_id)}
    for at, value in sinking.items():
        scores[at] -= value * weights.unused
    values = np.stack([values for _, values, _ in columns], axis=1)
    names, factors = [name for name, _, _ in columns], [weight for _, _, weight in columns]

    def terms(at: int) -> Terms:
        found = tuple(zip(names, values[at].tolist(), factors, strict=True))
        return (*found, (UNUSED, sinking[at], -weights.unused)) if at in sinking else found

    return _best(pool, scores, terms, successors, most)


def reranked(
    ranked: Sequence[Ranked], values: Sequence[float], weight: float, successors: Mapping[str, str] | None = None
) -> list[Ranked]:
    """Order again with another judge's opinion (0..1) of the first `len(values)`, as one more visible term.

    `successors` as for `rank`: superseded episodes stay below their successors.
    """
    opinions = dict(zip((one.candidate.episode_id for one in ranked), values, strict=False))
    terms = [
        (
            *(term for term in one.terms if term[0] != SUPERSEDED),
            ("reranker", opinions.get(one.candidate.episode_id, 0.0), weight),
        )
        for one in ranked
    ]
    scores = np.array([sum(value * factor for _, value, factor in several) for several in terms])
    return _best([one.candidate for one in ranked], scores, terms.__getitem__, successors, None)


def _best(
    pool: Sequence[Candidate],
    scores: Values,
    terms: Callable[[int], Terms],
    successors: Mapping[str, str] | None,
    most: int | None,
) -> list[Ranked]:
    """The first of the order, with their terms: those of all others would cost more than the ranking."""
    lowered = _lowered(pool, scores, successors)
    final = scores - lowered
    names, times = np.array([one.episode_id for one in pool]), np.array([-one.timestamp for one in pool])
    order = np.lexsort((names, times, -final))[:most].tolist()
    return [
        Ranked(
            pool[at],
            float(final[at]),
            (*terms(at), (SUPERSEDED, float(lowered[at]), -1.0)) if lowered[at] else terms(at),
        )
        for at in order
    ]


def relevance(candidates: Sequence[Candidate], ceiling: float | None = None, weights: Weights = DEFAULT) -> float:
    """How much the best candidate has to do with the question, 0..1: the number that the floor is compared with.

    Both sides of one candidate, on scales that do not depend on the pool: its cosine, and its BM25 as a share of
    `ceiling`, the sum of idf x (k1 + 1) over the question's terms (those that no episode holds included). A high
    cosine is enough by itself.
    """
    if not candidates:
        return 0.0
    cosines = np.array([0.0 if one.dense is None else max(one.dense, 0.0) for one in candidates])
    words = ceiling is not None and ceiling > 0 and any(one.lexical is not None for one in candidates)
    if not words or ceiling is None:
        return float(min(1.0, DENSE_ALONE * cosines.max()))
    shares = np.minimum(np.array([one.lexical or 0.0 for one in candidates]) / ceiling, 1.0)
    if all(one.dense is None for one in candidates):
        return float(min(1.0, LEXICAL_ALONE * shares.max()))
    meaning = weights.dense + weights.opening
    both = (meaning * cosines + weights.lexical * shares) / (meaning + weights.lexical)
    return float(min(1.0, max(both.max(), PARAPHRASE * cosines.max())))


def _sides(pool: Sequence[Candidate], weights: Weights) -> list[tuple[str, Values, float]]:
    """The terms by meaning and by words; a side that no candidate has weighs nothing."""
    meaning, words = weights.dense + weights.opening, weights.lexical
    both = meaning + words
    has_meaning = any(one.dense is not None for one in pool)
    has_words = any(one.lexical is not None for one in pool)
    if has_meaning != has_words:
        meaning, words = both * has_meaning, both * has_words
    part = weights.opening / ((weights.dense + weights.opening) or 1.0)
    return [
        ("dense", _shares([one.dense for one in pool]), meaning * (1 - part)),
        ("opening", _shares([one.dense if one.opening is None else one.opening for one in pool]), meaning * part),
        ("lexical", _shares([one.lexical for one in pool]), words),
    ]


def _shares(values: list[float | None]) -> Values:
    """Each as a share of the best; negative and unknown ones as 0."""
    found = np.array([0.0 if value is None else max(value, 0.0) for value in values])
    best = float(found.max())
    return found / best if best > 0 else found


def _neighbours(pool: Sequence[Candidate], fused: Values) -> Values:
    """The greater of the fused values of the candidates before and after each in its session; 0 without any."""
    places = [
        (one.session, one.position, at)
        for at, one in enumerate(pool)
        if one.session is not None and one.position is not None
    ]
    places.sort()
    order = np.array([at for _, _, at in places], dtype=np.intp)
    values = np.zeros(len(pool))
    if len(order) < 2:
        return values
    same = np.array([one[0] == two[0] for one, two in pairwise(places)])
    found = fused[order]
    lifts = np.zeros(len(order))
    lifts[1:] = np.where(same, found[:-1], 0.0)
    lifts[:-1] = np.maximum(lifts[:-1], np.where(same, found[1:], 0.0))
    values[order] = lifts
    return values


def _lowered(pool: Sequence[Candidate], scores: Values, successors: Mapping[str, str] | None) -> Values:
    """By how much each superseded candidate is lowered."""
    lowered = np.zeros(len(pool))
    old = np.array([one.superseded for one in pool])
    if not old.any():
        return lowered
    if successors is None:
        if not old.all():
            lowered[old] = max(0.0, float(scores[old].max() - scores[~old].min())) + _MARGIN
        return lowered
    place = {one.episode_id: at for at, one in enumerate(pool)}
    settled = {at: float(scores[at]) for at in np.flatnonzero(~old).tolist()}
    for start in np.flatnonzero(old).tolist():
        chain: list[int] = []
        at: int | None = start
        while at is not None and at not in settled and at not in chain:
            chain.append(at)
            at = place.get(successors.get(pool[at].episode_id, ""))
        for link in reversed(chain):
            above = place.get(successors.get(pool[link].episode_id, ""))
            bound = settled.get(above, np.inf) if above is not None else np.inf
            settled[link] = min(float(scores[link]), bound - _MARGIN)
            lowered[link] = scores[link] - settled[link]
    return lowered
