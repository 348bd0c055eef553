"""Paths that are passed on below a name: each trainer's own."""

from base64 import b64encode
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from pydantic import HttpUrl, SecretStr
from yarl import URL

from services.gateway.settings import GatewaySettings
from tests.services.gateway.conftest import CALLER_KEY, SERVICE_KEY, Behind, caller, gateway
from tests.services.gateway.upstreams import Upstream, respond, sse, stream


def apart(behind: Behind, ingest: Upstream) -> GatewaySettings:
    """Memory and ingest at different addresses."""
    return settings(behind).model_copy(update={"ingest_url": HttpUrl(ingest.url)})


def settings(behind: Behind, *trainers: str) -> GatewaySettings:
    return GatewaySettings(
        memory_url=HttpUrl(behind.url),
        ingest_url=HttpUrl(behind.url),
        service_key=SecretStr(SERVICE_KEY),
        TRAINER_URLS=",".join(trainers),
    )


@pytest.mark.parametrize("label", ["host%3A3011", "host:3011", "gpu-1"])
async def test_a_trainers_paths_lie_below_its_label(behind: Behind, label: str) -> None:
    """`/api/trainers/LABEL/...` is the trainer's own path, with the query, the body and the caller's key."""
    async with Upstream(respond(200, {"run": 7})) as one, Upstream(respond(200, {"run": 8})) as other:
        named = settings(behind, f"gpu-1={one.url}", f"host:3011={other.url}")
        async with gateway(named) as url, caller(url) as session:
            path = f"{url}/api/trainers/{label}/start?resume=a%2Fb"
            async with session.post(URL(path, encoded=True), json={"method": "qlora"}) as answer:
                assert await answer.json() == {"run": 7 if label == "gpu-1" else 8}
        [seen] = one.seen + other.seen
    assert (seen.method, seen.path) == ("POST", "/start?resume=a%2Fb")
    assert seen.headers["authorization"] == f"Bearer {CALLER_KEY}"
    assert seen.json() == {"method": "qlora"}


async def test_a_trainers_stream_is_passed_on(behind: Behind) -> None:
    """Progress is streamed as it comes."""
    frames = [sse({"step": 1}), sse({"step": 2})]
    async with (
        Upstream(stream(frames)) as trainer,
        gateway(settings(behind, f"a={trainer.url}")) as url,
        caller(url) as session,
        session.get(f"{url}/api/trainers/a/progress") as answer,
    ):
        assert await answer.read() == b"".join(frames)


async def test_the_schedule_is_ingests(behind: Behind) -> None:
    """`/api/schedule` and what lies below it are passed on to the ingest service."""
    async with Upstream(respond(200, {"schedule": 1})) as ingest:
        there = settings(behind).model_copy(update={"ingest_url": HttpUrl(ingest.url)})
        async with gateway(there) as url, caller(url) as session:
            for path in ("/api/schedule", "/api/schedule/run", "/api/jsonl/config", "/api/jsonl/summaries"):
                async with session.post(url + path) as answer:
                    assert await answer.json() == {"schedule": 1}
    assert {"/api/schedule", "/api/schedule/run"} <= {seen.path for seen in ingest.seen}


async def test_an_unknown_label_is_named(behind: Behind) -> None:
    """A label that no trainer has is 404, with those that there are."""
    async with (
        gateway(settings(behind, "a=http://127.0.0.1:9")) as url,
        caller(url) as session,
        session.get(f"{url}/api/trainers/b/status") as answer,
    ):
        assert answer.status == 404
        assert "these are configured: a" in (await answer.json())["error"]["message"]


async def test_a_trainer_behind_a_proxy_with_a_password(behind: Behind) -> None:
    """An address with a user is answered for by that user, and the caller's key comes beside it, once; nobody is told
    the password."""
    async with Upstream(respond(200, {})) as trainer:
        place = trainer.url.replace("http://", "http://carla:hunter2secret@")
        async with gateway(settings(behind, f"a={place}")) as url, caller(url) as session:
            async with session.get(f"{url}/api/trainers/a/log/tail", headers={"X-API-Key": "another"}) as answer:
                assert answer.status == 200
            seen = trainer.seen[-1].headers
            assert seen["authorization"] == "Basic " + b64encode(b"carla:hunter2secret").decode()
            assert seen["x-api-key"] == CALLER_KEY
            for path in ("/api/config/trainers", "/api/anamnesis-gpt/status", "/api/backends"):
                async with session.get(url + path) as answer:
                    assert answer.status == 200, path
                    assert "hunter2secret" not in await answer.text()


