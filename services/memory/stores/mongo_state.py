"""State documents on MongoDB: small JSON values by kind and key, each with a version.

A value is kept as JSON text: exact for every number and every key, which BSON is not.
"""

import json
from collections.abc import Mapping, Sequence
from typing import cast

from pymongo import ASCENDING, DESCENDING, DeleteOne, ReturnDocument, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError

from anamnesis.contracts.base import JsonObject
from services.memory.stores.base import SCAN_BYTES, Document, Edit
from services.memory.stores.mongo_documents import Stored
from services.memory.stores.prefix import end_of

State = AsyncCollection[Stored]


async def read(state: State, kind: str, key: str) -> Document | None:
    found = await state.find_one({"_id": _id(kind, key)})
    return None if found is None else _document(found)


async def read_many(state: State, kind: str, keys: Sequence[str]) -> list[Document]:
    """Those that exist, in order of key."""
    query: Stored = {"_id": {"$in": [_id(kind, key) for key in keys]}}
    return [_document(found) async for found in state.find(query, sort=[("key", ASCENDING)])]


async def write(state: State, kind: str, key: str, value: JsonObject, expect: int | None) -> int | None:
    """Write, if the version is the expected one (0 = there is none; none = any); the new version, or none."""
    place: Stored = {"_id": _id(kind, key)}
    change: Stored = {"kind": kind, "key": key, "value": json.dumps(value)}
    if expect == 0:
        try:
            await state.insert_one({**place, **change, "version": 1})
        except DuplicateKeyError:
            return None
        return 1
    if expect is not None:
        place["version"] = expect
    found = await state.find_one_and_update(
        place,
        {"$set": change, "$inc": {"version": 1}},
        {"version": 1},
        upsert=expect is None,
        return_document=ReturnDocument.AFTER,
    )
    return None if found is None else cast(int, found["version"])


async def write_many(
    state: State, kind: str, values: Mapping[str, JsonObject], session: AsyncClientSession | None = None
) -> None:
    """Write documents whatever their versions are."""
    updates = [_put(kind, key, value) for key, value in values.items()]
    if updates:
        await state.bulk_write(updates, ordered=False, session=session)


async def edit(state: State, edits: Sequence[Edit], session: AsyncClientSession) -> bool:
    """Write and delete all of these, or nothing where one has not the version that is expected."""
    expected = {_id(one.kind, one.key): one.expect for one in edits if one.expect is not None}
    if expected:
        query: Stored = {"_id": {"$in": list(expected)}}
        versions = {
            cast(str, found["_id"]): cast(int, found["version"])
            async for found in state.find(query, {"version": 1}, session=session)
        }
        if any(versions.get(name, 0) != version for name, version in expected.items()):
            return False
    changes: list[UpdateOne | DeleteOne] = [
        DeleteOne({"_id": _id(one.kind, one.key)}) if one.value is None else _put(one.kind, one.key, one.value)
        for one in edits
    ]
    if changes:
        await state.bulk_write(changes, ordered=False, session=session)
    return True


async def list_(
    state: State,
    kind: str,
    prefix: str,
    after: str | None = None,
    skip: int = 0,
    limit: int | None = None,
    reverse: bool = False,
) -> list[Document]:
    """Those whose key begins with `prefix`, in order of key; see `base.Store.list`."""
    query = _range(kind, prefix)
    if after is not None:
        behind: Stored = {"key": {"$lt": after} if reverse else {"$gt": after}}
        query = {"$and": [query, behind]}
    found: list[Document] = []
    size = 0
    order = [("key", DESCENDING if reverse else ASCENDING)]
    async with state.find(query, sort=order, skip=skip, limit=limit or 0) as cursor:
        async for one in cursor:
            found.append(_document(one))
            size += len(cast(str, one["value"]))
            if limit is not None and size >= SCAN_BYTES:
                break
    return found


async def count_all(state: State, kind: str, prefix: str) -> int:
    """How many have a key that begins with `prefix`."""
    return await state.count_documents(_range(kind, prefix))


async def remove(state: State, kind: str, keys: Sequence[str], session: AsyncClientSession) -> None:
    await state.delete_many({"_id": {"$in": [_id(kind, key) for key in keys]}}, session=session)


async def count(state: State, kind: str, keys: Sequence[str]) -> int:
    """How many of these there are."""
    return await state.count_documents({"_id": {"$in": [_id(kind, key) for key in keys]}})


async def delete(state: State, kind: str, key: str) -> bool:
    return (await state.delete_one({"_id": _id(kind, key)})).deleted_count > 0


def _id(kind: str, key: str) -> str:
    return f"{kind}/{key}"


def _document(found: Stored) -> Document:
    return Document(cast(str, found["key"]), json.loads(cast(str, found["value"])), cast(int, found["version"]))


def _put(kind: str, key: str, value: JsonObject) -> UpdateOne:
    change: Stored = {"$set": {"kind": kind, "key": key, "value": json.dumps(value)}, "$inc": {"version": 1}}
    return UpdateOne({"_id": _id(kind, key)}, change, upsert=True)


def _range(kind: str, prefix: str) -> Stored:
    """Finds the keys which begin with `prefix` in the index."""
    query: Stored = {"kind": kind}
    if prefix:
        end = end_of(prefix)
        query["key"] = {"$gte": prefix} if end is None else {"$gte": prefix, "$lt": end}
    return query
