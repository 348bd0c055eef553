"""The proxy: between a client and mongod it answers what only Atlas can, and passes everything else through.

One upstream connection a client connection, one reply a request; so authentication, sessions,
transactions and cursors are the server's own, and whatever the proxy asks for a client is asked as that
client. Later stages of a pipeline run on mongod over the documents that the search found.

Not imitated: `$vectorSearch` inside `$unionWith`, and `$meta` scores after a stage that reshaped the
document (`$project`, `$group`) without carrying them on.
"""

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bson import Int64, Timestamp

from tests.mongo_peer import text_search, vector_search
from tests.mongo_peer.catalog import Catalog, SearchIndex
from tests.mongo_peer.errors import CommandError, executor
from tests.mongo_peer.wire import (
    MORE_TO_COME,
    OP_MSG,
    Document,
    Message,
    command_name,
    decode,
    read_message,
    reply,
    request,
    without_exhaust,
)

SCORE = "__peer_score"
RANK = "__peer_rank"
HELLO = {"hello", "ismaster"}
CARRIED = ("lsid", "$db", "$clusterTime", "maxTimeMS", "$readPreference", "txnNumber", "autocommit")
SNAPSHOT_GONE = {246, 239}  # SnapshotUnavailable, SnapshotTooOld: the collection was not there yet


class Upstream:
    """One connection to mongod, used by one task at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1_000_000_000)

    async def send(self, message: Message) -> None:
        self._writer.write(message.pack())
        await self._writer.drain()

    async def receive(self) -> Message:
        message = await read_message(self._reader)
        if message is None:
            raise ConnectionResetError("mongod closed the connection")
        return message

    async def run(self, command: Document) -> Document:
        """Run a command of our own on the client's connection. Raises what the server answers as an error."""
        await self.send(request(next(self._ids), command))
        answer = decode(await self.receive())
        if not answer.get("ok"):
            code, name = int(cast(int, answer.get("code", 8))), str(answer.get("codeName", "UnknownError"))
            raise CommandError(code, name, str(answer.get("errmsg", "")))
        return answer

    def close(self) -> None:
        self._writer.close()


@dataclass
class Counters:
    """What the proxy has answered itself, for tests to look at."""

    vector_searches: int = 0
    exact_searches: int = 0
    text_searches: int = 0


