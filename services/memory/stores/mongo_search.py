"""Candidates on MongoDB: `$vectorSearch` and `$search` under one filter, joined with the newest writes.

The indexes propose; what they propose is then read from the database under the same filter, so a stale index can
neither show what is gone nor slip past a filter. Filters apply before ranking on every side.

How a MongoDB without `$search` is served: by meaning alone, and the answer says so.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple, cast

from pymongo.errors import OperationFailure

from anamnesis.kit.errors import Invalid, Unavailable
from services.memory.stores import mongo_index
from services.memory.stores.base import Candidate, CandidateQuery, Candidates, Filter, Vectors
from services.memory.stores.mongo_documents import (
    EMBEDDING,
    EPISODES,
    VECTOR_INDEX,
    Model,
    Stored,
    matching,
    pack,
    seconds,
    stacked,
)
from services.memory.stores.mongo_link import Link
from services.memory.stores.mongo_recent import Recent, best_cosines
from services.memory.stores.mongo_words import Lucene

EXACT_BELOW = 10_000
"""Episodes under a filter up to which a search is exact: the graph of an approximate one is no faster there."""
MOST_CANDIDATES = 10_000
"""The server's bound on `numCandidates`."""
OVERSAMPLING = 20
"""`numCandidates` for each window wanted, as the vendor advises."""
WINDOWS_AN_EPISODE = 4
"""Windows asked for at first for each episode wanted."""
SIZE_SECONDS = 2.0
"""How long a count of the episodes under a filter is believed."""
ABSENT = "absent: this MongoDB has no $search"
_SHOWN = ("session", "position", "timestamp", "trust", "superseded")
_PROJECTION = dict.fromkeys(_SHOWN, 1)


class Words(NamedTuple):
    """What the lexical side says."""

    scores: dict[str, float]
    whole: bool
    """All that share a word are in it."""
    ceiling: float


@dataclass
class Cosines:
    """What the dense side says: cosines by episode."""

    best: dict[str, float]
    """Of the nearest window."""
    opening: dict[str, float]
    """Of the first window."""


