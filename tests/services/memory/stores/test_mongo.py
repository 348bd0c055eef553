"""What only the MongoDB store can do wrong: a server that goes away, an index that lags, a commit whose answer is lost.

These run before a mongod of their own, because they kill it. What every store must do is in tests/contract.
"""

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pydantic import JsonValue
from pymongo import AsyncMongoClient
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DocumentTooLarge,
    DuplicateKeyError,
    ServerSelectionTimeoutError,
    WriteError,
)

from anamnesis.contracts.episodes import Episode, EpisodeSource
from anamnesis.kit.errors import AnamnesisError, StorageFull, TooLarge, Unavailable
from services.memory.stores.base import (
    CandidateQuery,
    Candidates,
    Document,
    Filter,
    Record,
    Removal,
    Store,
    Vector,
    Vectors,
)
from services.memory.stores.mongo import MongoStore
from services.memory.stores.mongo_documents import FILTER_FIELDS, Meta, collection_name, vector_index
from services.memory.stores.mongo_link import translated
from services.memory.stores.mongo_recent import Recent, Written
from services.memory.stores.mongo_search import EXACT_BELOW
from services.memory.stores.sqlite import SqliteStore
from tests.mongo_peer import mongod
from tests.mongo_peer.fixtures import Peer

ROOT = Path(__file__).parents[4]
MODEL = "test/eight-d"
WIDTH = 8
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
Plain = AsyncMongoClient[dict[str, object]]