class Proxy:
    """Listens on `host`:`port` and talks to the mongod at `upstream_port`.

    `lag_seconds` hides writes younger than that from searches; `text` says whether `$search` is there.
    """

    def __init__(
        self,
        upstream_port: int,
        catalog_path: Path,
        *,
        pending_seconds: float = 0.2,
        lag_seconds: float = 0.0,
        text: bool = False,
    ) -> None:
        self.catalog = Catalog(catalog_path, pending_seconds)
        self.lag_seconds = lag_seconds
        self.frozen_at: Timestamp | None = None
        """An operation time at which searches stand still, whatever is written later (for some minutes)."""
        self.text = text
        self.counters = Counters()
        self.cut_after: str | None = None
        """Once: let the server run this command (lower case), then close instead of answering."""
        self.port = 0
        self._upstream_port = upstream_port
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._clock: deque[tuple[float, Timestamp]] = deque(maxlen=100_000)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server = await asyncio.start_server(self._accept, host, port, limit=2**20)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            connection = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self._upstream_port), 5)
            upstream = Upstream(*connection)
            try:
                await self._serve(reader, writer, upstream)
            finally:
                upstream.close()
        except (OSError, ValueError, TimeoutError, asyncio.CancelledError):
            pass  # either side went away or spoke nonsense, or `stop` ends us: the client sees a closed connection
        finally:
            self._clients.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: Upstream) -> None:
        host, port = writer.get_extra_info("sockname")[:2]
        while (message := await read_message(reader)) is not None:
            name = command_name(message)
            answer = await self._own_answer(message, name, upstream)
            if answer is None:
                await upstream.send(without_exhaust(message))
                if message.opcode == OP_MSG and message.flags & MORE_TO_COME:
                    continue  # the client wants no reply
                answer = await upstream.receive()
                if name == self.cut_after:
                    self.cut_after = None
                    return
                if name in HELLO:
                    answer = self._as_ours(message, answer, f"{host}:{port}")
                elif name in {"drop", "dropdatabase"}:
                    self._dropped(decode(message), decode(answer))
                if self.lag_seconds:
                    self._note_time(answer)
            writer.write(answer.pack())
            await writer.drain()

    def _as_ours(self, question: Message, answer: Message, address: str) -> Message:
        """mongod names itself in its hello; clients shall come back to us."""
        document = decode(answer)
        theirs = f"127.0.0.1:{self._upstream_port}"
        for name in ("me", "primary"):
            if document.get(name) == theirs:
                document[name] = address
        if isinstance(document.get("hosts"), list):
            document["hosts"] = [address if host == theirs else host for host in cast(list[object], document["hosts"])]
        document.pop("compression", None)
        return reply(question, document, answer.request_id)

    def _dropped(self, command: Document, answer: Document) -> None:
        if not answer.get("ok"):
            return
        collection = command.get("drop")
        self.catalog.forget(f"{command['$db']}.{collection}" if collection else f"{command['$db']}.")

    # What only Atlas answers --------------------------------------------------------------------

    async def _own_answer(self, message: Message, name: str, upstream: Upstream) -> Message | None:
        if message.opcode != OP_MSG:
            return None
        try:
            if name == "aggregate":
                command = decode(message)
                return await self._aggregate(message, command, upstream)
            if name in {"createsearchindexes", "updatesearchindex", "dropsearchindex"}:
                return reply(message, await self._change_index(name, decode(message), upstream))
        except CommandError as error:
            return reply(message, error.reply())
        return None

    async def _change_index(self, name: str, command: Document, upstream: Upstream) -> Document:
        collection = str(next(iter(command.values())))
        namespace = f"{command['$db']}.{collection}"
        await self._must_exist(command, collection, upstream)
        if name == "createsearchindexes":
            specifications = command.get("indexes")
            if not isinstance(specifications, list) or not specifications:
                raise CommandError(9, "FailedToParse", "BSON field 'createSearchIndexes.indexes' is missing")
            made = [self.catalog.create(namespace, specification) for specification in specifications]
            return {"indexesCreated": [{"id": index.id, "name": index.name} for index in made], "ok": 1.0}
        target = self._named(namespace, command)
        if name == "updatesearchindex":
            self.catalog.update(namespace, target, command.get("definition"))
        else:
            self.catalog.drop(namespace, target)
        return {"ok": 1.0}

    def _named(self, namespace: str, command: Document) -> str:
        if "name" in command:
            return str(command["name"])
        index = self.catalog.by_id(namespace, str(command.get("id")))
        if index is None:
            raise CommandError(27, "IndexNotFound", f"Index '{command.get('id')}' not found on '{namespace}'")
        return index.name

    async def _must_exist(self, command: Document, collection: str, upstream: Upstream) -> None:
        asked = {"listCollections": 1, "filter": {"name": collection}, "nameOnly": True, **_carried(command)}
        found = cast(Document, (await upstream.run(asked))["cursor"])["firstBatch"]
        if not found:
            raise CommandError(26, "NamespaceNotFound", f"Collection '{command['$db']}.{collection}' does not exist.")

    async def _aggregate(self, message: Message, command: Document, upstream: Upstream) -> Message | None:
        pipeline = cast(list[Document], command.get("pipeline") or [])
        names = [next(iter(stage), "") for stage in pipeline if isinstance(stage, Mapping)]
        if any(name == "$vectorSearch" for name in names[1:]):
            raise CommandError(40602, "Location40602", "$vectorSearch is only valid as the first stage in a pipeline")
        if not names:
            return None
        if names[0] == "$listSearchIndexes":
            return reply(message, self._list(command, pipeline[0]["$listSearchIndexes"], pipeline[1:]))
        if names[0] == "$searchMeta" and self.text:
            total = len(await self._text_search(command, pipeline[0]["$searchMeta"], upstream))
            return reply(message, _batch(_namespace(command), [{"count": {"total": Int64(total)}}]))
        if names[0] == "$vectorSearch":
            found = await self._vector_search(command, pipeline[0]["$vectorSearch"], upstream)
        elif names[0] == "$search" and self.text:
            found = await self._text_search(command, pipeline[0]["$search"], upstream)
        else:
            return None
        if not found:
            return reply(message, _batch(_namespace(command), []))
        command["pipeline"] = _later_stages(found, pipeline[1:])
        await upstream.send(request(message.request_id, command))
        return await upstream.receive()

    def _list(self, command: Document, wanted: object, later: list[Document]) -> Document:
        if later:
            raise CommandError(8, "UnknownError", "the peer lists search indexes without later stages only")
        wanted = wanted if isinstance(wanted, Mapping) else {}
        if "id" in wanted and "name" in wanted:
            raise CommandError(9, "FailedToParse", "Cannot set both 'name' and 'id' for $listSearchIndexes.")
        indexes = [
            index
            for index in self.catalog.of(_namespace(command))
            if wanted.get("name", index.name) == index.name and wanted.get("id", index.id) == index.id
        ]
        return _batch(_namespace(command), [self.catalog.describe(index) for index in indexes])

    async def _vector_search(self, command: Document, stage: object, upstream: Upstream) -> list[tuple[object, float]]:
        namespace = _namespace(command)
        query = vector_search.parse(stage, namespace)
        index = self.catalog.find(namespace, query.index)
        if index is None:
            return []  # as Atlas does: a wrong name is silence, not an error
        vector_search.check(query, self._serving(index, namespace), namespace)
        self.counters.vector_searches += 1
        self.counters.exact_searches += bool(cast(Document, stage).get("exact"))
        documents = await self._read(command, query.filter, {query.path: 1}, upstream)
        return await asyncio.to_thread(vector_search.best, query, documents)

    async def _text_search(self, command: Document, stage: object, upstream: Upstream) -> list[tuple[object, float]]:
        namespace = _namespace(command)
        query = text_search.parse(stage, namespace)
        index = self.catalog.find(namespace, query.index)
        if index is None:
            return []
        text_search.check(query, self._serving(index, namespace), namespace)
        self.counters.text_searches += 1
        documents = await self._read(command, {}, dict.fromkeys(query.paths(), 1), upstream)
        return await asyncio.to_thread(text_search.best, query, documents)

    def _serving(self, index: SearchIndex, namespace: str) -> Document:
        definition = self.catalog.serving(index)
        if definition is None:
            state = "NOT_STARTED" if self.catalog.status(index) == "PENDING" else "INITIAL_SYNC"
            kind = "vector" if index.type == "vectorSearch" else "search"
            what = f"cannot query {kind} index {index.id} ({kind} index {index.name}) while in state {state}"
            raise executor(namespace, what)
        return definition

    async def _read(
        self, command: Document, where: Document, projection: Document, upstream: Upstream
    ) -> list[Document]:
        """What the index knows: the collection as it was `lag_seconds` ago, or at `frozen_at`."""
        collection = str(command["aggregate"])
        find: Document = {"find": collection, "filter": where, "projection": projection, **_carried(command)}
        past = self.frozen_at is not None or self.lag_seconds > 0
        if past:
            seen = self.frozen_at or self._time_then()
            if seen is None:
                return []
            find["readConcern"] = {"level": "snapshot", "atClusterTime": seen}
        try:
            cursor = cast(Document, (await upstream.run(find))["cursor"])
        except CommandError as error:
            if past and error.code in SNAPSHOT_GONE:
                return []
            raise
        documents = cast(list[Document], cursor["firstBatch"])
        while cursor["id"]:
            more: Document = {"getMore": cursor["id"], "collection": collection, **_carried(command)}
            more.pop("maxTimeMS", None)
            cursor = cast(Document, (await upstream.run(more))["cursor"])
            documents.extend(cast(list[Document], cursor["nextBatch"]))
        return documents

    def _note_time(self, answer: Message) -> None:
        moment = decode(answer).get("operationTime")
        if isinstance(moment, Timestamp):
            self._clock.append((time.monotonic(), moment))

    def _time_then(self) -> Timestamp | None:
        """The latest operation time known `lag_seconds` ago."""
        then = time.monotonic() - self.lag_seconds
        with contextlib.suppress(StopIteration):
            return next(moment for at, moment in reversed(self._clock) if at <= then)
        return None


