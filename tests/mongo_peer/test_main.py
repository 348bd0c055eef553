"""The peer as a process of its own, as a container runs it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pymongo
import pytest
from pymongo.errors import OperationFailure

from tests.mongo_peer import mongod

ROOT = Path(__file__).parents[2]


class Running:
    def __init__(self, dbpath: Path) -> None:
        self.port = mongod.free_port()
        command = [sys.executable, "-m", "tests.mongo_peer", "--port", str(self.port), "--dbpath", str(dbpath)]
        user = {"MONGODB_INITDB_ROOT_USERNAME": "keeper", "MONGODB_INITDB_ROOT_PASSWORD": "quite secret"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **user}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("ready on"):
            self.end()
            pytest.fail(f"the peer said {line!r}")

    def client(self, password: str | None) -> "pymongo.MongoClient[dict[str, object]]":
        name = "keeper" if password else None
        return pymongo.MongoClient(
            f"mongodb://127.0.0.1:{self.port}/?directConnection=true",
            username=name,
            password=password,
            timeoutMS=10_000,
        )

    def end(self) -> None:
        """Leave nothing behind, however the test went."""
        if self.process.poll() is not None:
            return
        for process in [*psutil.Process(self.process.pid).children(), psutil.Process(self.process.pid)]:
            process.kill()
        self.process.wait(10)


@pytest.fixture
def binary() -> Path:
    try:
        return mongod.fetch()
    except mongod.Missing as error:
        pytest.skip(f"no mongod on this machine: {error}")


@pytest.fixture
def running(binary: Path, tmp_path: Path) -> Iterator[Running]:
    peer = Running(tmp_path / "db")
    yield peer
    peer.end()


@pytest.mark.slow
def test_a_user_from_the_environment_is_asked_for(running: Running) -> None:
    """With a name and password in the environment the server asks for them, through the proxy too."""
    with running.client("quite secret") as known, running.client(None) as stranger, running.client("wrong") as liar:
        known["d"]["c"].insert_one({"_id": 1})
        assert known["d"]["c"].count_documents({}) == 1
        with pytest.raises(OperationFailure):
            stranger["d"]["c"].count_documents({})
        with pytest.raises(OperationFailure):
            liar["d"]["c"].count_documents({})
        with pytest.raises(OperationFailure):
            stranger["d"].command({"createSearchIndexes": "c", "indexes": [{"definition": {}}]})


@pytest.mark.slow
def test_it_ends_with_its_server_and_its_server_with_it(running: Running, tmp_path: Path) -> None:
    """SIGTERM ends both; indexes and documents are there at the next start; a killed mongod ends the peer."""
    definition = {"fields": [{"type": "vector", "path": "e", "numDimensions": 2, "similarity": "cosine"}]}
    with running.client("quite secret") as client:
        client["d"]["c"].insert_one({"_id": 1, "e": [1.0, 0.0]})
        client["d"].command(
            {"createSearchIndexes": "c", "indexes": [{"name": "v", "type": "vectorSearch", "definition": definition}]}
        )
    (server,) = psutil.Process(running.process.pid).children()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30) == 0
    assert not server.is_running()

    again = Running(tmp_path / "db")
    try:
        with again.client("quite secret") as client:
            assert client["d"]["c"].count_documents({}) == 1
            assert [index["name"] for index in client["d"]["c"].list_search_indexes()] == ["v"]
        (server,) = psutil.Process(again.process.pid).children()
        server.kill()
        assert again.process.wait(10) == 1
    finally:
        again.end()