def unit(seed: int, windows: int = 1) -> Vectors:
    """(windows WIDTH)"""
    rows = np.random.default_rng(seed).normal(size=(windows, WIDTH)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def record(
    number: int,
    *,
    text: str | None = None,
    vectors: Vectors | None = None,
    terms: dict[str, int] | None = None,
    tags: tuple[str, ...] = (),
    project: str = "p",
) -> Record:
    text = text or f"episode {number}"
    episode = Episode(
        episode_id=f"ep{number:05d}",
        timestamp=BEGIN + timedelta(minutes=number),
        ingested_at=BEGIN,
        instance="laptop",
        project=project,
        summary=text,
        tags=tags,
        source=EpisodeSource(kind="test", session=f"s{number // 10}", position=number % 10),
        embedding_model=MODEL,
        content_hash=hashlib.sha256(text.encode()).hexdigest(),
    )
    return Record(episode, unit(number) if vectors is None else vectors, terms or {f"word{number}": 1})


def ask(vector: Vector, *terms: str, where: Filter | None = None, limit: int = 4) -> CandidateQuery:
    return CandidateQuery(MODEL, vector, terms, where or Filter(), limit)


def nearest(found: Candidates) -> str | None:
    """The id of the best by meaning."""
    scored = [(one.dense, one.episode_id) for one in found.found if one.dense is not None]
    return max(scored)[1] if scored else None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    try:
        peer = Peer(tmp_path_factory.mktemp("own-mongo"))
    except mongod.Missing as error:
        pytest.skip(f"no mongod on this machine: {error}")
    try:
        peer.start()
        yield peer
    finally:
        peer.close()


@pytest.fixture
def peer(server: Peer) -> Iterator[Peer]:
    """The module's server as it is after a start, whatever the test before has done to it."""
    yield server
    server.proxy.lag_seconds = 0.0
    server.proxy.frozen_at = None
    server.proxy.text = False
    server.proxy.cut_after = None
    server.proxy.catalog.pending_seconds = 0.05
    if server.server.process is None:
        server.server.start()


@pytest.fixture
async def store(peer: Peer, request: pytest.FixtureRequest) -> AsyncIterator[MongoStore]:
    name = "t" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    opened = MongoStore(peer.uri, name)
    await opened.open()
    await opened.prepare(MODEL, WIDTH)
    await opened.activate(MODEL)
    yield opened
    await opened.close()


async def reopened(store: MongoStore, exact_below: int = EXACT_BELOW) -> MongoStore:
    """Another store over the same database, which has written nothing, and so sees by the index alone."""
    await store.close()
    another = MongoStore(store._uri, store.database, exact_below=exact_below)
    await another.open()
    return another


# A server that goes away ------------------------------------------------------------------------


async def test_without_a_server_every_call_ends_in_seconds(peer: Peer, store: MongoStore) -> None:
    """Reads and writes raise Unavailable within eight seconds once mongod is gone, and work when it is back."""
    await store.insert([record(1)])
    await store.ping()
    peer.server.kill()
    calls = {
        "ping": store.ping(),
        "get": store.get(["ep00001"]),
        "page": store.page(Filter(), 0, 10),
        "candidates": store.candidates(ask(unit(1)[0])),
        "insert": store.insert([record(2)]),
        "remove": store.remove(Removal(("ep00001",))),
        "stats": store.stats(MODEL),
        "write": store.write("settings", "a", {"b": 1}),
    }

    async def timed(call: object) -> float:
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            await call  # type: ignore[misc]
        return time.monotonic() - begun

    took = dict(zip(calls, await asyncio.gather(*(timed(call) for call in calls.values())), strict=True))
    assert {name: seconds for name, seconds in took.items() if seconds > 8} == {}
    assert max(took["ping"], took["get"], took["candidates"]) < 5

    await asyncio.to_thread(peer.server.start)
    await store.ping()
    assert set(await store.get(["ep00001", "ep00002"])) == {"ep00001"}
    assert nearest(await store.candidates(ask(unit(1)[0]))) == "ep00001"


async def test_a_write_that_meets_a_restart_happens_once(peer: Peer, store: MongoStore) -> None:
    """Repeating an insert until it is acknowledged leaves each record once, whatever the restart cut off."""
    records = [record(number) for number in range(40)]

    def again() -> None:
        peer.server.kill()
        peer.server.start()

    restart = asyncio.create_task(asyncio.to_thread(again))
    for at in range(0, 40, 8):
        batch = records[at : at + 8]
        async with asyncio.timeout(60):
            while True:
                try:
                    results = await store.insert(batch)
                    break
                except Unavailable:
                    continue
        assert all(
            result.created or result.duplicate_of == one.episode.episode_id
            for one, result in zip(batch, results, strict=True)
        )
    await restart
    page, total = await store.page(Filter(), 0, 100)
    assert (total, len({one.episode_id for one in page})) == (40, 40)
    assert set(await store.vectors(MODEL, [one.episode.episode_id for one in records])) == {
        one.episode.episode_id for one in records
    }


@pytest.mark.parametrize("command", ["committransaction", "insert"])
async def test_a_lost_answer_makes_no_duplicate(peer: Peer, store: MongoStore, command: str) -> None:
    """The connection dies after the server has done the work: the retry reports what this call wrote as created."""
    peer.proxy.cut_after = command
    results = await store.insert([record(number) for number in range(5)])
    assert peer.proxy.cut_after is None
    assert [result.created for result in results] == [True] * 5
    assert (await store.stats(MODEL)).episodes == 5
    assert (await store.insert([record(0)]))[0].duplicate_of == "ep00000"


@pytest.mark.slow
async def test_kill_nine_loses_nothing_that_was_acknowledged(peer: Peer, store: MongoStore) -> None:
    """Over a seeded loop of kill -9: every acknowledged id is there once, with its windows, and no window is astray."""
    dice = random.Random(5)
    acknowledged: set[str] = set()
    numbers = iter(range(100_000))
    grown = asyncio.Condition()

    async def write(stop: asyncio.Event) -> None:
        while not stop.is_set():
            batch = [record(next(numbers), vectors=unit(7, windows=2)) for _ in range(dice.randint(1, 6))]
            try:
                results = await store.insert(batch)
            except Unavailable:
                continue
            async with grown:
                acknowledged.update(
                    one.episode.episode_id for one, result in zip(batch, results, strict=True) if result.created
                )
                grown.notify_all()

    for _ in range(4):
        stop = asyncio.Event()
        writers = [asyncio.create_task(write(stop)) for _ in range(3)]
        wanted = len(acknowledged) + dice.randint(10, 40)
        async with grown, asyncio.timeout(60):
            while len(acknowledged) < wanted:
                await grown.wait()
        await asyncio.to_thread(peer.server.kill)
        stop.set()
        await asyncio.gather(asyncio.to_thread(peer.server.start), *writers)
    async with Plain(peer.uri) as client:
        database = client[store.database]
        episodes = [str(one["_id"]) async for one in database["episodes"].find({}, {"_id": 1})]
        windows = [str(one["episode_id"]) async for one in database[collection_name(MODEL)].find({}, {"episode_id": 1})]
    assert acknowledged <= set(episodes)
    assert len(episodes) == len(set(episodes))
    assert sorted(windows) == sorted(episodes * 2)


# One service at a time -------------------------------------------------------------------------


async def test_a_second_service_is_refused(peer: Peer, store: MongoStore) -> None:
    """While one has the database open another says who has it; once it is given back the next one has it at once."""
    await store.close()
    first = MongoStore(peer.uri, store.database, lease_seconds=5)
    await first.open()
    second = MongoStore(peer.uri, store.database)
    with pytest.raises(Unavailable, match=rf"another memory service .* process {os.getpid()}\)"):
        await second.open()
    assert await first.write("settings", "a", {"by": "first"}) == 1
    await first.close()
    await second.open()
    assert await second.write("settings", "a", {"by": "second"}) == 2
    await second.close()


_WRITING = """
import asyncio, sys
from services.memory.stores.mongo import MongoStore
from tests.contract.records import make_record

async def main(uri: str, database: str) -> None:
    store = MongoStore(uri, database, lease_seconds=3)
    await store.open()
    print("> open", flush=True)
    writes = {
        "state": lambda: store.write("settings", "a", {"by": "the first"}),
        "insert": lambda: store.insert([make_record("ep_late")]),
        "ping": store.ping,
    }
    while name := (await asyncio.to_thread(sys.stdin.readline)).strip():
        try:
            await writes[name]()
            print("> done", flush=True)
        except Exception as error:
            print(">", type(error).__name__, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


class _Child:
    """Another memory service's store, in a process of its own."""

    def __init__(self, uri: str, database: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WRITING, uri, database],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'shared'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self, write: str = "") -> str:
        """What it answers to a write, or what it says first; lines of its log lie between."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if write:
            self.process.stdin.write(f"{write}\n")
            self.process.stdin.flush()
        return next(line[2:].strip() for line in self.process.stdout if line.startswith("> "))


async def test_a_service_that_was_paused_writes_no_more(peer: Peer, store: MongoStore) -> None:
    """Once a lease has lapsed the next service has it by itself; the former one, awake again, is refused by itself."""
    await store.close()
    child = await asyncio.to_thread(_Child, peer.uri, store.database)
    try:
        assert await asyncio.to_thread(child.says) == "open"
        assert await asyncio.to_thread(child.says, "state") == "done"
        child.process.send_signal(signal.SIGSTOP)
        second = MongoStore(peer.uri, store.database)
        await second.open()
        child.process.send_signal(signal.SIGCONT)
        for name in ("state", "insert", "ping"):
            assert await asyncio.to_thread(child.says, name) == "Unavailable"
        assert await second.read("settings", "a") == Document("a", {"by": "the first"}, 1)
        assert await second.get(["ep_late"]) == {}
        await second.close()
        # What it remembers is out of date for good.
        assert await asyncio.to_thread(child.says, "state") == "Unavailable"
    finally:
        child.process.kill()
        await asyncio.to_thread(child.process.communicate, timeout=10)


async def test_an_outage_of_the_server_costs_nobody_the_lease(peer: Peer, store: MongoStore) -> None:
    """A lease that lapsed because the server was away is renewed by its holder, if nobody took it meanwhile."""
    await store.close()
    holder = MongoStore(peer.uri, store.database, lease_seconds=0.5)
    await holder.open()
    await asyncio.to_thread(peer.server.kill)
    with pytest.raises(Unavailable):
        await holder.ping()
    await asyncio.to_thread(peer.server.start)
    assert await holder.write("settings", "a", {}) == 1
    await holder.close()


# An index that lags -----------------------------------------------------------------------------


async def raw_hits(peer: Peer, store: MongoStore, vector: Vector) -> set[str]:
    """What the server's index knows by itself."""
    stage = {"index": "windows", "path": "embedding", "queryVector": vector.tolist(), "limit": 100, "exact": True}
    async with Plain(peer.uri) as client:
        cursor = await client[store.database][collection_name(MODEL)].aggregate([{"$vectorSearch": stage}])
        return {str(one["episode_id"]) for one in await cursor.to_list()}


