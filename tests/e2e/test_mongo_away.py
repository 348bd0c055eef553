"""The services while their MongoDB is away and back again."""

import time
from pathlib import Path

import pytest

from tests.e2e.conftest import running
from tests.mongo_peer import mongod
from tests.mongo_peer.fixtures import Peer


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_database_that_goes_and_comes_back(tmp_path: Path) -> None:
    """While mongod is killed reads fail fast and /ready says no; afterwards everything acknowledged is there, and so it
    is when memory itself has been killed."""
    try:
        peer = Peer(tmp_path / "peer")
    except mongod.Missing as error:
        pytest.skip(f"no mongod on this machine: {error}")
    peer.start()
    try:
        extra = {"ANAMNESIS_MONGODB_URI": peer.uri}
        with running(tmp_path / "data", "memory", extra=extra) as stack, stack.client("memory") as client:
            note = {"instance": "i", "project": "p", "summary": "The kiln was fired at noon.", "episode_id": "kiln"}
            assert client.post("/api/episodes", json=note).status_code == 201
            peer.server.kill()
            for method, path, body in (
                ("GET", "/api/episodes/kiln", None),
                ("POST", "/api/episodes/search", {"query_text": "when was the kiln fired?"}),
                ("POST", "/api/episodes/export", {}),
                ("GET", "/ready", None),
            ):
                started = time.monotonic()
                answer = client.request(method, path, json=body)
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable"), path
                assert time.monotonic() - started < 20  # the driver by itself would try for 30
            assert client.get("/health").status_code == 200
            peer.server.start()
            stack.await_ready("memory")
            hits = client.post("/api/episodes/search", json={"query_text": "when was the kiln fired?"}).json()[
                "results"
            ]
            assert [hit["episode_id"] for hit in hits] == ["kiln"]
            assert client.post("/api/episodes", json=note).status_code == 409
            # Killed, the service has no time to give the database back: the next one has it by itself a little later.
            stack.kill("memory")
            stack.start("memory")
            assert client.get("/api/episodes/kiln").status_code == 200
            assert client.post("/api/episodes", json={**note, "episode_id": "other"}).status_code == 409
    finally:
        peer.close()
