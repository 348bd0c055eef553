"""A run of the ingest service seen from outside: begun, watched to its end, and what it has left in memory."""

import time

from anamnesis.contracts.episodes import Episode
from anamnesis.contracts.ingest import IngestStatus
from tests.e2e.conftest import Stack


def status(stack: Stack) -> IngestStatus:
    with stack.client("ingest") as client:
        return IngestStatus.model_validate_json(client.get("/api/jsonl/status").raise_for_status().content)


def stored(stack: Stack) -> int:
    with stack.client("memory") as client:
        total: int = client.get("/api/episodes", params={"limit": 1}).raise_for_status().json()["total"]
        return total


def begin(stack: Stack) -> None:
    """Ask for a run; the one that is under way will do."""
    with stack.client("ingest") as client:
        client.post("/api/jsonl/ingest").raise_for_status()


def finish(stack: Stack) -> None:
    """Read until a run ends well."""
    deadline = time.monotonic() + 300
    begin(stack)
    while (seen := status(stack)).current or not seen.last or seen.last.state != "done":
        assert time.monotonic() < deadline, seen
        if not seen.current:
            begin(stack)
        time.sleep(0.1)


def contents(stack: Stack) -> tuple[dict[str, Episode], dict[str, object]]:
    """Every episode without what a store adds to it, and the marks of the reader."""
    with stack.client("memory") as client:
        lines = client.post("/api/episodes/export", json={}).raise_for_status().text.splitlines()
        marks: dict[str, object] = client.get("/api/state/offsets/ingest:laptop").raise_for_status().json()["documents"]
    episodes = [Episode.model_validate_json(line) for line in lines]
    same = {"ingested_at": episodes[0].timestamp}
    found = {one.episode_id: one.model_copy(update=same) for one in episodes}
    assert len(found) == len(episodes), "an episode is there twice"
    return found, marks
