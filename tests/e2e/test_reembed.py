"""The move to another embedding model in the real memory service: stopped, killed, and complete in the end."""

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from anamnesis.contracts.embedding import ReembedState, ReembedStatus
from services.memory.embedding.registry import DEFAULT_MODEL, Registry
from tests.e2e.conftest import Stack, running
from tests.e2e.test_kill import Writer, all_ids, batch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SEED = 20_260_102
SECOND = "second"
PATIENCE = 240.0  # seconds for anything to happen on a loaded machine
EXCHANGE = "The lamp in the hall was dark, so we looked at its fuse, its switch and its wire one by one. " * 24


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """The default model once more, as a model of the user's own."""
    place = Registry(tmp_path, download=False).locate(DEFAULT_MODEL)
    assert place is not None
    return Path(shutil.copytree(place, tmp_path / "second"))


def _register(client: httpx.Client, directory: Path) -> None:
    facts = {"name": SECOND, "dimension": 384, "max_tokens": 256, "licence": "Apache-2.0", "path": str(directory)}
    assert client.put("/api/embedding/models", json=facts).status_code == 200


def _status(stack: Stack) -> ReembedStatus:
    with stack.client("memory") as client:
        answer = client.get("/api/episodes/reembed/status")
    assert answer.status_code == 200, answer.text
    return ReembedStatus.model_validate(answer.json())


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _until_beyond(stack: Stack, done: int) -> None:
    """Wait until the move has done more than so many, or has ended."""

    def beyond() -> bool:
        status = _status(stack)
        return status.done > done or status.state is not ReembedState.RUNNING

    _until(beyond, "the move does not get on")


def _assert_moved(stack: Stack) -> None:
    """The store has moved as a whole, and says so."""
    status = _status(stack)
    assert (status.state, status.error, status.done) == (ReembedState.IDLE, None, status.total)
    with stack.client("memory") as client:
        assert client.get("/api/embedding/config").json()["active"]["name"] == SECOND
        assert client.get("/api/episodes/stats").json()["without_vectors"] == 0


def _worker(stack: Stack, model: Path) -> psutil.Process | None:
    """The process that embeds with a model."""
    for child in psutil.Process(stack.processes["memory"].pid).children():
        if any(str(model) in argument for argument in child.cmdline()):
            return child
    return None


def test_a_stop_keeps_what_was_done_and_a_start_goes_on(tmp_path: Path, second: Path) -> None:
    """Stopped within a batch of minutes, a move has kept the part that was done, and a start completes it by itself."""
    with running(tmp_path / "data", "memory", extra={"ANAMNESIS_REEMBED_CHECKPOINT": "250"}) as stack:
        with stack.client("memory", timeout=PATIENCE) as client:
            _register(client, second)
            for number in range(15):
                request = batch(number, 10)
                for episode in request["episodes"]:
                    episode["raw_exchange"] = f"{number} {EXCHANGE}"
                assert client.post("/api/episodes/batch", json=request).status_code == 200
            assert client.post("/api/embedding/model", json={"name": SECOND}).status_code == 202

        _until(lambda: _worker(stack, second) is not None, "no worker of the second model was started")
        worker = _worker(stack, second)
        assert worker is not None
        _until(lambda: "model=second" in stack.log("memory"), "the second model was not loaded")
        loaded = worker.cpu_times().user
        _until(lambda: worker.cpu_times().user > loaded + 1, "the second model embeds nothing")
        before = _status(stack)
        assert before.state is ReembedState.RUNNING
        assert stack.kill("memory", signal.SIGTERM) in (0, -signal.SIGTERM)

        stack.start("memory")
        after = _status(stack)
        assert after.state is ReembedState.RUNNING
        assert max(1, before.done) <= after.done < 150
        assert after.started_at == before.started_at
        _until(lambda: _status(stack).state is ReembedState.IDLE, "the move does not end")
        _assert_moved(stack)
        assert len(set(all_ids(stack))) == 150


def test_a_move_survives_kill_beside_writers(tmp_path: Path, second: Path) -> None:
    """Memory is killed again and again within a move while batches arrive: none lost, none twice, all moved."""
    chance = random.Random(SEED)
    interrupted = 0
    with running(tmp_path / "data", "memory", extra={"ANAMNESIS_REEMBED_CHECKPOINT": "5"}) as stack:
        with stack.client("memory", timeout=PATIENCE) as client:
            _register(client, second)
            for number in range(8):
                assert client.post("/api/episodes/batch", json=batch(number, 50, "old")).status_code == 200
            assert client.post("/api/embedding/model", json={"name": SECOND}).status_code == 202
        writers = [Writer(stack, name, pause=0.2) for name in ("a", "b")]
        for writer in writers:
            writer.start()
        for _ in range(4):
            _until_beyond(stack, _status(stack).done + chance.randint(5, 40))
            time.sleep(chance.uniform(0, 0.05))
            stack.kill("memory")
            stack.start("memory")
            after = _status(stack)
            assert after.state is not ReembedState.FAILED
            interrupted += after.state is ReembedState.RUNNING
        _until(lambda: _status(stack).state is not ReembedState.RUNNING, "the move does not end")
        for writer in writers:
            writer.enough.set()
        for writer in writers:
            writer.join(PATIENCE)
            assert not writer.wrong
            assert writer.acknowledged
        assert interrupted >= 3
        _assert_moved(stack)
        ids = all_ids(stack)
        assert len(ids) == len(set(ids))
        acknowledged = {f"old{number}-{index}" for number in range(8) for index in range(50)}
        assert acknowledged.union(*(writer.acknowledged for writer in writers)) <= set(ids)
