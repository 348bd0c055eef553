"""Every store that the contract holds: SQLite in a file, MongoDB by its test peer or a real URI."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.memory.stores.base import Store
from services.memory.stores.mongo import MongoStore
from services.memory.stores.sqlite import SqliteStore
from tests.mongo_peer.fixtures import mongo_database, mongo_peer, mongo_uri

__all__ = ["mongo_database", "mongo_peer", "mongo_uri"]

MakeStore = Callable[[], Store]


@pytest.fixture(params=["sqlite", "mongo"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Makes closed stores over one and the same empty database."""
    if request.param == "sqlite":
        return lambda: SqliteStore(tmp_path / "store.db", linger=0.01)
    uri: str = request.getfixturevalue("mongo_uri")
    database: str = request.getfixturevalue("mongo_database")
    return lambda: MongoStore(uri, database)


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[Store]:
    """A fresh, open store."""
    made = make_store()
    await made.open()
    yield made
    await made.close()