class Searcher:
    """Answers searches of one store."""

    def __init__(self, link: Link, recent: Recent, exact_below: int = EXACT_BELOW) -> None:
        self._link = link
        self._exact_below = exact_below
        self._recent = recent
        self._episodes = link.collection(EPISODES)
        self._sizes: dict[Filter, tuple[float, int]] = {}
        self._words = Lucene(self._episodes)
        self.has_words = False
        """Whether the server answers `$search`."""

    async def probe(self) -> None:
        """Find out what the server can."""
        self.has_words = await self._words.answers()

    async def candidates(self, query: CandidateQuery, model: Model | None) -> Candidates:
        """`model` none = nothing was ever embedded by it: found by words alone."""
        if model is not None and query.vector.shape != (model.dimension,):
            raise Invalid(f"the vectors of {model.name} have {model.dimension} dimensions, not {query.vector.shape}")
        meaning, words = await asyncio.gather(self._by_meaning(query, model), self._by_words(query))
        cosines = Cosines(meaning, {})
        best = [_top(meaning, query.limit), _top(words.scores if words else {}, query.limit)]
        seeds = {episode_id for side in best for episode_id in side[: max(1, query.limit // 4)]}
        known, beside = await asyncio.gather(
            self._read({episode_id for side in best for episode_id in side}, query.where),
            self._neighbours(seeds, query.where),
        )
        found = {**beside, **known}
        await asyncio.gather(
            self._fill_meaning(query, model, found, cosines),
            self._fill_words(query, found, words),
        )
        return Candidates(
            found=[_candidate(one, cosines, words) for one in found.values()],
            lexical=ABSENT if words is None else "$search",
            ceiling=None if words is None else words.ceiling,
        )

    # By meaning -------------------------------------------------------------------------------

    async def _by_meaning(self, query: CandidateQuery, model: Model | None) -> dict[str, float]:
        """Episode -> cosine of its best window."""
        if model is None:
            return {}
        size = await self._size(query.where)
        found = await self._nearest(query, model, size) if size else {}
        away = best_cosines(await self.vectors(model, self._recent.away(model.name, query.where)), query.vector)
        recent = self._recent.cosines(model.name, query.vector, query.where)
        return {**_without(found, self._recent.outdated), **away, **recent}

    async def _nearest(self, query: CandidateQuery, model: Model, size: int) -> dict[str, float]:
        """What `$vectorSearch` finds: windows, grouped to episodes; more windows where they crowd each other out."""
        wanted = min(query.limit, size)
        limit = min(max(wanted, query.limit) * WINDOWS_AN_EPISODE, MOST_CANDIDATES)
        while True:
            hits = await self._windows(query, model, limit, exact=size <= self._exact_below)
            found: dict[str, float] = {}
            for episode_id, cosine in hits:
                found.setdefault(episode_id, cosine)
            if len(found) >= wanted or len(hits) < limit or limit >= MOST_CANDIDATES:
                break
            limit = min(limit * 4, MOST_CANDIDATES)
        if not hits:
            await self._must_answer(model)
        return found

    async def _windows(self, query: CandidateQuery, model: Model, limit: int, exact: bool) -> list[tuple[str, float]]:
        """(episode, cosine) of the nearest windows, best first."""
        stage: Stored = {"index": VECTOR_INDEX, "path": EMBEDDING, "queryVector": pack(query.vector), "limit": limit}
        if exact:
            stage["exact"] = True
        else:
            stage["numCandidates"] = min(max(limit, OVERSAMPLING * limit), MOST_CANDIDATES)
        if where := matching(query.where):
            stage["filter"] = where
        shown: Stored = {"_id": 0, "episode_id": 1, "score": {"$meta": "vectorSearchScore"}}
        try:
            cursor = await self._link.collection(model.collection).aggregate(
                [{"$vectorSearch": stage}, {"$project": shown}], batchSize=limit
            )
            hits = await cursor.to_list()
        except OperationFailure as error:
            if "while in state" in str(error) or "not initialized" in str(error):
                raise Unavailable("MongoDB is still building the vector index; try again") from None
            raise
        return [(cast(str, hit["episode_id"]), 2 * cast(float, hit["score"]) - 1) for hit in hits]

    async def _must_answer(self, model: Model) -> None:
        """A search by an index that is not there finds nothing and says nothing: ask, before silence is believed."""
        collection = self._link.collection(model.collection)
        if await collection.find_one({}, {"_id": 1}) is None:
            return
        if not mongo_index.answers(await mongo_index.describe(collection, VECTOR_INDEX)):
            raise Unavailable(f"MongoDB's vector index of {model.name} is not ready; try again")

    async def _size(self, where: Filter) -> int:
        """How many episodes a filter leaves, up to one more than those that are searched exactly."""
        known = self._sizes.get(where)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        size = await self._episodes.count_documents(matching(where), limit=self._exact_below + 1)
        if len(self._sizes) > 256:
            self._sizes.clear()
        if size:  # that there is nothing is never believed for longer than a moment
            self._sizes[where] = (time.monotonic() + SIZE_SECONDS, size)
        return size

    async def _fill_meaning(
        self, query: CandidateQuery, model: Model | None, found: Mapping[str, Stored], cosines: Cosines
    ) -> None:
        """Cosines of the first windows, and of all windows of those that were found by words or as neighbours."""
        if model is None or not found:
            return
        lacking = [episode_id for episode_id in found if episode_id not in cosines.best]
        known = [episode_id for episode_id in found if episode_id in cosines.best]
        whole, first = await asyncio.gather(self.vectors(model, lacking), self.vectors(model, known, {"window": 0}))
        cosines.best.update(best_cosines(whole, query.vector))
        openings = {episode_id: vectors[:1] for part in (whole, first) for episode_id, vectors in part.items()}
        cosines.opening.update(best_cosines(openings, query.vector))

    async def vectors(self, model: Model, episode_ids: Sequence[str], only: Stored | None = None) -> dict[str, Vectors]:
        """The windows of those that have them, in order; `only` says which windows."""
        if not episode_ids:
            return {}
        cursor = self._link.collection(model.collection).find(
            {"episode_id": {"$in": list(episode_ids)}, **(only or {})},
            {"_id": 0, "episode_id": 1, EMBEDDING: 1},
            sort=[("episode_id", 1), ("window", 1)],
            batch_size=10_000,
        )
        return stacked(await cursor.to_list())

    # By words ---------------------------------------------------------------------------------

    async def _by_words(self, query: CandidateQuery) -> Words | None:
        """None where the server has no lexical side."""
        if not self.has_words:
            return None
        if not query.terms:
            return Words({}, whole=True, ceiling=0.0)
        scores, weights = await asyncio.gather(
            self._words.scores(query.terms, query.where, query.limit), self._words.weights(query.terms)
        )
        whole = len(scores) < query.limit
        known = _without(scores, self._recent.outdated)
        # The index may not know the newest writes yet: until it does, they count as texts of average length.
        recent = _without(self._recent.scores(weights, query.where), known.keys())
        unsure = [] if whole else list(_without(recent, self._recent.outdated))
        if unsure:  # those that it knows are behind its best: their scores are its own, too
            known.update(await self._words.scores(query.terms, query.where, len(unsure), unsure))
        return Words({**recent, **known}, whole, ceiling=sum(weights.values()))

    async def _fill_words(self, query: CandidateQuery, found: Mapping[str, Stored], words: Words | None) -> None:
        """Lexical scores of those that were found by meaning or as neighbours."""
        if words is None or words.whole:
            return
        lacking = [one for one in found if one not in words.scores and one not in self._recent.outdated]
        if lacking:
            words.scores.update(await self._words.scores(query.terms, query.where, len(lacking), lacking))

    # Both -------------------------------------------------------------------------------------

    async def _read(self, episode_ids: Iterable[str], where: Filter) -> dict[str, Stored]:
        """Those that exist and pass the filter now."""
        query: Stored = {"$and": [{"_id": {"$in": list(episode_ids)}}, matching(where)]}
        found = await self._episodes.find(query, _PROJECTION, batch_size=10_000).to_list()
        return {cast(str, one["_id"]): one for one in found}

    async def _neighbours(self, seeds: Iterable[str], where: Filter) -> dict[str, Stored]:
        """Those just before and just after the seeds in their sessions, of those that pass the filter."""
        ids = list(seeds)
        if not ids:
            return {}
        pipeline: list[Stored] = [
            {"$match": {"_id": {"$in": ids}, "session": {"$type": "string"}}},
            {"$project": {"session": 1, "order": 1}},
            *(self._beside(name, operator, direction, where) for name, operator, direction in _SIDES),
        ]
        found = await (await self._episodes.aggregate(pipeline, batchSize=len(ids))).to_list()
        sides = [cast(list[Stored], one[name]) for one in found for name, _, _ in _SIDES]
        return {cast(str, one["_id"]): one for side in sides for one in side}

    @staticmethod
    def _beside(name: str, operator: str, direction: int, where: Filter) -> Stored:
        same: Stored = {"$expr": {"$and": [{"$eq": ["$session", "$$s"]}, {operator: ["$order", "$$o"]}]}}
        pipeline = [
            {"$match": {"$and": [same, matching(where)]}},
            {"$sort": {"order": direction}},
            {"$limit": 1},
            {"$project": _PROJECTION},
        ]
        return {
            "$lookup": {"from": EPISODES, "let": {"s": "$session", "o": "$order"}, "pipeline": pipeline, "as": name}
        }


_SIDES = (("before", "$lt", -1), ("after", "$gt", 1))


def _without(scores: Mapping[str, float], those: Set[str]) -> dict[str, float]:
    return {episode_id: score for episode_id, score in scores.items() if episode_id not in those}


def _top(scores: Mapping[str, float], limit: int) -> list[str]:
    return sorted(scores, key=lambda episode_id: (-scores[episode_id], episode_id))[:limit]


def _candidate(document: Stored, cosines: Cosines, words: Words | None) -> Candidate:
    episode_id = cast(str, document["_id"])
    return Candidate(
        episode_id=episode_id,
        dense=cosines.best.get(episode_id),
        lexical=None if words is None else words.scores.get(episode_id, 0.0),
        session=cast(str | None, document["session"]),
        position=cast(int | None, document["position"]),
        timestamp=seconds(document["timestamp"]),
        trust=cast(str, document["trust"]),
        superseded=cast(bool, document["superseded"]),
        opening=cosines.opening.get(episode_id),
    )
