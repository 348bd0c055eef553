"""The usefulness loop at memory's paths: reports come in, and searches follow."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from anamnesis.contracts.episodes import EpisodeCreate
from anamnesis.contracts.keys import Identity, Scope
from anamnesis.kit.app import create_app
from services.memory.door import Door
from services.memory.endpoints import episodes, search, usefulness
from services.memory.removal import Remover
from services.memory.search.hits import Hits
from services.memory.search.recall import Recall
from services.memory.stores.base import Vector
from services.memory.usefulness import Usefulness

REPORTS = "/api/episodes/usefulness"


class OneQuestion:
    async def query(self, text: str) -> tuple[str, Vector]:
        return "one", np.full(4, 0.5, np.float32)


class Anybody:
    async def identify(self, hash: str) -> Identity | None:
        return Identity(key_id="k", name="tests", scope=Scope.ADMIN)


@pytest.fixture
async def client(door: Door) -> AsyncIterator[httpx.AsyncClient]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    counts, hits = Usefulness(door.store), Hits(door.store)
    recall = Recall(door.store, OneQuestion(), hits, unused=counts.unused)
    remover = Remover(door.store, door.blocks, removed=counts.removed)
    app = create_app(
        "memory",
        routers=[
            search.routes(recall),
            usefulness.routes(counts),
            episodes.routes_by_id(door.store, door, remover),
        ],
        holder=Anybody(),
        allowed_hosts=["memory"],
        ready=door.store.ping,
        lifespan=lifespan,
    )
    for name in ("one", "two"):
        await door.write([EpisodeCreate(episode_id=name, instance="i", project="p", summary=f"The lamp is {name}.")])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://memory", headers={"X-API-Key": "anm_x"}) as one:
        yield one
    await hits.close()


async def _report(client: httpx.AsyncClient, verdict: str, *names: str) -> int:
    body = {"verdicts": [{"episode_id": name, "verdict": verdict} for name in names]}
    answer = await client.post(REPORTS, json=body)
    assert answer.status_code == 200
    changed: int = answer.json()["changed"]
    return changed


async def _search(client: httpx.AsyncClient, **more: object) -> dict[str, list[str]]:
    """Which episodes are found, in order, and the terms of each."""
    body = {"query_text": "lamp", "floor": 0, "explain": True, **more}
    hits = (await client.post("/api/episodes/search", json=body)).json()["results"]
    assert all(sum(one["contribution"] for one in hit["reasons"]) == pytest.approx(hit["score"]) for hit in hits)
    return {hit["episode_id"]: [one["term"] for one in hit["reasons"]] for hit in hits}


async def test_what_is_never_of_use_sinks_until_it_is(client: httpx.AsyncClient) -> None:
    """Of two equals the first found falls behind after three times in vain, says why, and comes back when it helps."""
    before = await _search(client)
    first, second = before
    assert "unused" not in before[first]
    assert await _report(client, "unused", first, first) == 2
    assert await _search(client) == before
    assert await _report(client, "unused", first) == 1
    sunk = await _search(client)
    assert list(sunk) == [second, first]
    assert ("unused" in sunk[first], "unused" in sunk[second]) == (True, False)
    await _report(client, "helpful", first)
    assert await _search(client) == before


async def test_silence_does_not_depend_on_use(client: httpx.AsyncClient) -> None:
    """What was never of use is still found where it is relevant, and nothing comes over the floor by reports."""
    relevant = (await client.post("/api/episodes/search", json={"query_text": "lamp", "explain": True})).json()
    floor = relevant["explanation"]["relevance"]
    await _report(client, "unhelpful", *["one", "two"] * 20)
    for at, found in ((floor, 2), (floor + 0.001, 0)):
        body = {"query_text": "lamp", "floor": min(at, 1.0), "explain": True}
        answer = (await client.post("/api/episodes/search", json=body)).json()
        assert answer["explanation"]["relevance"] == floor
        assert len(answer["results"]) == (found if at <= 1.0 else 2)


async def test_the_summary_names_what_was_in_vain(client: httpx.AsyncClient) -> None:
    """Totals over the store, and the episodes that never helped, until they are deleted."""
    await _report(client, "used", "one")
    await _report(client, "unused", "one", "two", "two")
    assert await _report(client, "unused", "nowhere") == 0
    summary = (await client.get(REPORTS)).json()
    assert (summary["injected"], summary["used"], summary["helpful"], summary["unhelpful"]) == (4, 1, 0, 0)
    assert [(one["episode_id"], one["injected"]) for one in summary["never_used"]] == [("two", 2)]
    await client.delete("/api/episodes/two")
    assert (await client.get(REPORTS)).json() == {**summary, "injected": 2, "never_used": []}


async def test_a_report_has_bounds(client: httpx.AsyncClient) -> None:
    """None, or more than a hundred verdicts, are refused."""
    for many in (0, 101):
        body = {"verdicts": [{"episode_id": "one", "verdict": "used"}] * many}
        assert (await client.post(REPORTS, json=body)).status_code == 422