async def test_writes_are_found_before_the_index_knows_them(peer: Peer, store: MongoStore) -> None:
    """Insert, replacement, put_vectors, supersession and removal show at once while the index lags by a minute."""
    peer.proxy.lag_seconds = 60.0
    await store.insert([record(number, tags=("kept",)) for number in range(6)])
    assert await raw_hits(peer, store, unit(3)[0]) == set()
    assert nearest(await store.candidates(ask(unit(3)[0]))) == "ep00003"
    assert nearest(await store.candidates(ask(unit(3)[0], where=Filter(tags=("kept",))))) == "ep00003"

    await store.replace([record(3, text="other words", vectors=unit(100))])
    assert nearest(await store.candidates(ask(unit(100)[0]))) == "ep00003"
    assert nearest(await store.candidates(ask(unit(100)[0], where=Filter(tags=("kept",))))) != "ep00003"

    await store.supersede(["ep00003"], "ep00004")
    current = Filter(include_superseded=False)
    assert nearest(await store.candidates(ask(unit(100)[0], where=current))) != "ep00003"
    assert nearest(await store.candidates(ask(unit(100)[0]))) == "ep00003"

    await store.remove(Removal(("ep00004",)))  # what it had superseded is current again
    found = await store.candidates(ask(unit(100)[0], where=current))
    assert nearest(found) == "ep00003"
    assert "ep00004" not in {one.episode_id for one in found.found}

    bare = record(7)._replace(vectors=None)
    await store.insert([bare])
    await store.put_vectors(MODEL, {"ep00007": (bare.episode.content_hash, unit(200))})
    assert nearest(await store.candidates(ask(unit(200)[0]))) == "ep00007"