@pytest.mark.parametrize(("headers", "first"), [({}, True), ({"X-Anamnesis-Trainer": "b"}, False)])
async def test_vessels_live_at_a_trainer(behind: Behind, headers: dict[str, str], first: bool) -> None:
    """Their paths are passed on as they are, to the first trainer or to the one that is named."""
    async with (
        Upstream(respond(200, {"vessels": ["a"]})) as one,
        Upstream(respond(200, {"vessels": ["b"]})) as other,
        gateway(settings(behind, f"a={one.url}", f"b={other.url}")) as url,
        caller(url) as session,
        session.get(f"{url}/api/vessels/tutor/facts?limit=3", headers=headers) as answer,
    ):
        assert await answer.json() == {"vessels": ["a" if first else "b"]}
        [seen] = (one if first else other).seen
        assert seen.path == "/api/vessels/tutor/facts?limit=3"


async def test_vessels_need_a_trainer(behind: Behind) -> None:
    """Without one, the answer says what to set."""
    async with gateway(settings(behind)) as url, caller(url) as session, session.get(f"{url}/api/vessels") as answer:
        assert answer.status == 503
        assert "TRAINER_URLS" in (await answer.json())["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/episodes/upload"),
        ("POST", "/api/ingest-url"),
        ("GET", "/api/jsonl/status"),
        ("PUT", "/api/crawler/config"),
        ("POST", "/api/crawler/scan?anew=1"),
        ("GET", "/api/schedule"),
        ("PATCH", "/api/schedule/night"),
    ],
)
async def test_what_is_ingests_goes_to_ingest(behind: Behind, method: str, path: str) -> None:
    """Also an upload, though its path lies below memory's; with the caller's key and the body as it is."""
    async with (
        Upstream(respond(200, {"by": "ingest"})) as ingest,
        gateway(apart(behind, ingest)) as url,
        caller(url) as session,
        session.request(method, url + path, data=b"a body") as answer,
    ):
        assert await answer.json() == {"by": "ingest"}
        [seen] = ingest.seen
    assert (seen.method, seen.path, seen.body) == (method, path, b"a body")
    assert seen.headers["authorization"] == f"Bearer {CALLER_KEY}"
    assert not [one for one in behind.seen if one.path == path.partition("?")[0]]


@pytest.mark.parametrize(
    "path", ["/api/episodes", "/api/episodes/batch", "/api/episodes/ep_1", "/api/settings/crawler"]
)
async def test_what_is_memorys_stays_memorys(behind: Behind, path: str) -> None:
    """Beside the one path of ingest among them."""
    async with (
        Upstream(respond(200, {})) as ingest,
        gateway(apart(behind, ingest)) as url,
        caller(url) as session,
        session.post(url + path, json={}) as answer,
    ):
        assert answer.status == 200
        assert not ingest.seen
    assert behind.seen[-1].path == path


@pytest.mark.parametrize(("size", "passes"), [(45 << 20, True), (60 << 20, False)])
@pytest.mark.parametrize("announced", [True, False])
async def test_a_document_of_fifty_megabytes_passes(behind: Behind, size: int, passes: bool, announced: bool) -> None:
    """The bound of a body is an upload's own, and other paths keep theirs; the type of the form travels along."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(size >> 20):
            yield bytes(1 << 20)

    got: list[int] = []

    async def count(request: web.Request) -> web.StreamResponse:
        got.append(sum([len(piece) async for piece in request.content.iter_any()]))
        return web.json_response({"type": request.headers["content-type"]}, status=201)

    behind.answer = count
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    body: bytes | AsyncIterator[bytes] = bytes(size) if announced else pieces()
    async with gateway(settings(behind)) as url, caller(url) as session:
        try:
            async with session.post(f"{url}/api/episodes/upload", data=body, headers=headers) as answer:
                status, told = answer.status, await answer.json()
        except aiohttp.ClientConnectionError:  # refused and closed while the rest was still on its way
            status, told = 413, None
        assert status == (201 if passes else 413)
        if passes:
            assert told == {"type": headers["Content-Type"]}
        async with session.post(f"{url}/api/ingest-url", data=b"{}") as answer:
            assert answer.status == 201
    assert got == ([size, 2] if passes else [2])
