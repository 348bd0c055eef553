"""Somebody who writes episodes through the gateway all the time, whatever happens to what is behind it."""

import threading
import time

import httpx

from tests.compose.stack import Stack


class Writer:
    """Writes four at a time until told to stop, and remembers what was acknowledged."""

    def __init__(self, stack: Stack) -> None:
        self.acknowledged: list[str] = []
        self.failed = 0
        self._stack = stack
        self._end = threading.Event()
        self._thread = threading.Thread(target=lambda: stack.talk(self._write), name="writer")

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _write(self, client: httpx.Client) -> None:
        number = 0
        while not self._end.is_set():
            ids = [f"ep_20260401_tester_kill_{number + offset:08x}" for offset in range(4)]
            number += len(ids)
            episodes = [
                {"episode_id": id, "instance": "tester", "project": "kill", "summary": f"Episode {id} was written."}
                for id in ids
            ]
            try:
                answer = client.post("/api/episodes/batch", json={"episodes": episodes}, timeout=20)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code < 300:
                self.acknowledged += [r["episode_id"] for r in answer.json()["results"] if r["status"] == "created"]
            else:
                self.failed += 1
                time.sleep(0.2)

    def wait_for(self, more: int, limit: float = 300) -> None:
        """Wait until so many more episodes are acknowledged."""
        wanted, deadline = len(self.acknowledged) + more, time.monotonic() + limit
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, f"{len(self.acknowledged)} of {wanted}: {self._stack.logs()}"
            time.sleep(0.1)


def ids_of(client: httpx.Client, project: str) -> list[str]:
    """The ids of a project's episodes, page by page."""
    ids: list[str] = []
    while True:
        query: dict[str, str | int] = {"project": project, "skip": len(ids), "limit": 100}
        page = client.get("/api/episodes", params=query)
        assert page.status_code == 200, page.text
        ids += [episode["episode_id"] for episode in page.json()["episodes"]]
        if not page.json()["episodes"]:
            return ids
