"""What the gateway lets in, where it sends it, and what it says when it cannot."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from anamnesis.kit.auth import new_key
from services.gateway.behind import INGEST, MEMORY
from services.ingest import app as ingest
from services.ingest.settings import IngestSettings
from services.memory import app as memory
from services.memory.settings import MemorySettings

from .conftest import CALLER_KEY, Behind, caller, gateway, settings_for

PASSED = [
    ("GET", "/api/episodes"),
    ("POST", "/api/episodes/search"),
    ("PATCH", "/api/episodes/ep_1"),
    ("DELETE", "/api/episodes/ep_1"),
    ("POST", "/api/episodes/reembed/pause"),
    ("GET", "/api/embedding/config"),
    ("GET", "/api/blocklist"),
    ("PUT", "/api/settings/significance"),
    ("GET", "/api/state/offsets/laptop"),
    ("POST", "/api/leases/nightly"),
    ("GET", "/api/keys"),
    ("GET", "/api/jsonl/status"),
]


@pytest.mark.parametrize(("method", "path"), PASSED)
async def test_paths_of_the_services_are_passed_on(
    door: aiohttp.ClientSession, behind: Behind, method: str, path: str
) -> None:
    """Every path that memory or ingest owns arrives there with its method, query and the caller's key."""
    target = URL(path + "?project=a%2Fb&tag=x&tag=y", encoded=True)
    async with door.request(method, target) as answer:
        assert answer.status == 200
    (seen,) = behind.seen
    assert (seen.method, seen.raw_path) == (method, path + "?project=a%2Fb&tag=x&tag=y")
    assert seen.headers["Authorization"] == f"Bearer {CALLER_KEY}"


def test_every_path_of_the_services_has_a_way_through(tmp_path: Path) -> None:
    """Each path under /api that memory or ingest describes has a prefix at the gateway, and each prefix a path."""
    services = {
        MEMORY: memory.build(MemorySettings(data_dir=tmp_path)),
        INGEST: ingest.build(IngestSettings(data_dir=tmp_path)),
    }
    for prefixes, service in services.items():
        paths = [path for path in service.openapi()["paths"] if path.startswith("/api/")]
        found = {path: [one for one in prefixes if f"{path}/".startswith(f"{one}/")] for path in paths}
        assert [path for path, own in found.items() if not own] == []
        assert {one for own in found.values() for one in own} == {*prefixes}


@pytest.mark.parametrize("path", ["/api/nowhere", "/api", "/api/episodesx", "/apiepisodes"])
async def test_unknown_paths_are_404_in_the_envelope(door: aiohttp.ClientSession, behind: Behind, path: str) -> None:
    """A path that nobody owns gives 404 in the one shape of errors, and reaches nobody."""
    async with door.get(path) as answer:
        assert answer.status == 404
        assert (await answer.json())["error"]["code"] == "not_found"
    assert behind.seen == []


@pytest.mark.parametrize("key", [None, new_key()])
async def test_nobody_comes_in_without_a_known_key(behind: Behind, key: str | None) -> None:
    """Without a key, or with an unknown one, every path is 401 and nothing reaches the services."""
    paths = [path for _, path in PASSED] + ["/api/nowhere", "/metrics", "/openapi.json", "/"]
    async with gateway(settings_for(behind.url)) as url, caller(url, key) as session:
        for path in paths:
            async with session.get(path) as answer:
                assert answer.status == 401
                assert (await answer.json())["error"]["code"] == "unauthorized"
    assert behind.seen == []


async def test_a_key_may_come_in_the_other_header(behind: Behind) -> None:
    """X-API-Key is as good as a bearer, and travels on as it came."""
    async with (
        gateway(settings_for(behind.url)) as url,
        caller(url, None) as session,
        session.get("/api/episodes", headers={"X-API-Key": CALLER_KEY}) as answer,
    ):
        assert answer.status == 200
    assert behind.seen[0].headers["X-API-Key"] == CALLER_KEY


async def test_health_is_open_and_ready_follows_memory(behind: Behind) -> None:
    """/health needs nobody; /ready is 200 only while memory is ready, and names memory when it is not."""
    async with gateway(settings_for(behind.url)) as url, caller(url, None) as session:
        async with session.get("/ready") as answer:
            assert answer.status == 200
        behind.ready = False
        async with session.get("/ready") as answer:
            assert answer.status == 503
            assert "memory" in (await answer.json())["error"]["message"]
        await behind.stop()
        async with session.get("/ready") as answer:
            assert answer.status == 503
        async with session.get("/health") as answer:
            assert answer.status == 200


async def test_a_service_that_is_away_is_named(behind: Behind, door: aiohttp.ClientSession) -> None:
    """When a service is away the answer is 503 in the envelope and says which; back again, all is well."""
    async with door.get("/api/episodes") as answer:
        assert answer.status == 200
    port = int(behind.url.rsplit(":", 1)[1])
    await behind.stop()
    async with door.get("/api/jsonl/status") as answer:
        assert answer.status == 503
        body = await answer.json()
    assert body["error"]["code"] == "unavailable"
    assert "ingest" in body["error"]["message"]
    await behind.start(port)
    async with door.get("/api/episodes") as answer:
        assert answer.status == 200


async def test_a_body_over_the_limit_is_refused(behind: Behind, door: aiohttp.ClientSession) -> None:
    """More than 32 MB is 413 in the envelope, announced or not; an import may be larger."""

    async def count(request: web.Request) -> web.StreamResponse:
        size = 0
        async for piece in request.content.iter_any():
            size += len(piece)
        return web.json_response({"size": size})

    behind.answer = count
    piece = b"x" * (1 << 20)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield piece

    for body in (pieces(), piece * 40):
        async with door.post("/api/episodes", data=body) as answer:
            assert answer.status == 413
            assert (await answer.json())["error"]["code"] == "too_large"
    async with door.post("/api/episodes/import", data=pieces()) as answer:
        assert await answer.json() == {"size": 40 << 20}


async def test_unknown_host_names_are_refused(door: aiohttp.ClientSession, behind: Behind) -> None:
    """A page of another site that points its name at this machine gets 400 (DNS rebinding)."""
    async with door.get("/api/episodes", headers={"Host": "evil.example"}) as answer:
        assert answer.status == 400
    assert behind.seen == []


async def test_what_only_reads_waits_less_long(behind: Behind) -> None:
    """A service that hangs holds no question for as long as a write may take."""
    open_again = asyncio.Event()

    async def wait(_: web.Request) -> web.StreamResponse:
        await open_again.wait()
        return web.json_response({})

    behind.answer = wait
    async with gateway(settings_for(behind.url, wait=30, total=60, read_wait=0.2)) as url, caller(url) as session:
        for method, path in (
            ("GET", "/api/episodes"),
            ("POST", "/api/episodes/search"),
            ("POST", "/api/episodes/export"),
        ):
            async with session.request(method, path) as answer:
                assert answer.status == 504
        written = asyncio.create_task(session.post("/api/episodes"))
        await asyncio.sleep(0.5)
        assert not written.done()
        open_again.set()
        assert (await written).status == 200
