"""Leases and documents at memory's endpoints, with another holder coming in between a read and a write."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from anamnesis.contracts.keys import Identity, Scope
from anamnesis.kit.app import create_app
from services.memory.blocklist import Blocks
from services.memory.door import Door
from services.memory.endpoints import state
from services.memory.stores.base import Document
from services.memory.stores.sqlite import SqliteStore
from tests.services.memory.conftest import OneVector


class Interrupted(SqliteStore):
    """A store in which something happens just after the next read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    async def read(self, kind: str, key: str) -> Document | None:
        found = await super().read(kind, key)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return found


class Anybody:
    async def identify(self, hash: str) -> Identity | None:
        return Identity(key_id="k", name="tests", scope=Scope.ADMIN)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Interrupted]:
    opened = Interrupted(tmp_path / "state.db")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as some:
        yield some


@pytest.fixture
async def client(store: Interrupted, workers: ThreadPoolExecutor) -> AsyncIterator[httpx.AsyncClient]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    door = Door(store, Blocks(), OneVector(), workers, entropy=True)
    app = create_app(
        "memory",
        routers=[state.routes(store, door.clean_json)],
        holder=Anybody(),
        allowed_hosts=["memory"],
        ready=store.ping,
        lifespan=lifespan,
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://memory", headers={"X-API-Key": "anm_x"}) as one:
        yield one


async def _take(client: httpx.AsyncClient, holder: str, seconds: float = 60) -> int:
    answer = await client.post("/api/leases/nightly", json={"holder": holder, "seconds": seconds})
    return answer.status_code


async def _give_back(client: httpx.AsyncClient, holder: str) -> int:
    answer = await client.delete("/api/leases/nightly", params={"holder": holder})
    assert answer.status_code == 200
    changed: int = answer.json()["changed"]
    return changed


async def test_a_late_release_leaves_the_next_holder_alone(client: httpx.AsyncClient, store: Interrupted) -> None:
    """A lease that lapses and is taken while its former holder gives it back stays with the new holder."""
    assert await _take(client, "a") == 200

    async def lapse_and_take() -> None:
        present = await store.read("leases", "nightly")
        assert present is not None
        await store.write("leases", "nightly", {**present.value, "until": "2026-01-01T00:00:00Z"})
        assert await _take(client, "b") == 200

    store.meanwhile = lapse_and_take
    assert await _give_back(client, "a") == 0
    assert await _take(client, "c") == 409
    assert await _give_back(client, "b") == 1


async def test_a_stale_read_never_wins_over_a_new_holder(client: httpx.AsyncClient, store: Interrupted) -> None:
    """A taker that has read before a release and a new lease meets the new one's version and is refused."""
    assert await _take(client, "a") == 200

    async def change_hands() -> None:
        assert await _give_back(client, "a") == 1
        assert await _take(client, "b") == 200

    store.meanwhile = change_hands
    assert await _take(client, "a") == 409
    assert await _take(client, "c") == 409
    assert await _give_back(client, "b") == 1
    assert await _give_back(client, "b") == 0
    assert await _take(client, "c") == 200


async def test_a_lease_that_is_renewed_meanwhile_is_given_back(client: httpx.AsyncClient, store: Interrupted) -> None:
    """A holder's own late renewal does not keep the lease from being given back."""
    assert await _take(client, "a") == 200

    async def renew() -> None:
        assert await _take(client, "a") == 200

    store.meanwhile = renew
    assert await _give_back(client, "a") == 1
    assert await _take(client, "b") == 200


async def test_a_document_is_bounded(client: httpx.AsyncClient) -> None:
    """A document over the bound is 413 by name, and one below it is kept, whatever the store could take."""
    path = "/api/state/offsets/laptop"
    fits, too_large = "x" * (state.MAX_DOCUMENT - 100), "x" * state.MAX_DOCUMENT
    refused = await client.put(path, json={"documents": {"a": {"text": "small"}, "b": {"text": too_large}}})
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
    assert (await client.get(path)).json() == {"documents": {}}
    assert (await client.put(path, json={"documents": {"b": {"text": fits}}})).status_code == 200


async def test_a_setting_holds_no_secret(client: httpx.AsyncClient, store: Interrupted) -> None:
    """What people write into settings, questions for instance, passes the door as everything does; ids, numbers and
    other text stay as they are."""
    secret = "ghp_" + "a1B2c3D4e5" * 4
    value = {
        "questions": [{"question": f"What is {secret} for? <private>my diary</private>", "episode_ids": ["ep_1"]}],
        "run_id": "0f8e2c4b6a1d4e9f8b7c6d5e4f3a2b1c",
        "weights": {"dense": 0.25, "on": True, "none": None, secret: [secret]},
        "empty": "",
        "private": "<private>all of it</private>",
    }
    answer = await client.put("/api/settings/evaluation-questions", json=value)
    assert answer.status_code == 200
    kept = answer.json()["value"]
    document = await store.read("settings", "evaluation-questions")
    assert document is not None
    assert document.value == kept
    assert secret not in str(kept)
    assert "diary" not in str(kept)
    assert kept["questions"][0]["question"].startswith("What is [REDACTED:")
    assert kept["questions"][0]["episode_ids"] == ["ep_1"]
    assert kept["run_id"] == value["run_id"]
    assert kept["weights"].items() >= {"dense": 0.25, "on": True, "none": None}.items()
    assert (kept["empty"], kept["private"]) == ("", "(private)")


async def test_documents_are_read_by_key(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The named ones that exist, of this namespace alone; more than an answer holds is 413 with what to do."""
    path = "/api/state/offsets/summaries"
    written = {f"k{number}": {"n": number} for number in range(250)}
    assert (await client.put(path, json={"documents": written})).status_code == 200
    await client.put("/api/state/offsets/summaries2", json={"documents": {"k300": {}}})
    keys = [f"k{number}" for number in range(0, 302, 2)]
    found = await client.post(f"{path}/read", json={"keys": [*keys, "k0"]})
    assert found.json() == {"documents": {key: written[key] for key in keys if key in written}}
    assert (await client.post(f"{path}/read", json={"keys": []})).status_code == 422
    monkeypatch.setattr(state, "MAX_ANSWER", 100)
    refused = await client.post(f"{path}/read", json={"keys": keys})
    assert refused.status_code == 413
    assert "fewer keys" in refused.json()["error"]["message"]
