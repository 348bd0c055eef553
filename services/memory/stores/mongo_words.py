"""`$search` as MongoDB's search process has it, which is Lucene: BM25 scores, and what they could reach.

Scores are brought to the scale of this project's BM25: Lucene leaves the factor (k1 + 1) out.
"""

import asyncio
import time
from collections.abc import Sequence
from math import log1p
from typing import cast

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure

from services.memory.stores import mongo_index
from services.memory.stores.base import Filter
from services.memory.stores.mongo_documents import TEXT_INDEX, Stored, matching_words

K1 = 1.2
"""Lucene's constant for repeated terms."""
FREQUENCY_SECONDS = 60.0
"""How long a term's count of episodes is believed: idf moves slowly."""
MOST_FREQUENCIES = 20_000
AT_ONCE = 8
"""Counts asked for side by side."""


class Lucene:
    """The lexical side of one collection of episodes."""

    def __init__(self, episodes: AsyncCollection[Stored]) -> None:
        self._episodes = episodes
        self._known: dict[str, tuple[float, int]] = {}

    async def answers(self) -> bool:
        """Whether the server has `$search`: one that does finds nothing by an index that is not there."""
        stage: Stored = {"index": "probe", "text": {"path": "terms_text", "query": "probe"}}
        try:
            await (await self._episodes.aggregate([{"$search": stage}, {"$limit": 1}])).to_list()
        except OperationFailure as error:
            if error.code not in mongo_index.NO_SEARCH:
                raise
            return False
        return True

    async def scores(
        self, terms: Sequence[str], where: Filter, limit: int, among: Sequence[str] = ()
    ) -> dict[str, float]:
        """Episode -> BM25, of the best `limit` under a filter; `among` = only these."""
        filters = matching_words(where)
        if among:
            filters.append({"in": {"path": "episode_id", "value": list(among)}})
        compound: Stored = {"must": [_text(" ".join(terms))]}
        if filters:
            compound["filter"] = filters
        cursor = await self._episodes.aggregate(
            [
                {"$search": {"index": TEXT_INDEX, "compound": compound}},
                {"$limit": limit},
                {"$project": {"_id": 1, "score": {"$meta": "searchScore"}}},
            ],
            batchSize=limit,
        )
        return {cast(str, hit["_id"]): cast(float, hit["score"]) * (K1 + 1) for hit in await cursor.to_list()}

    async def weights(self, terms: Sequence[str]) -> dict[str, float]:
        """Term -> what it can bring an episode at most: idf x (k1 + 1), over all episodes, whatever the filter."""
        now = time.monotonic()
        known = {term: self._known.get(term, (0.0, 0)) for term in terms}
        turn = asyncio.Semaphore(AT_ONCE)

        async def count(term: str) -> None:
            async with turn:
                known[term] = (now + FREQUENCY_SECONDS, await self._frequency(term))

        counting = asyncio.gather(*(count(term) for term, (until, _) in known.items() if until < now))
        episodes, _ = await asyncio.gather(self._episodes.estimated_document_count(), counting)
        if len(self._known) + len(known) > MOST_FREQUENCIES:
            self._known.clear()
        self._known.update(known)
        frequencies = {term: min(df, episodes) for term, (_, df) in known.items()}
        return {term: log1p((episodes - df + 0.5) / (df + 0.5)) * (K1 + 1) for term, df in frequencies.items()}

    async def _frequency(self, term: str) -> int:
        """In how many episodes a term occurs."""
        stage: Stored = {"index": TEXT_INDEX, **_text(term), "count": {"type": "total"}}
        found = await (await self._episodes.aggregate([{"$searchMeta": stage}])).to_list()
        return int(cast(int, cast(Stored, found[0]["count"])["total"])) if found else 0


def _text(words: str) -> Stored:
    return {"text": {"path": "terms_text", "query": words}}
