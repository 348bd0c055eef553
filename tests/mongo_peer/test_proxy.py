"""The peer is held to what Atlas documents, so that a store that passes before it can be trusted before Atlas.

Run against a real Atlas or Atlas Local by naming it in `ANAMNESIS_TEST_MONGODB_URI`: these tests then hold the
documents of the vendor, and this file, to the server.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, cast

import bson
import numpy as np
import pytest
from bson.binary import Binary, BinaryVectorDtype
from hypothesis import given
from hypothesis import strategies as st
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure
from pymongo.operations import SearchIndexModel

from tests.mongo_peer import wire
from tests.mongo_peer.fixtures import URI_VARIABLE, Peer
from tests.mongo_peer.wire import Document

Client = AsyncMongoClient[Document]
ONLY_PEER = pytest.mark.skipif(URI_VARIABLE in os.environ, reason=f"{URI_VARIABLE} names a server that is not the peer")
DEFINITION: Document = {
    "fields": [
        {"type": "vector", "path": "embedding", "numDimensions": 3, "similarity": "cosine"},
        {"type": "filter", "path": "project"},
        {"type": "filter", "path": "year"},
    ]
}


class Films(NamedTuple):
    collection: AsyncCollection[Document]
    vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    """(n 3)"""


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what a real server takes a while to do."""
    async with asyncio.timeout(120):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.02)


async def listed(collection: AsyncCollection[Document], name: str) -> Document:
    """What the server says of an index; empty where there is none."""
    found = await (await collection.list_search_indexes(name)).to_list()
    return dict(found[0]) if found else {}


async def ready(collection: AsyncCollection[Document], name: str, version: int = 0) -> Document:
    """Wait for an index as the vendor's examples do."""

    described: Document = {}

    async def holds() -> bool:
        nonlocal described
        described = await listed(collection, name)
        latest = described.get("latestDefinitionVersion", {})
        grown = isinstance(latest, dict) and latest.get("version") == version
        return grown and bool(described["queryable"]) and described["status"] == "READY"

    await until(holds)
    return described


@pytest.fixture
async def films(mongo_client: Client, mongo_database: str) -> Films:
    collection = mongo_client[mongo_database]["films"]
    vectors = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    await collection.insert_many(
        [
            {"_id": i, "embedding": vectors[i].tolist(), "project": "ab"[i % 2], "year": 1980 + i, "title": f"film {i}"}
            for i in range(40)
        ]
    )
    await collection.create_search_index(SearchIndexModel(DEFINITION, name="vectors", type="vectorSearch"))
    await ready(collection, "vectors")
    films = Films(collection, vectors)

    async def whole() -> bool:
        return len(await run(films, stage(limit=40))) == 40

    await until(whole)  # an index that lags may be READY before it knows the last writes
    return films


def stage(**changes: object) -> Document:
    """A valid stage with changes; none takes a field away."""
    whole: Document = {"index": "vectors", "path": "embedding", "queryVector": [0.1, 0.2, 0.3], "limit": 5}
    whole |= {"numCandidates": 100} | changes
    return {"$vectorSearch": {name: value for name, value in whole.items() if value is not None}}


async def run(films: Films, *stages: Document) -> list[Document]:
    return await (await films.collection.aggregate(list(stages))).to_list()


async def refusal(films: Films, *stages: Document) -> tuple[int | None, str]:
    with pytest.raises(OperationFailure) as caught:
        await run(films, *stages)
    return caught.value.code, str(caught.value.details["errmsg"] if caught.value.details else caught.value)


def cosines(films: Films, question: Sequence[float]) -> list[float]:
    asked = np.asarray(question)
    norms = np.linalg.norm(films.vectors, axis=1) * np.linalg.norm(asked)
    return [float(value) for value in films.vectors @ asked / norms]


# Search indexes ---------------------------------------------------------------------------------