async def test_a_stale_index_shows_nothing_that_is_gone_or_filtered_out(peer: Peer, store: MongoStore) -> None:
    """The index still holds what was removed and what was superseded; a search does not."""
    await store.insert([record(number) for number in range(6)])
    async with Plain(peer.uri) as client:
        peer.proxy.frozen_at = (await client.admin.command("ping"))["operationTime"]
    await store.remove(Removal(("ep00002",)))
    await store.supersede(["ep00003"], "ep00001")
    assert "ep00003" in await raw_hits(peer, store, unit(3)[0])
    ids = {one.episode_id for one in (await store.candidates(ask(unit(2)[0], limit=10))).found}
    assert "ep00002" not in ids
    current = Filter(include_superseded=False)
    ids = {one.episode_id for one in (await store.candidates(ask(unit(3)[0], where=current, limit=10))).found}
    assert "ep00003" not in ids

    await store.replace([record(1, text="other words", vectors=unit(100))])
    another = await reopened(store)
    dense = {one.episode_id: one.dense for one in (await another.candidates(ask(unit(1)[0], limit=10))).found}
    assert dense.get("ep00001") in (None, pytest.approx(float(unit(100)[0] @ unit(1)[0]), abs=1e-5))
    await another.close()


async def test_more_than_memory_holds_is_found_before_the_index_knows_it(peer: Peer, store: MongoStore) -> None:
    """Of three hundred acknowledged episodes of many windows each is found, those whose vectors left memory as well."""
    peer.proxy.lag_seconds = 60.0
    many = [record(number, vectors=unit(number, windows=64)) for number in range(300)]
    for start in range(0, 300, 50):
        await store.insert(many[start : start + 50])
    await store.replace([record(0, text="other words", vectors=unit(1000, windows=64))])
    for number in (1, 20, 43, 44, 150, 299):
        assert nearest(await store.candidates(ask(unit(number, windows=64)[63]))) == f"ep{number:05d}"
    assert nearest(await store.candidates(ask(unit(1000, windows=64)[63]))) == "ep00000"
    assert nearest(await store.candidates(ask(unit(0, windows=64)[63]))) != "ep00000"


