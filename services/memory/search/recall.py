"""Recall: from a question to the few episodes that answer it, or to silence.

Embed the question, take candidates from the store under the filters, rank them, abstain when
nothing reaches the floor, fill the token budget, and remember what was retrieved.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from anamnesis.contracts.episodes import Episode, SearchExplanation, SearchHit, SearchRequest, SearchResponse
from services.memory.search.hits import Hits
from services.memory.search.ranking import DEFAULT_FLOOR, Ranked, rank, relevance, reranked, weights_of
from services.memory.search.rerank import DEPTH, WEIGHT, Reranker
from services.memory.search.text import passage, query_terms
from services.memory.stores.base import Candidate, CandidateQuery, Candidates, Filter, Vector

POOL = 100  # candidates by each side
CHARACTERS_PER_TOKEN = 4


class QueryEmbedder(Protocol):
    """Turns a question into a vector, by the model that is active when it is called."""

    async def query(self, text: str) -> tuple[str, Vector]:
        """The model's name and the (d) unit vector."""


class Searched(Protocol):
    """What is searched in: the store, or a part of it."""

    async def candidates(self, query: CandidateQuery) -> Candidates: ...

    async def get(self, episode_ids: Sequence[str]) -> dict[str, Episode]: ...


@dataclass(frozen=True)
class Recall:
    store: Searched
    embedder: QueryEmbedder
    hits: Hits
    reranker: Reranker | None = None
    unused: Callable[[Iterable[str]], Mapping[str, float]] = lambda episode_ids: {}
    """How far episodes sink because they were never of use."""

    async def search(self, request: SearchRequest) -> SearchResponse:
        """Answer one search; its hits are counted soon after, unless the request says otherwise.

        Other weights than the shipped ones change the order alone: the floor is compared with a relevance that they
        leave as it was calibrated, so that orders can be compared under the same silence.
        """
        model, vector = await self.embedder.query(request.query_text)
        query = CandidateQuery(
            model=model,
            vector=vector,
            terms=query_terms(request.query_text),
            where=Filter.of(request),
            limit=max(POOL, 2 * request.top_k),
        )
        candidates = await self.store.candidates(query)
        floor = DEFAULT_FLOOR if request.floor is None else request.floor
        relevant = relevance(candidates.found, candidates.ceiling)
        abstained = not candidates.found or relevant < floor
        hits, dropped = ([], 0) if abstained else await self._hits(candidates.found, request)
        if request.count:
            self.hits.add(hit.episode_id for hit in hits)
        explanation = SearchExplanation(
            model=model,
            lexical=candidates.lexical,
            relevance=relevant,
            floor=floor,
            considered=len(candidates.found),
            dropped_by_budget=dropped,
        )
        return SearchResponse(
            results=tuple(hits), abstained=abstained, explanation=explanation if request.explain else None
        )

    async def _ranked(self, found: Sequence[Candidate], request: SearchRequest) -> list[Ranked]:
        """The first of the order; where a reranker is configured, it judges the very first once more."""
        old = [one.episode_id for one in found if one.superseded]
        superseded = await self.store.get(old) if old else {}
        successors = {one.episode_id: one.superseded_by for one in superseded.values() if one.superseded_by}
        most = max(request.top_k, DEPTH)
        unused = self.unused(one.episode_id for one in found)
        weights = weights_of(request.ranking)
        ranked = rank(found, time.time(), weights, successors or None, most, unused)
        if self.reranker is None or not ranked:
            return ranked
        episodes = await self.store.get([one.candidate.episode_id for one in ranked[:DEPTH]])
        known = [one for one in ranked[:DEPTH] if one.candidate.episode_id in episodes]
        texts = [passage(one.summary, one.raw_exchange) for one in (episodes[c.candidate.episode_id] for c in known)]
        opinions = await self.reranker.judge(request.query_text, texts)
        return reranked(known, opinions, WEIGHT, successors or None) + ranked[DEPTH:]

    async def _hits(self, found: Sequence[Candidate], request: SearchRequest) -> tuple[list[SearchHit], int]:
        """The best episodes within the token budget, and how many did not fit.

        An episode too large to fit whole goes without its raw exchange; one whose summary does not
        fit either is dropped.
        """
        ranked = (await self._ranked(found, request))[: request.top_k]
        episodes = await self.store.get([one.candidate.episode_id for one in ranked])
        room = request.token_budget * CHARACTERS_PER_TOKEN if request.token_budget else None
        hits, dropped = list[SearchHit](), 0
        for one in ranked:
            episode = episodes.get(one.candidate.episode_id)
            if episode is None:  # deleted between the search and now
                continue
            if room is not None:
                if _size(episode) > room:
                    episode = episode.model_copy(update={"raw_exchange": None})
                if _size(episode) > room:
                    dropped += 1
                    continue
                room -= _size(episode)
            hits.append(
                SearchHit.model_construct(
                    **dict(episode), score=one.score, reasons=one.reasons if request.explain else None
                )
            )
        return hits, dropped


def _size(episode: Episode) -> int:
    return len(episode.summary) + len(episode.raw_exchange or "")