async def test_create_answers_with_the_documented_shape(mongo_client: Client, mongo_database: str) -> None:
    """`createSearchIndexes` answers `indexesCreated: [{id, name}]` and `ok: 1`."""
    database = mongo_client[mongo_database]
    await database.create_collection("contacts")
    answer = await database.command(
        {
            "createSearchIndexes": "contacts",
            "indexes": [{"name": "searchIndex01", "type": "vectorSearch", "definition": DEFINITION}],
        }
    )
    assert answer["ok"] == 1
    (created,) = answer["indexesCreated"]
    assert set(created) == {"id", "name"}
    assert created["name"] == "searchIndex01"
    assert re.fullmatch(r"[0-9a-f]{24}", created["id"])


async def test_list_describes_an_index_as_documented(films: Films) -> None:
    """`$listSearchIndexes` gives id, name, type, status, queryable, the latest definition and details by host."""
    described = await listed(films.collection, "vectors")
    assert {"id", "name", "type", "status", "queryable", "latestDefinition", "statusDetail"} <= set(described)
    assert (described["name"], described["type"], described["status"]) == ("vectors", "vectorSearch", "READY")
    assert cast(list[Document], cast(Document, described["latestDefinition"])["fields"])[0]["numDimensions"] == 3
    assert {"hostname", "status", "queryable"} <= set(cast(list[Document], described["statusDetail"])[0])
    assert cast(Document, described["latestDefinitionVersion"])["version"] == 0


async def test_a_new_index_is_not_queryable_at_once(mongo_client: Client, mongo_database: str) -> None:
    """Before READY a search is refused with code 8 and the state that the index is in."""
    collection = mongo_client[mongo_database]["fresh"]
    await collection.insert_one({"embedding": [1.0, 0.0, 0.0]})
    await collection.create_search_index(SearchIndexModel(DEFINITION, name="vectors", type="vectorSearch"))
    described = await listed(collection, "vectors")
    assert described["queryable"] is False
    assert described["status"] in {"PENDING", "BUILDING"}
    code, message = await refusal(Films(collection, np.zeros((1, 3), np.float32)), stage())
    assert code == 8
    assert re.search(r"cannot query vector index .* while in state (NOT_STARTED|INITIAL_SYNC)|not initialized", message)
    await ready(collection, "vectors")


async def test_an_updated_index_answers_by_its_old_definition_until_the_new_one_is_ready(films: Films) -> None:
    """`updateSearchIndex` answers `ok: 1`; queries go on meanwhile, and the version has grown by one."""
    fields = [*cast(list[Document], DEFINITION["fields"]), {"type": "filter", "path": "title"}]
    await films.collection.update_search_index("vectors", {"fields": fields})
    assert len(await run(films, stage())) == 5
    await ready(films.collection, "vectors", version=1)
    assert [hit["_id"] for hit in await run(films, stage(filter={"title": "film 3"}))] == [3]


async def test_a_dropped_index_is_gone(films: Films) -> None:
    """`dropSearchIndex` takes an index away, and a search by it finds nothing and says nothing."""
    await films.collection.drop_search_index("vectors")

    async def gone() -> bool:
        return await listed(films.collection, "vectors") == {}

    await until(gone)
    assert await run(films, stage()) == []


async def test_a_dropped_collection_takes_its_indexes_along(films: Films) -> None:
    """A collection made anew under the same name has no search index."""
    await films.collection.drop()
    await films.collection.insert_one({"embedding": [1.0, 0.0, 0.0]})
    assert await (await films.collection.list_search_indexes()).to_list() == []


async def test_an_index_needs_its_collection(mongo_client: Client, mongo_database: str) -> None:
    """`createSearchIndexes` on nothing is NamespaceNotFound."""
    collection = mongo_client[mongo_database]["nothing"]
    with pytest.raises(OperationFailure, match="does not exist") as caught:
        await collection.create_search_index(SearchIndexModel(DEFINITION, name="vectors", type="vectorSearch"))
    assert caught.value.code == 26