def test_what_was_written_lately_is_bounded() -> None:
    """Age bounds what is remembered; over a bound the oldest vectors leave memory, and over the next the oldest go."""
    meta = Meta("p", "laptop", (), BEGIN, False)
    recent = Recent(seconds=60, windows=10, away=6, episodes=100)
    for number in range(8):
        recent.put(str(number), Written(meta, {"a": 1}, {MODEL: unit(number, windows=3)}))
    assert set(recent.cosines(MODEL, unit(0)[0], Filter())) == {"5", "6", "7"}
    assert recent.away(MODEL, Filter()) == ["3", "4"]
    assert set(recent.scores({"a": 1.0}, Filter())) == {"3", "4", "5", "6", "7"}
    recent.embed("3", Written(meta, {"a": 1}, {"another": unit(3)}))
    assert recent.away(MODEL, Filter()) == ["4", "3"]
    recent.put("3", Written(meta, {}, {MODEL: unit(3)}))
    recent.remove(["4", "5", "6"])
    assert recent.away(MODEL, Filter()) == []
    assert (set(recent.cosines(MODEL, unit(0)[0], Filter())), len(recent)) == ({"3", "7"}, 2)
    assert recent.outdated == {"4", "5", "6"}
    few = Recent(seconds=60, episodes=3)
    for number in range(5):
        few.put(str(number), Written(meta, {}, {MODEL: unit(number)}), rewritten=True)
    assert (len(few), few.outdated) == (3, {"2", "3", "4"})
    aged = Recent(seconds=0.05)
    aged.put("old", Written(meta, {"a": 1}, {MODEL: unit(1)}), rewritten=True)
    time.sleep(0.1)
    assert aged.cosines(MODEL, unit(1)[0], Filter()) == {}
    assert aged.scores({"a": 1.0}, Filter()) == {}
    assert aged.outdated == set()


# Search indexes ---------------------------------------------------------------------------------


async def test_activation_waits_until_the_index_answers(peer: Peer, store: MongoStore) -> None:
    """An index that takes its time is awaited, not queried; one that takes too long is Unavailable."""
    peer.proxy.catalog.pending_seconds = 600
    await store.prepare("slow/one", WIDTH)
    activating = asyncio.create_task(store.activate("slow/one"))
    done, _ = await asyncio.wait([activating], timeout=0.5)
    assert not done
    peer.proxy.catalog.pending_seconds = 0.05
    await activating
    assert (await store.candidates(ask(unit(1)[0])._replace(model="slow/one"))).found == []

    peer.proxy.catalog.pending_seconds = 60
    hasty = MongoStore(peer.uri, store.database + "_hasty", index_seconds=0.5)
    await hasty.open()
    await hasty.prepare(MODEL, WIDTH)
    with pytest.raises(Unavailable, match="PENDING"):
        await hasty.activate(MODEL)
    await hasty.insert([record(1)])
    with pytest.raises(Unavailable, match="building"):
        await hasty.candidates(ask(unit(1)[0]))
    await hasty.close()


async def test_a_vanished_index_is_said_and_not_taken_for_silence(peer: Peer, store: MongoStore) -> None:
    """The server finds nothing by an index that is not there; the store finds out and raises Unavailable."""
    await store.insert([record(1)])
    async with Plain(peer.uri) as client:
        await client[store.database][collection_name(MODEL)].drop_search_index("windows")
    with pytest.raises(Unavailable, match="vector index"):
        await store.candidates(ask(unit(1)[0]))


async def test_an_old_definition_is_brought_up_to_date(peer: Peer, store: MongoStore) -> None:
    """Opening a database whose index lacks a filter field adds the field."""
    old = {"fields": vector_index(WIDTH)["fields"][:3]}  # type: ignore[index]
    await store.insert([record(1)])
    async with Plain(peer.uri) as client:
        windows = client[store.database][collection_name(MODEL)]
        await windows.update_search_index("windows", old)
        again = await reopened(store)
        (described,) = await (await windows.list_search_indexes("windows")).to_list()
    paths = {field["path"] for field in described["latestDefinition"]["fields"] if field["type"] == "filter"}
    assert paths == set(FILTER_FIELDS)
    where = Filter(since=BEGIN, until=BEGIN + timedelta(days=1), include_superseded=False)
    assert nearest(await again.candidates(ask(unit(1)[0], where=where))) == "ep00001"
    await again.close()


