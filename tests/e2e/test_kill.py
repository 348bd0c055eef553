"""kill -9 against an oracle of what was acknowledged: none lost, none twice."""

import random
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Stack, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SEED = 20_260_101
COLOURS = ("red", "blue", "green")


def batch(number: int, size: int = 8, name: str = "e") -> dict[str, list[dict[str, str]]]:
    """A request that writes so many episodes; another name makes others."""
    episodes = [
        {
            "episode_id": f"{name}{number}-{index}",
            "timestamp": "2026-01-02T03:04:05Z",
            "instance": "oracle",
            "project": f"p{number % 3}",
            "summary": f"Batch {name}{number}, note {index}: the {COLOURS[index % 3]} lamp was mended.",
        }
        for index in range(size)
    ]
    return {"episodes": episodes}


def all_ids(stack: Stack) -> list[str]:
    """The ids of all episodes in the store, page by page."""
    with stack.client("memory") as client:
        total = client.get("/api/episodes", params={"limit": 1}).json()["total"]
        ids = list[str]()
        for skip in range(0, total, 500):
            page = client.get("/api/episodes", params={"skip": skip, "limit": 500}).json()
            ids += [episode["episode_id"] for episode in page["episodes"]]
    assert len(ids) == total
    return ids


class Writer(threading.Thread):
    """Writes batch after batch, each until it is acknowledged, and keeps the oracle."""

    def __init__(self, stack: Stack, name: str = "e", pause: float = 0.0) -> None:
        """`pause` is seconds between two batches."""
        super().__init__(daemon=True)
        self._stack = stack
        self._name = name
        self._pause = pause
        self.enough = threading.Event()
        self.acknowledged: dict[str, str] = {}
        self.wrong = list[str]()
        self.batches = 0
        self.cut_off = 0
        """Requests that memory had taken and never answered."""

    def run(self) -> None:
        number = 0
        while not self.enough.is_set():
            try:
                with self._stack.client("memory", timeout=120) as client:
                    response = client.post("/api/episodes/batch", json=batch(number, name=self._name))
            except httpx.ConnectError:
                time.sleep(0.1)
                continue
            except httpx.HTTPError:
                self.cut_off += 1
                continue
            if response.status_code == 503:  # it answers before its embedding workers are ready
                time.sleep(0.1)
                continue
            if response.status_code != 200:
                self.wrong.append(response.text)
                return
            for result in response.json()["results"]:
                if result["status"] not in ("created", "duplicate") or result.get("duplicate_of") not in (
                    None,
                    result["episode_id"],
                ):
                    self.wrong.append(str(result))
                self.acknowledged[result["episode_id"]] = result["status"]
            self.batches = number = number + 1
            self.enough.wait(self._pause)

    def wait_for_more(self, batches: int) -> None:
        """Until so many more batches are acknowledged."""
        wanted, deadline = self.batches + batches, time.monotonic() + 120
        while self.batches < wanted:
            assert not self.wrong, self.wrong
            assert time.monotonic() < deadline, f"{self.batches} of {wanted} batches"
            time.sleep(0.01)


def test_acknowledged_batches_survive_kill(tmp_path: Path) -> None:
    """Memory is killed again and again while batches arrive; every acknowledged id is there once, and is found."""
    chance = random.Random(SEED)
    with running(tmp_path, "memory") as stack:
        writer = Writer(stack)
        writer.start()
        for _ in range(4):
            writer.wait_for_more(1)
            time.sleep(chance.uniform(0.0, 1.0))
            stack.kill("memory")
            stack.start("memory")
        writer.wait_for_more(1)
        writer.enough.set()
        writer.join(150)
        assert not writer.is_alive()
        assert not writer.wrong
        assert writer.cut_off > 0, "nothing was under way when memory was killed"
        ids = all_ids(stack)
        assert len(ids) == len(set(ids))
        assert writer.acknowledged.keys() <= set(ids)
        with stack.client("memory") as client:
            assert client.get("/api/episodes/stats").json()["without_vectors"] == 0
            number = max(int(one.split("-")[0][1:]) for one in writer.acknowledged)
            found = client.post(
                "/api/episodes/search",
                json={"query_text": f"Batch e{number}, note 3: the red lamp", "top_k": 100, "floor": 0},
            ).json()["results"]
            assert f"e{number}-3" in {hit["episode_id"] for hit in found}


def test_a_clean_stop_loses_nothing_and_starts_in_seconds(tmp_path: Path) -> None:
    """After SIGTERM a second start has everything, hits counted included."""
    with running(tmp_path, "memory") as stack:
        with stack.client("memory") as client:
            assert client.post("/api/episodes/batch", json=batch(0)).status_code == 200
            hits = client.post("/api/episodes/search", json={"query_text": "the blue lamp", "floor": 0}).json()[
                "results"
            ]
        assert stack.kill("memory", signal.SIGTERM) in (0, -signal.SIGTERM)  # uvicorn ends by the signal it was sent
        stack.start("memory")
        with stack.client("memory") as client:
            assert len(all_ids(stack)) == 8
            assert client.get(f"/api/episodes/{hits[0]['episode_id']}").json()["retrieval_count"] == 1