async def test_a_second_index_of_one_name_is_refused(films: Films) -> None:
    """Code 68, IndexAlreadyExists."""
    other: Document = {"fields": [{"type": "vector", "path": "e", "numDimensions": 2, "similarity": "cosine"}]}
    with pytest.raises(OperationFailure) as caught:
        await films.collection.create_search_index(SearchIndexModel(other, name="vectors", type="vectorSearch"))
    assert caught.value.code == 68


# $vectorSearch ----------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [True, False])
async def test_scores_are_half_of_one_plus_the_cosine_best_first(films: Films, exact: bool) -> None:
    """score = (1 + cosine) / 2 by `$meta: vectorSearchScore`, in descending order."""
    ways: Document = {"exact": True, "numCandidates": None} if exact else {}
    shown: Document = {"$project": {"_id": 1, "score": {"$meta": "vectorSearchScore"}}}
    hits = await run(films, stage(**ways), shown)
    expected = cosines(films, [0.1, 0.2, 0.3])
    order = sorted(range(40), key=lambda i: -expected[i])[:5]
    assert [hit["_id"] for hit in hits] == order
    assert [hit["score"] for hit in hits] == pytest.approx([(1 + expected[i]) / 2 for i in order], abs=1e-6)


async def test_packed_vectors_are_the_same_as_lists(films: Films) -> None:
    """A BSON float32 vector is understood in documents and in questions."""
    packed = Binary.from_vector([0.1, 0.2, 0.3], BinaryVectorDtype.FLOAT32)
    await films.collection.insert_one({"_id": "packed", "embedding": packed, "project": "c", "year": 1})

    async def indexed() -> bool:
        hits = await run(films, stage(queryVector=packed, limit=1, filter={"project": "c"}))
        return [hit["_id"] for hit in hits] == ["packed"]

    await until(indexed)
    assert [hit["_id"] for hit in await run(films, stage(limit=1))] == ["packed"]


@pytest.mark.parametrize(
    ("filter_", "meant"),
    [
        ({"project": "a"}, lambda i: i % 2 == 0),
        ({"project": {"$eq": "b"}}, lambda i: i % 2 == 1),
        ({"project": {"$ne": "b"}}, lambda i: i % 2 == 0),
        ({"year": {"$gt": 2000, "$lte": 2005}}, lambda i: 20 < i <= 25),
        ({"year": {"$gte": 2000, "$lt": 2005}}, lambda i: 20 <= i < 25),
        ({"year": {"$in": [1981, 1983]}}, lambda i: i in {1, 3}),
        ({"year": {"$nin": [1981, 1983]}}, lambda i: i not in {1, 3}),
        ({"project": {"$exists": True}}, lambda i: True),
        ({"project": {"$not": {"$eq": "a"}}}, lambda i: i % 2 == 1),
        ({"$and": [{"project": "a"}, {"year": {"$lt": 1990}}]}, lambda i: i % 2 == 0 and i < 10),
        ({"$or": [{"project": "a"}, {"year": {"$lt": 1990}}]}, lambda i: i % 2 == 0 or i < 10),
        ({"$nor": [{"project": "a"}, {"year": {"$lt": 1990}}]}, lambda i: not (i % 2 == 0 or i < 10)),
    ],
)
async def test_each_documented_operator_filters_before_ranking(
    films: Films, filter_: Document, meant: Callable[[int], bool]
) -> None:
    """$eq $ne $gt $gte $lt $lte $in $nin $exists $not $and $or $nor leave exactly what they mean."""
    hits = await run(films, stage(limit=40, filter=filter_))
    assert {hit["_id"] for hit in hits} == {i for i in range(40) if meant(i)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"filter": {"title": "film 1"}}, "Path 'title' needs to be indexed as filter"),
        ({"filter": {"$and": [{"project": "a"}, {"title": "x"}]}}, "Path 'title' needs to be indexed as filter"),
        ({"filter": {"project": {"$in": []}}}, '"filter.project.$in" cannot be empty'),
        ({"path": "title"}, "title is not indexed as vector"),
        ({"queryVector": [1.0]}, "vector field is indexed with 3 dimensions but queried with 1"),
        ({"exact": True}, '"numCandidates" must be omitted when "exact" is set to true'),
        ({"numCandidates": None}, "numCandidates"),
        ({"numCandidates": 4}, "limit"),
        ({"numCandidates": 10_001}, "numCandidates"),
        ({"limit": 0}, "limit"),
        ({"limit": None}, "limit"),
        ({"filter": {"project": {"$regex": "a"}}}, "$regex"),
    ],
)
async def test_what_atlas_refuses_is_refused_in_its_words(films: Films, changes: Document, words: str) -> None:
    """Each misuse fails; where the wording is known it is the same."""
    _, message = await refusal(films, stage(**changes))
    assert words in message


