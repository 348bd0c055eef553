"""Indexes on MongoDB: made, brought up to date, and, for search indexes, awaited until they answer.

A search index answers when `$listSearchIndexes` says `queryable` and READY; before that a query is refused or
hangs, so nothing searches an index that was not awaited.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import cast

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure
from pymongo.operations import SearchIndexModel

from anamnesis.kit.errors import Unavailable
from services.memory.stores.mongo_documents import VECTOR_INDEX, Stored, vector_index

NO_SEARCH = {59, 115, 31082, 40324}
"""CommandNotFound, CommandNotSupported, SearchNotEnabled, unknown stage: a server without search."""
EXISTS = 68
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds


async def make_all(episodes: AsyncCollection[Stored], state: AsyncCollection[Stored]) -> None:
    """The database's own indexes; idempotent."""
    newest = [("timestamp", DESCENDING), ("_id", ASCENDING)]
    # `sole` leaves room for a replacement whose text another episode has already: only new ones must be unique.
    sole, superseded = {"sole": True}, {"superseded": True}
    await episodes.create_indexes(
        [
            IndexModel("episode_id", unique=True),
            IndexModel(["project", "content_hash"], unique=True, partialFilterExpression=sole),
            IndexModel(["content_hash", "project"]),
            IndexModel(newest),
            IndexModel([("project", ASCENDING), *newest]),
            IndexModel([("instance", ASCENDING), *newest]),
            IndexModel([("tags", ASCENDING), *newest]),
            IndexModel(["session", "order"]),
            IndexModel("superseded_by", partialFilterExpression=superseded),
            IndexModel("consolidated_from"),
            IndexModel("models"),
        ]
    )
    await state.create_index([("kind", ASCENDING), ("key", ASCENDING)], unique=True)


async def make_room(windows: AsyncCollection[Stored], dimension: int) -> None:
    """The collection and the indexes of a model's windows; idempotent."""
    await windows.create_index([("episode_id", ASCENDING), ("window", ASCENDING)], unique=True)
    await ensure(windows, VECTOR_INDEX, "vectorSearch", vector_index(dimension))


async def ensure(collection: AsyncCollection[Stored], name: str, kind: str, definition: Stored) -> None:
    """Make the index, or change it where its definition differs. Raises `Unavailable` without vector search."""
    try:
        present = await describe(collection, name)
        if present is None:
            model = SearchIndexModel(definition=definition, name=name, type=kind)
            try:
                await collection.create_search_index(model)
            except OperationFailure as error:
                if error.code != EXISTS:  # another process was faster
                    raise
        elif not _covers(cast(Mapping[str, object], present.get("latestDefinition", {})), definition):
            await collection.update_search_index(name, definition)
    except OperationFailure as error:
        if error.code in NO_SEARCH:
            raise Unavailable(
                "this MongoDB has no vector search; use MongoDB Atlas, Atlas Local, or a server with mongot"
            ) from None
        raise


async def describe(collection: AsyncCollection[Stored], name: str) -> Mapping[str, object] | None:
    """What the server says of an index; none where there is none."""
    found = await (await collection.list_search_indexes(name)).to_list(1)
    return found[0] if found else None


def answers(described: Mapping[str, object] | None) -> bool:
    return described is not None and bool(described.get("queryable")) and described.get("status") == "READY"


async def wait(collection: AsyncCollection[Stored], name: str, timeout: float) -> None:
    """Wait until the index answers. Raises `Unavailable` when it failed, or did not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while not answers(described := await describe(collection, name)):
        status = "missing" if described is None else str(described.get("status", "unknown"))
        if status == "FAILED":
            raise Unavailable(f"the search index {name} of {collection.name} cannot be built; see the server's log")
        if time.monotonic() + pause > deadline:
            raise Unavailable(f"the search index {name} of {collection.name} is {status} after {timeout:.0f} s")
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _covers(present: object, wanted: object) -> bool:
    """Whether everything wanted is there; servers add defaults of their own to a definition."""
    if isinstance(wanted, Mapping):
        return isinstance(present, Mapping) and all(
            name in present and _covers(present[name], part) for name, part in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(present, list) and all(any(_covers(one, part) for one in present) for part in wanted)
    return present == wanted
