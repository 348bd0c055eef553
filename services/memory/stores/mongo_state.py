"""State documents on MongoDB: small JSON values by kind and key, each with a version.

A value is kept as JSON text: exact for every number and every key, which BSON is not.
"""

import json
from collections.abc import Mapping, Sequence
from typing import cast

from pymongo import ASCENDING, ReturnDocument, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError

from anamnesis.contracts.base import JsonObject
from services.memory.stores.base import Document
from services.memory.stores.mongo_documents import Stored

State = AsyncCollection[Stored]


async def read(state: State, kind: str, key: str) -> Document | None:
    found = await state.find_one({"_id": _id(kind, key)})
    return None if found is None else _document(found)


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
    updates = [
        UpdateOne(
            {"_id": _id(kind, key)},
            {"$set": {"kind": kind, "key": key, "value": json.dumps(value)}, "$inc": {"version": 1}},
            upsert=True,
        )
        for key, value in values.items()
    ]
    if updates:
        await state.bulk_write(updates, ordered=False, session=session)


async def list_(state: State, kind: str, prefix: str) -> list[Document]:
    """Those whose key begins with `prefix`, in order of key."""
    query: Stored = {"kind": kind}
    if prefix:
        query["key"] = {"$gte": prefix, **_below(prefix)}
    return [_document(one) for one in await state.find(query, sort=[("key", ASCENDING)]).to_list()]


async def count(state: State, kind: str, keys: Sequence[str]) -> int:
    """How many of these there are."""
    return await state.count_documents({"_id": {"$in": [_id(kind, key) for key in keys]}})


async def delete(state: State, kind: str, key: str) -> bool:
    return (await state.delete_one({"_id": _id(kind, key)})).deleted_count > 0


def _id(kind: str, key: str) -> str:
    return f"{kind}/{key}"


def _document(found: Stored) -> Document:
    return Document(cast(str, found["key"]), json.loads(cast(str, found["value"])), cast(int, found["version"]))


def _below(prefix: str) -> Stored:
    """The upper bound of all keys that begin with `prefix`; none where it ends in the last character there is."""
    last = ord(prefix[-1])
    if last == 0x10FFFF:
        return {}
    after = 0xE000 if last == 0xD7FF else last + 1  # past the surrogates, which are no characters
    return {"$lt": prefix[:-1] + chr(after)}