async def test_vector_search_comes_first_or_not_at_all(films: Films) -> None:
    """Code 40602, Location40602."""
    code, message = await refusal(films, {"$match": {}}, stage())
    assert (code, "only valid as the first stage" in message) == (40602, True)


async def test_an_unknown_index_is_silence(films: Films) -> None:
    """A wrong index name finds nothing and is no error."""
    assert await run(films, stage(index="other")) == []


async def test_later_stages_see_what_was_found(films: Films) -> None:
    """$match, $group and $count work over the hits and nothing else."""
    assert await run(films, stage(limit=7), {"$count": "n"}) == [{"n": 7}]
    groups = await run(films, stage(limit=40), {"$group": {"_id": "$project", "n": {"$sum": 1}}})
    assert sorted((group["_id"], group["n"]) for group in groups) == [("a", 20), ("b", 20)]


@ONLY_PEER
async def test_search_is_refused_where_the_server_has_none(films: Films) -> None:
    """Without its text side the peer leaves `$search` to mongod, which does not know it."""
    code, message = await refusal(films, {"$search": {"index": "x", "text": {"query": "a", "path": "title"}}})
    assert (code, "$search" in message) == (40324, True)


@ONLY_PEER
async def test_hello_names_the_proxy_and_not_what_is_behind_it(mongo_peer: Peer, mongo_client: Client) -> None:
    """So a client that follows the topology stays with the proxy."""
    hello = await mongo_client.admin.command("hello")
    address = f"127.0.0.1:{mongo_peer.proxy.port}"
    assert (hello["me"], hello["primary"], hello["hosts"]) == (address, address, [address])
    async with Client(f"mongodb://{address}/?replicaSet=rs0", timeoutMS=5_000) as follower:
        assert (await follower.admin.command("ping"))["ok"] == 1


# The wire ---------------------------------------------------------------------------------------


@given(
    command=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\x00$"), min_size=1), st.integers(-(2**63), 2**63 - 1)
    ),
    documents=st.lists(st.dictionaries(st.sampled_from("abc"), st.text()), max_size=5),
    checksum=st.booleans(),
)
def test_sequences_are_put_back_into_their_command(
    command: Document, documents: list[Document], checksum: bool
) -> None:
    """A kind-1 section and the same documents inside the command are one and the same."""
    sequence = b"documents\x00" + b"".join(bson.encode(document) for document in documents)
    kind_1 = b"\x01" + (len(sequence) + 4).to_bytes(4, "little") + sequence
    flags = wire.CHECKSUM_PRESENT if checksum else 0
    body = flags.to_bytes(4, "little") + b"\x00" + bson.encode(command) + kind_1 + (b"sums" if checksum else b"")
    assert wire.decode(wire.Message(1, 0, wire.OP_MSG, body)) == {**command, "documents": documents}


@given(command=st.dictionaries(st.sampled_from(["find", "$db", "x"]), st.text()))
def test_a_request_reads_back_as_it_was_written(command: Document) -> None:
    """pack and decode are each other's opposite, and the name is the first key."""
    message = wire.request(7, command)
    assert wire.decode(message) == command
    assert wire.command_name(message) == next(iter(command), "").lower()
