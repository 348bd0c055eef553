"""The store as a whole, asked over HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from anamnesis.contracts.insight import EpisodeMap, Timeline
from anamnesis.kit.app import create_app
from services.memory.embedding.service import Embedding
from services.memory.endpoints import insight
from services.memory.endpoints.insight import MOST_POINTS
from services.memory.picture.maps import Maps
from services.memory.settings import MemorySettings
from services.memory.stores.sqlite import SqliteStore
from tests.contract.records import make_record
from tests.services.memory.endpoints.test_state import Anybody


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "insight.db")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def client(store: SqliteStore, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    maps = Maps(store)
    embedding = Embedding(store, MemorySettings(data_dir=tmp_path))
    app = create_app(
        "memory",
        routers=[insight.routes(store, embedding, maps)],
        holder=Anybody(),
        allowed_hosts=["memory"],
        ready=store.ping,
        lifespan=lifespan,
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://memory", headers={"X-API-Key": "any"}
    ) as one:
        yield one
    await maps.close()
    await embedding.close()


async def test_a_timeline_by_filter(client: httpx.AsyncClient, store: SqliteStore) -> None:
    """Bucket, project and time choose the points."""
    await store.insert([make_record(f"ep_{n}", minute=n * 24 * 60, project="ab"[n % 2]) for n in range(10)])
    answer = await client.get(
        "/api/episodes/timeline",
        params={"bucket": "week", "project": "a", "since": "2026-01-02T00:00:00Z", "until": "2026-01-09T00:00:00Z"},
    )
    told = Timeline.model_validate_json(answer.content)
    assert [(point.start.date().isoformat(), point.episodes) for point in told.points] == [
        ("2025-12-29", 1),
        ("2026-01-05", 2),
    ]


async def test_too_many_points_say_what_to_do(client: httpx.AsyncClient, store: SqliteStore) -> None:
    """Beyond the bound there is no part of a timeline, but an error that names the ways out."""
    await store.insert([make_record(f"ep_{n}", minute=n * 24 * 60, model=None) for n in range(MOST_POINTS + 1)])
    answer = await client.get("/api/episodes/timeline")
    assert answer.status_code == 400
    assert "larger bucket" in answer.json()["error"]["message"]
    assert (await client.get("/api/episodes/timeline", params={"bucket": "week"})).status_code == 200
    assert (await client.get("/api/episodes/timeline", params={"until": "2026-02-01"})).status_code == 200


@pytest.mark.parametrize("query", ["bucket=hour", "since=yesterday", "project=", "limit=0"])
async def test_what_cannot_be_meant_is_refused(client: httpx.AsyncClient, query: str) -> None:
    """Buckets, moments, names and limits are checked at the door."""
    path = "map" if query.startswith("limit") else "timeline"
    assert (await client.get(f"/api/episodes/{path}?{query}")).status_code == 422


async def test_a_map_over_http(client: httpx.AsyncClient, store: SqliteStore) -> None:
    """Arrays of one length, in the shape of the contract."""
    records = [make_record(f"ep_{n}", model="all-MiniLM-L6-v2", dimension=384) for n in range(5)]
    await store.insert(records)
    picture = EpisodeMap.model_validate_json((await client.get("/api/episodes/map", params={"limit": 4})).content)
    assert picture.total == 5
    assert {len(picture.episode_id), len(picture.x), len(picture.y), len(picture.project)} == {4}
    assert all(-1 <= value <= 1 for value in (*picture.x, *picture.y))
