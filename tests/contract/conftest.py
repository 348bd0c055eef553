"""Every store that the contract holds: SQLite in a file, MongoDB by its test peer, with and without `$search`, or at a
real URI.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from services.memory.stores.base import Store
from services.memory.stores.mongo import MongoStore
from services.memory.stores.sqlite import SqliteStore
from tests.mongo_peer.fixtures import URI_VARIABLE, Peer, mongo_database, mongo_peer, mongo_uri

__all__ = ["mongo_database", "mongo_peer", "mongo_uri"]

MakeStore = Callable[[], Store]


@pytest.fixture(params=["sqlite", "mongo", "mongo+search"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeStore]:
    """Makes closed stores over one and the same empty database."""
    if request.param == "sqlite":
        yield lambda: SqliteStore(tmp_path / "store.db", linger=0.01)
        return
    if request.param == "mongo+search" and os.environ.get(URI_VARIABLE):
        pytest.skip("a real MongoDB has $search or lacks it: it is tested as it is")
    uri: str = request.getfixturevalue("mongo_uri")
    database: str = request.getfixturevalue("mongo_database")
    if request.param == "mongo":
        yield lambda: MongoStore(uri, database)
        return
    peer: Peer = request.getfixturevalue("mongo_peer")
    peer.proxy.text = True
    yield lambda: MongoStore(uri, database)
    peer.proxy.text = False


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[Store]:
    """A fresh, open store."""
    made = make_store()
    await made.open()
    yield made
    await made.close()