def _carried(command: Document) -> Document:
    return {name: command[name] for name in CARRIED if name in command}


def _namespace(command: Document) -> str:
    return f"{command['$db']}.{command['aggregate']}"


def _batch(namespace: str, documents: list[Document]) -> Document:
    return {"cursor": {"firstBatch": documents, "id": 0, "ns": namespace}, "ok": 1.0}


def _later_stages(found: list[tuple[object, float]], later: list[Document]) -> list[Document]:
    """A pipeline for mongod that begins with what was found, in order, and knows each one's score."""
    ids, scores = [id_ for id_, _ in found], [score for _, score in found]
    place: Document = {"$indexOfArray": [{"$literal": ids}, "$_id"]}
    return [
        {"$match": {"_id": {"$in": ids}}},
        {"$addFields": {RANK: place}},
        {"$addFields": {SCORE: {"$arrayElemAt": [{"$literal": scores}, f"${RANK}"]}}},
        {"$sort": {RANK: 1}},
        *(cast(Document, _with_score(stage)) for stage in later),
        {"$unset": [SCORE, RANK]},
    ]


def _with_score(value: object) -> object:
    if isinstance(value, Mapping):
        if value.get("$meta") in {"vectorSearchScore", "searchScore"} and len(value) == 1:
            return f"${SCORE}"
        return {name: _with_score(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_with_score(part) for part in value]
    return value
