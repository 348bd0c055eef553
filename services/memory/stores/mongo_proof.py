"""What is left of episodes on MongoDB: in the database, and in the search indexes themselves.

Hits of `$vectorSearch` and `$search` are looked up in the database before they are shown, so neither shows what is
gone; a count by `$searchMeta` is the text index's own, and says when it has followed.
"""

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np

from anamnesis.contracts.episodes import ForgetProof
from services.memory.stores import mongo_index, mongo_state
from services.memory.stores.base import BLOCKLIST
from services.memory.stores.mongo_documents import (
    EMBEDDING,
    EPISODES,
    STATE,
    TEXT_INDEX,
    VECTOR_INDEX,
    Model,
    Stored,
    pack,
)
from services.memory.stores.mongo_link import Link

MOST_HITS = 10_000
"""Hits of an index that are read: whether there are none is what matters."""


async def left(
    link: Link,
    models: Iterable[Model],
    has_words: bool,
    episode_ids: Sequence[str],
    hashes: Sequence[str],
    blocked: Sequence[str],
) -> ForgetProof:
    """`has_words`: the server answers `$search`."""
    ids: Stored = {"$in": list(episode_ids)}
    vectors = 0
    indexed: set[str] = set()
    for model in models:
        vectors += await link.collection(model.collection).count_documents({"episode_id": ids})
        indexed |= await _by_meaning(link, model, episode_ids)
    by_words = await _by_words(link, episode_ids) if has_words else 0
    return ForgetProof(
        by_id=await link.collection(EPISODES).count_documents({"_id": ids}),
        by_content=await link.collection(EPISODES).count_documents({"content_hash": {"$in": list(hashes)}}),
        vectors=vectors,
        index=max(len(indexed), by_words),
        blocklist=await mongo_state.count(link.collection(STATE), BLOCKLIST, blocked),
    )


async def _by_meaning(link: Link, model: Model, episode_ids: Sequence[str]) -> set[str]:
    """Those that the model's vector index finds; one that does not answer yet is not searched with either."""
    windows = link.collection(model.collection)
    if not episode_ids or not mongo_index.answers(await mongo_index.describe(windows, VECTOR_INDEX)):
        return set()
    anything = np.full(model.dimension, model.dimension**-0.5, dtype=np.float32)
    stage: Stored = {
        "index": VECTOR_INDEX,
        "path": EMBEDDING,
        "queryVector": pack(anything),
        "exact": True,
        "limit": MOST_HITS,
        "filter": {"episode_id": {"$in": list(episode_ids)}},
    }
    cursor = await windows.aggregate([{"$vectorSearch": stage}, {"$project": {"_id": 0, "episode_id": 1}}])
    return {cast(str, hit["episode_id"]) for hit in await cursor.to_list()}


async def _by_words(link: Link, episode_ids: Sequence[str]) -> int:
    """How many of them the text index holds."""
    if not episode_ids:
        return 0
    compound: Stored = {"filter": [{"in": {"path": "episode_id", "value": list(episode_ids)}}]}
    stage: Stored = {"index": TEXT_INDEX, "compound": compound, "count": {"type": "total"}}
    found = await (await link.collection(EPISODES).aggregate([{"$searchMeta": stage}])).to_list()
    return int(cast(int, cast(Stored, found[0]["count"])["total"])) if found else 0
