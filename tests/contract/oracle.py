"""What a search must find, said in plain loops over a list of records."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from services.memory.stores.base import CandidateQuery, Filter, Record
from services.memory.stores.postings import K1, B


def passes(record: Record, where: Filter) -> bool:
    episode = record.episode
    return (
        where.project in (None, episode.project)
        and where.instance in (None, episode.instance)
        and set(where.tags) <= set(episode.tags)
        and (where.since is None or episode.timestamp >= where.since)
        and (where.until is None or episode.timestamp < where.until)
        and (where.include_superseded or episode.superseded_by is None)
    )


def cosine(record: Record, model: str, vector: NDArray[np.float32]) -> float | None:
    if record.vectors is None or record.episode.embedding_model != model:
        return None
    return max(float(np.dot(window.astype(np.float64), vector.astype(np.float64))) for window in record.vectors)


def bm25(records: Sequence[Record], terms: Iterable[str]) -> tuple[Mapping[str, float], float]:
    """Episode id -> score over all records, and what a score could reach at most."""
    scores = dict.fromkeys((record.episode.episode_id for record in records), 0.0)
    ceiling = 0.0
    mean = sum(sum(record.terms.values()) for record in records) / max(len(records), 1)
    for term in set(terms):
        holding = [record for record in records if record.terms.get(term)]
        idf = log(1 + (len(records) - len(holding) + 0.5) / (len(holding) + 0.5))
        ceiling += idf * (K1 + 1)
        for record in holding:
            often = record.terms[term]
            norm = K1 * (1 - B + B * sum(record.terms.values()) / mean)
            scores[record.episode.episode_id] += idf * often * (K1 + 1) / (often + norm)
    return scores, ceiling


@dataclass(frozen=True)
class Expected:
    """All scores, and which episodes a search must and may find."""

    dense: Mapping[str, float | None]
    lexical: Mapping[str, float]
    ceiling: float
    must: frozenset[str]
    """Beyond doubt among the best, or beside one of the best."""
    may: frozenset[str]
    """The same with those that tie with the last of the best."""


def expected(records: Sequence[Record], query: CandidateQuery, words: bool) -> Expected:
    """`words`: the store has a lexical side whose scores are BM25."""
    allowed = [record for record in records if passes(record, query.where)]
    dense = {record.episode.episode_id: cosine(record, query.model, query.vector) for record in records}
    lexical, ceiling = bm25(records, query.terms)
    sides = [{r.episode.episode_id: s for r in allowed if (s := dense[r.episode.episode_id]) is not None}]
    if words:
        sides.append({r.episode.episode_id: s for r in allowed if (s := lexical[r.episode.episode_id]) > 0})
    must: set[str] = set()
    may: set[str] = set()
    for scores in sides:
        surely, maybe = _best(scores, query.limit)
        seeds = _best(scores, max(1, query.limit // 4))
        must |= surely | _beside(allowed, seeds[0])
        may |= maybe | _beside(allowed, seeds[1])
    return Expected(dense, lexical, ceiling, frozenset(must), frozenset(may))


def _best(scores: Mapping[str, float], limit: int, slack: float = 1e-4) -> tuple[set[str], set[str]]:
    """The best so many: those surely among them, and those that may be (within the precision of 32 bits)."""
    ordered = sorted(scores.values(), reverse=True)
    if len(ordered) <= limit:
        return set(scores), set(scores)
    inside, outside = ordered[limit - 1], ordered[limit]
    return (
        {name for name, score in scores.items() if score > outside + slack},
        {name for name, score in scores.items() if score >= inside - slack},
    )


def _beside(allowed: Sequence[Record], seeds: set[str]) -> set[str]:
    lines: dict[str, list[Record]] = {}
    for record in allowed:
        if record.episode.source.session is not None:
            lines.setdefault(record.episode.source.session, []).append(record)
    found: set[str] = set()
    for line in lines.values():
        line.sort(key=lambda record: (record.episode.source.position or 0, record.episode.timestamp))
        names = [record.episode.episode_id for record in line]
        for place, name in enumerate(names):
            if name in seeds:
                found.update(names[max(0, place - 1) : place + 2])
    return found
