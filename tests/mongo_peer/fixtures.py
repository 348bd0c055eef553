"""Fixtures for whoever tests against the peer: `mongo_server` (one mongod and proxy a session), `mongo_uri`.

`ANAMNESIS_TEST_MONGODB_URI` names a real MongoDB to use instead; each test gets a database of its own
there and drops it. Tests that kill the server build their own `Peer`.
"""

import asyncio
import os
import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient, MongoClient

from services.memory.stores.mongo import MongoStore
from tests.mongo_peer import mongod
from tests.mongo_peer.proxy import Proxy

URI_VARIABLE = "ANAMNESIS_TEST_MONGODB_URI"
DATABASE_PREFIX = "anamnesis_test_"


class Peer:
    """A mongod and a proxy before it; the proxy runs in a thread of its own, so it is never starved by a test."""

    def __init__(
        self, directory: Path, *, pending_seconds: float = 0.05, lag_seconds: float = 0.0, text: bool = False
    ) -> None:
        self.server = mongod.Mongod(mongod.fetch(), directory / "db")
        self.proxy = Proxy(
            self.server.port,
            directory / "search-indexes.json",
            pending_seconds=pending_seconds,
            lag_seconds=lag_seconds,
            text=text,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mongo-proxy", daemon=True)

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.proxy.port}/?directConnection=true"

    def start(self) -> None:
        self.server.start()
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.proxy.start(), self._loop).result(10)

    def close(self) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self.proxy.stop(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
        self._loop.close()
        self.server.kill()


@pytest.fixture(scope="session")
def mongo_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """One server for the whole session, with an index that takes 50 ms to become queryable and no lag."""
    try:
        peer = Peer(tmp_path_factory.mktemp("mongo"))
    except mongod.Missing as error:
        pytest.skip(f"no mongod on this machine: {error}")
    try:
        peer.start()
        yield peer
    finally:
        peer.close()


@pytest.fixture(scope="session")
def mongo_uri(request: pytest.FixtureRequest) -> str:
    """A MongoDB that can be used freely: the one named in the environment, else the peer."""
    named = os.environ.get(URI_VARIABLE)
    if named:
        return named
    peer: Peer = request.getfixturevalue("mongo_peer")
    return peer.uri


@pytest.fixture
def mongo_database(mongo_uri: str) -> Iterator[str]:
    """The name of a database that does not exist yet and is gone afterwards."""
    name = DATABASE_PREFIX + secrets.token_hex(6)
    yield name
    with MongoClient[dict[str, object]](mongo_uri, timeoutMS=20_000) as client:
        client.drop_database(name)


@pytest.fixture
async def mongo_store(mongo_uri: str, mongo_database: str) -> AsyncIterator[MongoStore]:
    """A fresh, open store."""
    store = MongoStore(mongo_uri, mongo_database)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def mongo_client(mongo_uri: str) -> AsyncIterator[AsyncMongoClient[dict[str, object]]]:
    """A plain client, to look at what a store has written."""
    async with AsyncMongoClient[dict[str, object]](mongo_uri, timeoutMS=10_000) as client:
        yield client