async def test_a_plain_mongod_is_refused_with_advice(peer: Peer) -> None:
    """A server without search indexes is named as such when vectors are to be kept."""
    plain = MongoStore(f"mongodb://{peer.server.address}/?directConnection=true", "plain")
    await plain.open()
    with pytest.raises(Unavailable, match="no vector search"):
        await plain.prepare(MODEL, WIDTH)
    await plain.close()


async def test_small_sets_are_searched_exactly_and_large_ones_by_the_graph(peer: Peer, store: MongoStore) -> None:
    """`exact` holds up to the bound, also for a filter that leaves few of many."""
    await store.insert([record(number, project="few" if number < 3 else "many") for number in range(30)])
    small = await reopened(store, exact_below=10)
    counters = peer.proxy.counters

    async def exact(where: Filter) -> bool:
        before = counters.exact_searches
        await small.candidates(ask(unit(1)[0], where=where))
        return counters.exact_searches > before

    assert [await exact(where) for where in (Filter(), Filter(project="many"), Filter(project="few"))] == [
        False,
        False,
        True,
    ]
    await small.close()


async def test_an_episode_of_many_windows_does_not_crowd_out_the_others(peer: Peer, store: MongoStore) -> None:
    """As many episodes as asked for are found, though one of them holds the nearest hundred windows."""
    close = unit(1) + np.linspace(0, 0.001, 120, dtype=np.float32)[:, None]
    await store.insert([record(1, vectors=close), *(record(number) for number in range(10, 30, 5))])
    fresh = await reopened(store)
    found = {one.episode_id for one in (await fresh.candidates(ask(unit(1)[0], limit=5))).found}
    assert found == {"ep00001", "ep00010", "ep00015", "ep00020", "ep00025"}
    await fresh.close()


# $search ----------------------------------------------------------------------------------------


@pytest.fixture
async def wordy(peer: Peer, request: pytest.FixtureRequest) -> AsyncIterator[MongoStore]:
    """A store on a server that has `$search`."""
    peer.proxy.text = True
    name = "w" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    opened = MongoStore(peer.uri, name)
    await opened.open()
    await opened.prepare(MODEL, WIDTH)
    await opened.activate(MODEL)
    yield opened
    await opened.close()


async def test_where_there_is_no_search_the_answer_says_so(store: MongoStore) -> None:
    """Without `$search` there is no lexical score, and `lexical` names the reason."""
    await store.insert([record(1, terms={"pear": 1})])
    found = await store.candidates(ask(unit(1)[0], "pear"))
    assert found.lexical.startswith("absent")
    assert [one.lexical for one in found.found] == [None]


async def test_words_find_what_meaning_does_not(peer: Peer, wordy: MongoStore) -> None:
    """A rare word brings its episode in, with both scores; all others get 0 or their own lexical score."""
    batch = [record(number * 10, terms={"plum": 1, **({"quince": 3} if number == 4 else {})}) for number in range(12)]
    await wordy.insert(batch)
    fresh = await reopened(wordy)
    found = await fresh.candidates(ask(-unit(40)[0], "quince", limit=2))
    by_id = {one.episode_id: one for one in found.found}
    assert found.lexical == "$search"
    assert by_id["ep00040"].dense == pytest.approx(-1, abs=1e-5)
    assert (by_id["ep00040"].lexical or 0) > 0
    assert all(one.lexical == 0 for name, one in by_id.items() if name != "ep00040")
    crowded = await fresh.candidates(ask(unit(40)[0], "plum", limit=2))
    assert all((one.lexical or 0) > 0 for one in crowded.found)
    await fresh.close()


async def test_words_are_filtered_before_they_are_ranked(peer: Peer, wordy: MongoStore) -> None:
    """Project, instance, tags, time and supersession hold on the lexical side alone."""
    await wordy.insert([record(number * 10, terms={"fig": 1}, tags=(f"t{number}", "all")) for number in range(6)])
    await wordy.supersede(["ep00030"], "ep00040")
    fresh = await reopened(wordy)

    async def ids(where: Filter) -> set[str]:
        found = await fresh.candidates(CandidateQuery("unknown/model", unit(1)[0], ("fig",), where, 50))
        return {one.episode_id for one in found.found}

    assert await ids(Filter(tags=("t2", "all"))) == {"ep00020"}
    assert await ids(Filter(since=BEGIN + timedelta(minutes=40))) == {"ep00040", "ep00050"}
    assert await ids(Filter(until=BEGIN + timedelta(minutes=10))) == {"ep00000"}
    assert "ep00030" not in await ids(Filter(include_superseded=False))
    assert await ids(Filter(project="other")) == set()
    assert len(await ids(Filter(project="p", instance="laptop"))) == 6
    await fresh.close()


