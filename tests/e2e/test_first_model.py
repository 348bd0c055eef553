"""A first start with a model that has to be fetched: the service answers meanwhile, and tells what it waits for."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from services.memory.embedding.registry import DEFAULT_MODEL, Registry
from tests.e2e.conftest import START, Stack, running
from tests.e2e.hub import Hub, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MODEL = "BAAI/bge-small-en-v1.5"
EPISODE = {"instance": "here", "project": "p", "summary": "The lamp was mended."}


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """The default model's files under the name of another one of its width."""
    place = Registry(tmp_path, download=False).locate(DEFAULT_MODEL)
    assert place is not None
    longer = json.dumps({"max_seq_length": 512, "do_lower_case": False}).encode()
    return Hub.of(MODEL, place, {"sentence_bert_config.json": longer})


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def _reason(stack: Stack) -> str:
    try:
        answer = httpx.get(f"{stack.url('memory')}/ready", timeout=5, trust_env=False)
    except httpx.HTTPError:
        return ""
    return "" if answer.status_code == 200 else str(answer.json()["error"]["message"])


def _begin(stack: Stack) -> None:
    """Start it without waiting for it to be ready."""
    stack.launch("memory")
    _until(lambda: "is being fetched" in _reason(stack), "it does not say that the model is being fetched")


def test_a_model_is_fetched_while_the_service_answers(tmp_path: Path, hub: Hub) -> None:
    """Alive, not ready and saying why; what needs the model is told the same; a stop is prompt; then all goes on."""
    with serving(hub) as address:
        extra = {
            "ANAMNESIS_EMBEDDING_MODEL": MODEL,
            "HF_ENDPOINT": address,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": "0",
        }
        stale = tmp_path / "data" / "models" / ".fetch-abandoned"
        stale.mkdir(parents=True)
        (stale / "half").write_bytes(b"x" * 1000)
        with running(tmp_path / "data", None, extra=extra) as stack:
            _begin(stack)
            assert not stale.exists()
            hub.allow(3 << 20)
            _until(lambda: f"the embedding model {MODEL} is being fetched (" in _reason(stack), "no progress is told")
            with stack.client("memory") as client:
                assert client.get("/health").status_code == 200
                assert client.get("/api/episodes").json()["total"] == 0
                for refused in (
                    client.post("/api/episodes", json=EPISODE),
                    client.post("/api/episodes/search", json={"query_text": "lamp"}),
                    client.get("/api/embedding/config"),
                    client.get("/api/episodes/reembed/status"),
                ):
                    assert refused.status_code == 503
                    assert f"the embedding model {MODEL} is being fetched" in refused.json()["error"]["message"]
            stack.kill("memory", signal.SIGTERM)

            whole = hub.asked.count("tokenizer.json")
            _begin(stack)
            hub.allow(1 << 40)
            stack.await_ready("memory")
            assert hub.asked.count("tokenizer.json") == whole  # files that were whole have not come again
            assert hub.asked.count("model.safetensors") == 2
            assert [one.name for one in (tmp_path / "data" / "models").iterdir()] == ["BAAI--bge-small-en-v1.5"]
            with stack.client("memory") as client:
                assert client.post("/api/episodes", json=EPISODE).status_code == 201
                assert client.get("/api/embedding/config").json()["active"]["name"] == MODEL


def test_a_model_that_cannot_be_had_is_told_with_what_to_do(tmp_path: Path, hub: Hub) -> None:
    """Without a way to the hub /ready tells the reason and the remedy; once the files are there it goes on."""
    extra = {
        "ANAMNESIS_EMBEDDING_MODEL": MODEL,
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
    }
    with running(tmp_path / "data", None, extra=extra) as stack:
        _begin(stack)
        _until(lambda: "the last try failed" in _reason(stack), "the failure is not told")
        place = tmp_path / "data" / "models" / "BAAI--bge-small-en-v1.5"
        assert f"put its files (safetensors, tokenizer, modules.json) into {place}" in _reason(stack)
        new = place.with_name("new")
        for name, data in hub.files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(data)
        new.rename(place)
        stack.await_ready("memory", within=120)
