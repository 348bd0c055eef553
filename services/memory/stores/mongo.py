"""The store on MongoDB with search indexes: Atlas Local under Compose, Atlas or a sharded cluster for a team.

An episode and its vectors are written in one transaction, acknowledged by a majority and journaled: after a
kill -9 either both are there or neither is. Every operation has a deadline. One process has a database open at a
time; others are refused. How documents look is in `mongo_documents`, what a write does in `mongo_write`, searching
in `mongo_search`, search indexes in `mongo_index`, the newest writes in `mongo_recent`, who may write in `mongo_lease`.

Longer than most modules: it is the whole protocol, each method short.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar, cast

import numpy as np
from pymongo import ASCENDING, DESCENDING, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.episodes import Amended, Amendment, CountBy, Episode, EpisodeStats, ForgetProof
from anamnesis.contracts.insight import Bucket, TimelinePoint
from anamnesis.kit.errors import Invalid, Unavailable
from services.memory.stores import mongo_documents as documents
from services.memory.stores import mongo_index, mongo_proof, mongo_state, mongo_write
from services.memory.stores.base import (
    SCAN_BYTES,
    CandidateQuery,
    Candidates,
    Document,
    Edit,
    Filter,
    Inserted,
    Joining,
    Openings,
    Record,
    Removal,
    Vectors,
)
from services.memory.stores.mongo_documents import EPISODES, MODELS, STATE, TEXT_INDEX, VECTOR_INDEX, Model, Stored
from services.memory.stores.mongo_lease import LEASE_SECONDS, Lease
from services.memory.stores.mongo_link import READ_SECONDS, WRITE_SECONDS, Link, is_duplicate, within
from services.memory.stores.mongo_recent import DEFAULT_SECONDS, Recent, Written
from services.memory.stores.mongo_search import EXACT_BELOW, Searcher

ATTEMPTS = 4
"""How often a write starts again because another one took an id or content in between."""
READ_BACK = 1_000
"""Episodes that are read back for searches after a change to many."""
WITHOUT_TEXT_OF_SEARCH = {"terms_text": 0}

T = TypeVar("T")


class _Opened(NamedTuple):
    link: Link
    searcher: Searcher
    lease: Lease


class MongoStore:
    """Episodes, vectors and state in one MongoDB database (see `base.Store`)."""

    def __init__(
        self,
        uri: str,
        database: str,
        *,
        index_seconds: float = 120.0,
        recent_seconds: float = DEFAULT_SECONDS,
        exact_below: int = EXACT_BELOW,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """`index_seconds`: how long `open` and `activate` wait for search indexes. `recent_seconds`: how long this
        process joins its own writes to searches; it must exceed the lag of the search indexes. `exact_below`: how
        many episodes under a filter are searched exactly. `lease_seconds`: how long the database stays ours after
        this process has crashed.
        """
        self._uri = uri
        self.database = database
        self._index_seconds = index_seconds
        self._recent = Recent(recent_seconds)
        self._exact_below = exact_below
        self._lease_seconds = lease_seconds
        self._opened: _Opened | None = None
        self._models: dict[str, Model] = {}
        self._active: str | None = None
        self._complete_below: dict[str, str] = {}
        """Model -> an id below which this process knows of no episode without its vectors."""

    # Life -------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Raises Unavailable when another process has the database."""
        link = Link(self._uri, self.database)
        searcher = Searcher(link, self._recent, self._exact_below)
        lease = Lease(link, self._lease_seconds)
        try:
            await lease.take()
            async with link.long(self._index_seconds):
                await mongo_index.make_all(link.collection(EPISODES), link.collection(STATE))
                await searcher.probe()
                if searcher.has_words:
                    episodes = link.collection(EPISODES)
                    await mongo_index.ensure(episodes, TEXT_INDEX, "search", documents.text_index())
                    await mongo_index.wait(episodes, TEXT_INDEX, self._index_seconds)
                async for found in link.collection(MODELS).find():
                    model = Model(str(found["_id"]), cast(int, found["dimension"]), str(found["collection"]))
                    await mongo_index.make_room(link.collection(model.collection), model.dimension)
                    await mongo_index.wait(link.collection(model.collection), VECTOR_INDEX, self._index_seconds)
                    self._models[model.name] = model
        except BaseException:
            await lease.release()
            await link.close()
            raise
        self._opened = _Opened(link, searcher, lease)

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.lease.release()
            await opened.link.close()

    async def ping(self) -> None:
        await self._lease.ensure()
        with within(READ_SECONDS):
            await self._of(STATE).find_one({}, {"_id": 1})

    @property
    def _open(self) -> _Opened:
        if self._opened is None:
            raise Unavailable("the store is not open")
        return self._opened

    @property
    def _link(self) -> Link:
        return self._open.link

    @property
    def _searcher(self) -> Searcher:
        return self._open.searcher

    @property
    def _lease(self) -> Lease:
        return self._open.lease

    def _of(self, collection: str) -> AsyncCollection[Stored]:
        return self._link.collection(collection)

    def _places(self) -> mongo_write.Places:
        windows = {model.name: self._of(model.collection) for model in self._models.values()}
        return mongo_write.Places(self._of(EPISODES), self._of(STATE), windows)

    async def _transact(
        self, work: Callable[[mongo_write.Places, AsyncClientSession], Awaitable[T]], long: bool = False
    ) -> T:
        """Run a write in a transaction; again when another write was faster at a unique key."""
        places, link, lease = self._places(), self._link, self._lease
        await lease.ensure()

        async def guarded(session: AsyncClientSession) -> T:
            done = await work(places, session)
            await lease.ensure()  # it may have lapsed meanwhile, were we paused: then nothing is committed
            return done

        async with link.long() if long else link.short():
            for _ in range(ATTEMPTS):
                try:
                    return await link.transaction(guarded)
                except PyMongoError as error:
                    if not is_duplicate(error):
                        raise
        raise Unavailable("other writers keep taking the same ids or content; try again")

    # Writing episodes -------------------------------------------------------------------------

    async def insert(self, records: Sequence[Record]) -> list[Inserted]:
        await self._prepare_for(records)
        return [
            result for batch in mongo_write.batches(records, mongo_write.weight) for result in await self._insert(batch)
        ]

    async def _insert(self, batch: Sequence[Record]) -> list[Inserted]:
        results = await self._transact(lambda places, session: mongo_write.insert(places, batch, session))
        for record, result in zip(batch, results, strict=True):
            if result.created:
                self._remember(record, record.episode.superseded_by is not None)
        return results

    async def replace(self, records: Sequence[Record]) -> list[bool]:
        await self._prepare_for(records)
        return [
            result
            for batch in mongo_write.batches(records, mongo_write.weight)
            for result in await self._replace(batch)
        ]

    async def _replace(self, batch: Sequence[Record]) -> list[bool]:
        found = await self._transact(lambda places, session: mongo_write.replace(places, batch, session))
        for record in batch:
            if (superseded := found.get(record.episode.episode_id)) is not None:
                self._remember(record, superseded, rewritten=True)
        return [record.episode.episode_id in found for record in batch]

    async def amend(self, amendments: Sequence[Amendment]) -> list[Amended]:
        done = await self._transact(lambda places, session: mongo_write.amend(places, amendments, session))
        await self._read_back(done.retagged)
        return done.results

    async def join(self, joinings: Sequence[Joining]) -> list[bool]:
        await self._prepare_for([one.record for one in joinings])
        return [await self._join(one) for one in joinings]

    async def _join(self, joining: Joining) -> bool:
        done = await self._transact(lambda places, session: mongo_write.join(places, joining, session))
        if done:
            self._remember(joining.record, False)
            await self._read_back(list(joining.members))
        return done

    async def remove(self, removal: Removal) -> tuple[int, int]:
        gone, windows, freed = await self._transact(
            lambda places, session: mongo_write.remove(places, removal, session), long=True
        )
        self._recent.remove(removal.episode_ids)
        await self._read_back(freed)
        return gone, windows

    async def supersede(self, episode_ids: Sequence[str], by: str | None) -> int:
        changed = await self._transact(lambda places, session: mongo_write.supersede(places, episode_ids, by, session))
        await self._read_back(changed)
        return len(changed)

    async def superseded_by(self, episode_id: str) -> list[str]:
        with within(READ_SECONDS):
            query: Stored = {"superseded": True, "superseded_by": episode_id}
            found = await self._of(EPISODES).find(query, {"_id": 1}, sort=[("_id", ASCENDING)]).to_list()
        return [cast(str, one["_id"]) for one in found]

    async def record_hits(self, hits: Mapping[str, int], at: datetime) -> None:
        updates = [
            UpdateOne({"_id": episode_id}, {"$inc": {"retrieval_count": count}, "$max": {"last_retrieved": at}})
            for episode_id, count in hits.items()
        ]
        if updates:
            await self._lease.ensure()
            with within(WRITE_SECONDS):
                await self._of(EPISODES).bulk_write(updates, ordered=False)

    async def _prepare_for(self, records: Sequence[Record]) -> None:
        """Make sure that every vector has a place of its size. Raises `Invalid`."""
        for record in records:
            if record.vectors is None:
                continue
            if record.episode.embedding_model is None:
                raise Invalid("vectors came without the name of their embedding model")
            await self._prepare_one(record.episode.embedding_model, record.vectors)

    async def _prepare_one(self, model: str, vectors: Vectors) -> None:
        if vectors.ndim != 2 or not vectors.size:
            raise Invalid(f"vectors must be a table of windows by dimensions, not of shape {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise Invalid("vectors must be finite")
        if model not in self._models or vectors.shape[1] != self._models[model].dimension:
            await self.prepare(model, vectors.shape[1])

    def _remember(self, record: Record, superseded: bool, rewritten: bool = False) -> None:
        """Let searches see a write before the indexes do, and re-embedding see what it lacks."""
        episode = record.episode
        meta = documents.Meta(episode.project, episode.instance, episode.tags, episode.timestamp, superseded)
        vectors = {} if record.vectors is None else {cast(str, episode.embedding_model): record.vectors}
        self._recent.put(episode.episode_id, Written(meta, dict(record.terms), vectors), rewritten)
        for model, below in self._complete_below.items():
            if model not in vectors:
                self._complete_below[model] = min(below, episode.episode_id)

    async def _read_back(self, episode_ids: Sequence[str]) -> None:
        """Let searches see episodes whose filter fields have changed.

        The write stands whether or not they can be read now; beyond READ_BACK ids the search index is waited for.
        """
        ids = list(episode_ids)[:READ_BACK]
        if not ids:
            return
        shown = {**dict.fromkeys(documents.FILTER_FIELDS, 1), "terms_text": 1}
        with within(WRITE_SECONDS):
            found = await self._of(EPISODES).find({"_id": {"$in": ids}}, shown, batch_size=READ_BACK).to_list()
            vectors = {model.name: await self._searcher.vectors(model, ids) for model in self._models.values()}
        for one in found:
            episode_id = cast(str, one["_id"])
            own = {model: known[episode_id] for model, known in vectors.items() if episode_id in known}
            self._recent.put(episode_id, _written(one, own))

    # Reading episodes -------------------------------------------------------------------------

    async def get(self, episode_ids: Sequence[str]) -> dict[str, Episode]:
        with within(READ_SECONDS):
            query: Stored = {"_id": {"$in": list(episode_ids)}}
            found = await self._of(EPISODES).find(query, WITHOUT_TEXT_OF_SEARCH).to_list()
        return {cast(str, one["_id"]): documents.to_episode(one, self._active) for one in found}

    async def find_content(self, hashes: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
        with within(READ_SECONDS):
            wanted = set(hashes)
            held = await mongo_write.holders(self._places(), wanted, None)
        return {content: episode_id for content, episode_id in held.items() if content in wanted}

    async def holding(self, hashes: Sequence[str]) -> list[str]:
        with within(READ_SECONDS):
            query: Stored = {"content_hash": {"$in": list(hashes)}}
            found = await self._of(EPISODES).find(query, {"_id": 1}, sort=[("_id", ASCENDING)]).to_list()
        return [cast(str, one["_id"]) for one in found]

    async def page(self, where: Filter, skip: int, limit: int) -> tuple[list[Episode], int]:
        query = documents.matching(where)
        async with self._link.long():
            total = await self._of(EPISODES).count_documents(query)
            cursor = self._of(EPISODES).find(
                query, WITHOUT_TEXT_OF_SEARCH, sort=[("timestamp", DESCENDING), ("_id", ASCENDING)]
            )
            found = await cursor.skip(skip).limit(limit).to_list() if limit > 0 else []
        return [documents.to_episode(one, self._active) for one in found], total

    async def scan(self, where: Filter, batch: int = 500) -> AsyncIterator[list[Episode]]:
        last = ""
        while True:
            query: Stored = {"$and": [{"_id": {"$gt": last}}, documents.matching(where)]}
            found: list[Episode] = []
            size = 0
            async with self._link.long():
                cursor = self._of(EPISODES).find(query, WITHOUT_TEXT_OF_SEARCH, sort=[("_id", ASCENDING)])
                async for one in cursor.limit(batch):
                    found.append(documents.to_episode(one, self._active))
                    size += documents.size(found[-1])
                    if size >= SCAN_BYTES:
                        break
                await cursor.close()
            if not found:
                return
            yield found
            last = found[-1].episode_id

    async def vectors(self, model: str, episode_ids: Sequence[str]) -> dict[str, Vectors]:
        known = self._models.get(model)
        if known is None:
            return {}
        with within(READ_SECONDS):
            return await self._searcher.vectors(known, episode_ids)

    async def proof(self, episode_ids: Sequence[str], hashes: Sequence[str], blocked: Sequence[str]) -> ForgetProof:
        link, has_words = self._link, self._searcher.has_words
        async with link.long():
            return await mongo_proof.left(link, list(self._models.values()), has_words, episode_ids, hashes, blocked)

    async def derived(self, episode_id: str) -> list[str]:
        seen, front = {episode_id}, [episode_id]
        async with self._link.long():
            while front:
                query: Stored = {"consolidated_from": {"$in": front}}
                children = self._of(EPISODES).find(query, {"_id": 1}, sort=[("_id", ASCENDING)])
                front = [child async for one in children if (child := cast(str, one["_id"])) not in seen]
                seen.update(front)
        return sorted(seen - {episode_id})

    async def stats(self, model: str) -> EpisodeStats:
        async with self._link.long():
            episodes = self._of(EPISODES)
            projects, instances = await self._count_by("project"), await self._count_by("instance")
            superseded = await episodes.count_documents({"superseded": True})
            without = await episodes.count_documents({"models": {"$ne": model}})
            times: Stored = {"_id": None, "first": {"$min": "$timestamp"}, "last": {"$max": "$timestamp"}}
            ends = await (await episodes.aggregate([{"$group": times}])).to_list()
            size = await self._link.database.command("dbStats")
        return EpisodeStats(
            episodes=sum(one.episodes for one in projects),
            superseded=superseded,
            without_vectors=without,
            projects=projects,
            instances=instances,
            earliest=cast(datetime, ends[0]["first"]) if ends else None,
            latest=cast(datetime, ends[0]["last"]) if ends else None,
            bytes_on_disk=int(cast(float, size["totalSize"])),
        )

    async def _count_by(self, path: str) -> tuple[CountBy, ...]:
        group: Stored = {"_id": f"${path}", "episodes": {"$sum": 1}, "latest": {"$max": "$timestamp"}}
        cursor = await self._of(EPISODES).aggregate([{"$group": group}, {"$sort": {"_id": 1}}])
        return tuple(
            CountBy(name=str(one["_id"]), episodes=cast(int, one["episodes"]), latest=cast(datetime, one["latest"]))
            for one in await cursor.to_list()
        )

    async def timeline(self, where: Filter, bucket: Bucket, limit: int) -> list[TimelinePoint]:
        async with self._link.long():
            cursor = await self._of(EPISODES).aggregate(documents.timeline(where, bucket, limit))
            return [documents.to_point(one) for one in await cursor.to_list()]

    async def openings(self, model: str, where: Filter, limit: int) -> Openings:
        known = self._models.get(model)
        if known is None:
            return Openings(0, [], [], np.empty((0, 0), dtype=np.float32))
        query: Stored = {"$and": [documents.matching(where), {"models": model}]}
        newest = [("timestamp", DESCENDING), ("_id", ASCENDING)]
        async with self._link.long():
            total = await self._of(EPISODES).count_documents(query)
            cursor = self._of(EPISODES).find(query, {"project": 1}, sort=newest)
            found = await cursor.limit(limit).to_list()
            vectors: dict[str, Vectors] = {}
            for start in range(0, len(found), READ_BACK):
                ids = [str(one["_id"]) for one in found[start : start + READ_BACK]]
                vectors |= await self._searcher.vectors(known, ids, {"window": 0})
        there = [one for one in found if one["_id"] in vectors]  # the others were deleted between the two reads
        return Openings(
            total,
            [str(one["_id"]) for one in there],
            [str(one["project"]) for one in there],
            np.concatenate([np.empty((0, known.dimension), np.float32), *(vectors[str(one["_id"])] for one in there)]),
        )

    # Search -----------------------------------------------------------------------------------

    async def candidates(self, query: CandidateQuery) -> Candidates:
        with within(READ_SECONDS):
            return await self._searcher.candidates(query, self._models.get(query.model))

    # Re-embedding -----------------------------------------------------------------------------

    async def missing(self, model: str, limit: int) -> list[Episode]:
        begin = self._complete_below.get(model, "")
        async with self._link.long():
            found = await self._missing_from(model, begin, limit)
            if len(found) < limit and begin:
                # A write whose answer was lost may have added some below: look again from the start before saying so.
                found = await self._missing_from(model, "", limit)
        self._complete_below[model] = cast(str, found[0]["_id"]) if found else ""
        return [documents.to_episode(one, self._active) for one in found]

    async def _missing_from(self, model: str, begin: str, limit: int) -> list[Stored]:
        query: Stored = {"_id": {"$gte": begin}, "models": {"$ne": model}}
        cursor = self._of(EPISODES).find(query, WITHOUT_TEXT_OF_SEARCH, sort=[("_id", ASCENDING)])
        return await cursor.limit(limit).to_list()

    async def count_missing(self, model: str) -> int:
        async with self._link.long():
            # Both from indexes alone; `$ne` would read every document, text and all, at each look.
            total = await self._of(EPISODES).count_documents({}, hint="_id_")
            return max(0, total - await self._of(EPISODES).count_documents({"models": model}))

    async def put_vectors(self, model: str, items: Mapping[str, tuple[str, Vectors]]) -> None:
        if not items:
            return
        for _, vectors in items.values():
            await self._prepare_one(model, vectors)
        for batch in mongo_write.batches(items.items(), lambda item: mongo_write.weight_of_vectors(item[1][1])):
            await self._put_vectors(model, dict(batch))

    async def _put_vectors(self, model: str, items: Mapping[str, tuple[str, Vectors]]) -> None:
        kept = await self._transact(lambda places, session: mongo_write.embed(places, model, items, session))
        for episode_id, one in kept.items():
            self._recent.embed(episode_id, _written(one, {model: items[episode_id][1]}))

    async def prepare(self, model: str, dimension: int) -> None:
        """Raises Invalid when the model has vectors of another dimension."""
        known = self._models.get(model)
        if known is not None and known.dimension == dimension:
            return
        made = Model(model, dimension, documents.collection_name(model))
        await self._lease.ensure()
        async with self._link.long():
            if known is not None and await self._of(known.collection).find_one({}, {"_id": 1}) is not None:
                raise Invalid(
                    f"the vectors of {model} have {known.dimension} dimensions, not {dimension}; drop them first"
                )
            await mongo_index.make_room(self._of(made.collection), dimension)
            entry: Stored = {"$set": {"dimension": dimension, "collection": made.collection}}
            await self._of(MODELS).update_one({"_id": model}, entry, upsert=True)
        self._models[model] = made

    async def activate(self, model: str) -> None:
        known = self._models.get(model)
        if known is not None:
            async with self._link.long(self._index_seconds):
                await mongo_index.wait(self._of(known.collection), VECTOR_INDEX, self._index_seconds)
        self._active = model

    async def drop_vectors(self, model: str) -> int:
        known = self._models.get(model)
        if known is None:
            return 0
        await self._lease.ensure()
        async with self._link.long():
            # The episodes first: what a crash leaves behind is then embedded again, and never missed.
            await self._of(EPISODES).update_many({"models": model}, {"$pull": {"models": model}})
            gone = await self._of(known.collection).count_documents({})
            await self._of(known.collection).drop()
            await self._of(MODELS).delete_one({"_id": model})
        del self._models[model]
        self._complete_below.pop(model, None)
        return gone

    # State documents --------------------------------------------------------------------------

    async def read(self, kind: str, key: str) -> Document | None:
        with within(READ_SECONDS):
            return await mongo_state.read(self._of(STATE), kind, key)

    async def read_many(self, kind: str, keys: Sequence[str]) -> "list[Document]":
        with within(READ_SECONDS):
            return await mongo_state.read_many(self._of(STATE), kind, keys)

    async def write(self, kind: str, key: str, value: JsonObject, expect: int | None = None) -> int | None:
        await self._lease.ensure()
        with within(WRITE_SECONDS):
            return await mongo_state.write(self._of(STATE), kind, key, value, expect)

    async def write_many(self, kind: str, values: Mapping[str, JsonObject]) -> None:
        await self._transact(lambda places, session: mongo_state.write_many(places.state, kind, values, session))

    async def edit(self, edits: Sequence[Edit]) -> bool:
        return await self._transact(lambda places, session: mongo_state.edit(places.state, edits, session))

    async def list(
        self,
        kind: str,
        prefix: str = "",
        *,
        after: str | None = None,
        skip: int = 0,
        limit: int | None = None,
        reverse: bool = False,
    ) -> "list[Document]":
        if limit is not None:
            with within(READ_SECONDS):
                return await mongo_state.list_(self._of(STATE), kind, prefix, after, skip, limit, reverse)
        async with self._link.long():
            return await mongo_state.list_(self._of(STATE), kind, prefix, after, skip, None, reverse)

    async def count(self, kind: str, prefix: str = "") -> int:
        with within(READ_SECONDS):
            return await mongo_state.count_all(self._of(STATE), kind, prefix)

    async def delete(self, kind: str, key: str) -> bool:
        await self._lease.ensure()
        with within(WRITE_SECONDS):
            return await mongo_state.delete(self._of(STATE), kind, key)


def _written(document: Stored, vectors: Mapping[str, Vectors]) -> Written:
    return Written(documents.meta(document), documents.counted(cast(str, document["terms_text"])), vectors)