async def test_a_proof_asks_the_indexes_themselves(peer: Peer, wordy: MongoStore) -> None:
    """What the text index still holds of removed episodes is counted until it has followed."""
    await wordy.insert([record(1), record(2)._replace(vectors=None), record(3)])
    ids = ["ep00001", "ep00002"]
    async with Plain(peer.uri) as client:
        peer.proxy.frozen_at = (await client.admin.command("ping"))["operationTime"]
    await wordy.remove(Removal(tuple(ids)))
    found = await wordy.proof(ids, [], [])
    assert (found.by_id, found.vectors, found.index) == (0, 0, 2)
    peer.proxy.frozen_at = None
    assert (await wordy.proof(ids, [], [])).index == 0


async def test_words_of_the_newest_writes_count_at_once(peer: Peer, wordy: MongoStore) -> None:
    """While the index lags, an episode is found by its words, and one that holds more of them comes first."""
    peer.proxy.lag_seconds = 60.0
    await wordy.insert([record(10, terms={"kiwi": 1}), record(20, terms={"kiwi": 1, "lime": 2}), record(30)])
    found = await wordy.candidates(CandidateQuery("unknown/model", unit(1)[0], ("kiwi", "lime"), Filter(), 10))
    scores = {one.episode_id: one.lexical or 0 for one in found.found}
    assert set(scores) == {"ep00010", "ep00020"}
    assert scores["ep00020"] > scores["ep00010"] > 0


async def test_words_that_were_replaced_count_no_more(peer: Peer, wordy: MongoStore) -> None:
    """While the index still holds an episode's former words, they score nothing, and its new ones do."""
    await wordy.insert([record(number, terms={"pear": 1}) for number in (10, 20, 30)])
    async with Plain(peer.uri) as client:
        peer.proxy.frozen_at = (await client.admin.command("ping"))["operationTime"]
    await wordy.replace([record(10, text="other words", vectors=-unit(10), terms={"kiwi": 1})])
    await wordy.remove(Removal(("ep00030",)))
    await wordy.insert([record(30, text="again", terms={"plum": 1})])

    async def scores(term: str, limit: int = 10) -> dict[str, float]:
        found = await wordy.candidates(ask(-unit(10)[0], term, limit=limit))
        return {one.episode_id: one.lexical for one in found.found if one.lexical}

    assert set(await scores("pear")) == {"ep00020"}
    assert set(await scores("pear", limit=1)) == {"ep00020"}  # ep00010 comes in by its meaning
    assert set(await scores("kiwi")) == {"ep00010"}
    assert set(await scores("plum")) == {"ep00030"}


async def test_lexical_scores_are_those_of_the_embedded_store(peer: Peer, wordy: MongoStore, tmp_path: Path) -> None:
    """BM25, its ceiling and the cosines agree between both stores, so that one floor and one set of weights serve."""
    dice = random.Random(2)
    words = [f"w{number}" for number in range(30)]
    batch = [
        record(
            number,
            vectors=unit(number, windows=dice.randint(1, 3)),
            terms={word: dice.randint(1, 5) for word in dice.sample(words, dice.randint(1, 12))},
        )
        for number in range(0, 400, 10)
    ]
    embedded = SqliteStore(tmp_path / "store.db")
    await embedded.open()
    stores: tuple[Store, ...] = (wordy, embedded)
    for store in stores:
        await store.prepare(MODEL, WIDTH)
        await store.insert(batch)
        await store.activate(MODEL)
    fresh = await reopened(wordy)
    for where in (Filter(), Filter(since=BEGIN + timedelta(minutes=150))):
        query = ask(unit(3)[0], *words[:5], "unknown", where=where, limit=6)
        mine, theirs = await fresh.candidates(query), await embedded.candidates(query)
        assert mine.ceiling == pytest.approx(theirs.ceiling, rel=1e-5)
        ours, known = ({one.episode_id: one for one in answer.found} for answer in (mine, theirs))
        assert set(ours) == set(known)
        for name, candidate in ours.items():
            assert candidate.lexical == pytest.approx(known[name].lexical, rel=1e-4, abs=1e-5)
            assert candidate.dense == pytest.approx(known[name].dense, abs=1e-5)
            assert candidate.opening == pytest.approx(_opening(batch, name), abs=1e-5)
    await fresh.close()
    await embedded.close()


def _opening(batch: Sequence[Record], episode_id: str) -> float:
    """The cosine of the first window of an episode and the question above."""
    (vectors,) = (one.vectors for one in batch if one.episode.episode_id == episode_id)
    assert vectors is not None
    return float(vectors[0] @ unit(3)[0])


# Errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ServerSelectionTimeoutError("mongodb://secret"), Unavailable),
        (ConfigurationError("Sessions are not supported by secret"), Unavailable),
        (WriteError("no space, secret", 14031), StorageFull),
        (
            BulkWriteError({"writeErrors": [{"code": 14031, "errmsg": "secret", "op": {"summary": "secret"}}]}),
            StorageFull,
        ),
        (WriteError("Resulting document after update is larger than 16777216, secret", 17419), TooLarge),
        (DocumentTooLarge("secret"), TooLarge),
        (DuplicateKeyError("secret", 11000, {"keyValue": {"summary": "secret"}}), AnamnesisError),
        (
            BulkWriteError({"writeErrors": [{"code": 121, "errmsg": "secret", "op": {"summary": "secret"}}]}),
            AnamnesisError,
        ),
    ],
)
def test_errors_hold_no_text_of_an_episode(error: Exception, kind: type[AnamnesisError]) -> None:
    """What the driver says of a failed write repeats its document; what we raise does not."""
    ours = translated(error)  # type: ignore[arg-type]
    assert type(ours) is kind
    assert "secret" not in str(ours)
    assert "secret" not in str(ours.detail)


@pytest.mark.parametrize("uri", ["", "mongodb://", "mongodb://h:secret/", "http://secret"])
async def test_a_uri_that_means_nothing_is_refused_without_repeating_it(uri: str) -> None:
    """Unavailable names the setting, never its value."""
    with pytest.raises(Unavailable) as caught:
        await MongoStore(uri, "d").open()
    assert "MONGODB_URI" in caught.value.message
    assert "secret" not in caught.value.message


async def test_a_document_that_is_too_large_is_said_to_be(store: MongoStore) -> None:
    """A value over what MongoDB takes is TooLarge, alone and among others, and nothing of it is written."""
    large: dict[str, JsonValue] = {"text": "x" * 17_000_000}
    with pytest.raises(TooLarge):
        await store.write("settings", "a", large)
    with pytest.raises(TooLarge):
        await store.write_many("settings", {"b": {}, "c": large})
    assert await store.list("settings") == []


async def test_vectors_beyond_one_transaction_are_put_in_parts(store: MongoStore) -> None:
    """A checkpoint of a hundred long episodes in a wide model is kept whole."""
    episodes = [record(number)._replace(vectors=None) for number in range(100)]
    await store.insert(episodes)
    vectors = np.full((64, 1024), 1 / 32, dtype=np.float32)
    items = {one.episode.episode_id: (one.episode.content_hash, vectors) for one in episodes}
    await store.put_vectors("wide", items)
    assert await store.count_missing("wide") == 0
    assert (await store.vectors("wide", ["ep00099"]))["ep00099"].shape == (64, 1024)


async def test_a_large_batch_is_written_in_parts_and_reported_whole(store: MongoStore) -> None:
    """More text than a transaction takes: every record is there, and a duplicate across parts is still seen."""
    raw = "x" * 900_000
    long = [
        one._replace(episode=one.episode.model_copy(update={"raw_exchange": raw})) for one in map(record, range(14))
    ]
    results = await store.insert([*long, long[0]])
    assert [result.created for result in results] == [True] * 14 + [False]
    assert results[-1].duplicate_of == "ep00000"
    assert (await store.page(Filter(), 0, 1))[1] == 14
