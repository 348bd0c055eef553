"""The pages as the gateway gives them: safe, on behalf of the caller, below any path, and whole when a part fails."""

import gzip
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import NamedTuple

import aiohttp
import pytest
from aiohttp import web
from starlette.testclient import TestClient

from services.gateway.app import build
from services.gateway.headers import POLICY
from tests.services.gateway.conftest import CALLER_KEY, Behind, caller, gateway, settings_for

PAGES = [
    "/dashboard",
    "/dashboard/episodes",
    "/dashboard/episodes/ep_1",
    "/dashboard/search?question=why",
    "/dashboard/ingest",
    "/dashboard/embedding",
    "/dashboard/settings",
    "/dashboard/settings/files",
    "/dashboard/settings/transcripts",
    "/dashboard/settings/night",
    "/dashboard/models",
    "/dashboard/gpus",
    "/dashboard/training",
]
STATS = {
    "episodes": 3,
    "superseded": 0,
    "without_vectors": 1,
    "projects": [{"name": "<b>shop</b>", "episodes": 3, "latest": "2026-11-01T00:00:00Z"}],
    "instances": [{"name": "laptop", "episodes": 3, "latest": "2026-11-01T00:00:00Z"}],
    "earliest": "2026-10-01T00:00:00Z",
    "latest": "2026-11-01T00:00:00Z",
    "bytes_on_disk": 123456,
}


class Tag(NamedTuple):
    name: str
    attributes: dict[str, str | None]


class Reader(HTMLParser):
    """The tags of a page, and whether a script or style has content of its own."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[Tag] = []
        self.inline = ""
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(Tag(tag, dict(attrs)))
        self._within = tag

    def handle_data(self, data: str) -> None:
        if self._within in ("script", "style"):
            self.inline += data.strip()


def addresses(text: str) -> set[str]:
    """Every address of our own that a page names."""
    return {
        value
        for tag in Reader(text).tags
        for name in ("href", "src", "action", "hx-get", "hx-post")
        if (value := tag.attributes.get(name)) and not value.startswith("#")
    }


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_keeps_to_the_policy(door: aiohttp.ClientSession, path: str) -> None:
    """No script, style or handler stands in the page itself, and what it names is ours."""
    async with door.get(path) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        text = await answer.text()
    page = Reader(text)
    assert page.inline == ""
    assert [tag for tag in page.tags if tag.name == "style" or "style" in tag.attributes] == []
    assert [tag for tag in page.tags for name in tag.attributes if name.startswith(("on", "hx-on"))] == []
    assert [one for one in addresses(text) if not one.startswith("/") or one.startswith("//")] == []


async def test_a_page_asks_nothing_of_the_services(door: aiohttp.ClientSession, behind: Behind) -> None:
    """It is there at once; only its panels ask, one by one."""
    for path in PAGES:
        async with door.get(path) as answer:
            assert answer.status == 200
    assert behind.seen == []


@pytest.mark.parametrize("path", PAGES)
def test_a_page_works_below_another_path(path: str) -> None:
    """Every address begins with the path that the gateway is reached under."""
    app = build(settings_for("http://127.0.0.1:9"))
    app.user_middleware = [one for one in app.user_middleware if "Deny" not in str(one.cls)]
    with TestClient(app, base_url="http://127.0.0.1", root_path="/team/memory") as client:
        text = client.get(f"/team/memory{path}").text
    found = addresses(text)
    assert len(found) > 15
    assert [one for one in found if not one.startswith("/team/memory/")] == []
    assert 'data-root="/team/memory"' in text


async def test_panels_ask_with_the_callers_key(door: aiohttp.ClientSession, behind: Behind) -> None:
    """What the caller may not see, the page does not show."""

    async def stats(request: web.Request) -> web.Response:
        return web.json_response(STATS)

    behind.answer = stats
    async with door.get("/dashboard/parts/overview/makeup") as answer:
        text = await answer.text()
    assert [one.headers["Authorization"] for one in behind.seen] == [f"Bearer {CALLER_KEY}"]
    assert "&lt;b&gt;shop&lt;/b&gt;" in text
    assert "<b>shop</b>" not in text


async def test_a_panel_says_what_failed(door: aiohttp.ClientSession, behind: Behind) -> None:
    """In the words of whoever failed, as text, with a way to try again."""

    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"error": {"code": "not_found", "message": "no <i>such</i> thing"}}, status=404)

    behind.answer = refuse
    async with door.get("/dashboard/parts/overview/coverage") as answer:
        assert answer.status == 200
        text = await answer.text()
    assert "No &lt;i&gt;such&lt;/i&gt; thing" in text
    assert "data-retry" in text


async def test_a_panel_does_not_hide_that_the_key_is_gone(door: aiohttp.ClientSession, behind: Behind) -> None:
    """The page is told, and leads to the login."""

    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"error": {"code": "unauthorized", "message": "no"}}, status=401)

    behind.answer = refuse
    async with door.get("/dashboard/parts/overview/tiles") as answer:
        assert answer.status == 401


async def test_parts_are_compressed_and_pages_are_not(door: aiohttp.ClientSession, behind: Behind) -> None:
    """A page holds the token against forged requests, and secrets are not compressed beside others' words."""

    async def stats(request: web.Request) -> web.Response:
        many = [{"name": f"p{number}", "episodes": 3, "latest": "2026-11-01T00:00:00Z"} for number in range(9)]
        return web.json_response({**STATS, "projects": many})

    behind.answer = stats
    headers = {"Accept-Encoding": "gzip"}
    async with door.get("/dashboard/parts/overview/makeup", headers=headers) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert b"laptop" in gzip.decompress(await answer.read())
    async with door.get("/dashboard?question=x", headers=headers) as answer:
        assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard/parts/search/results?question=x&a_top_k=many",
        "/dashboard/parts/search/results?question=",
        "/dashboard/parts/search/results?question=x&compare=on&b_floor=2",
        "/dashboard/parts/search/results?question=x&since=yesterday",
        "/dashboard/parts/episodes/list?until=2026-13-01",
    ],
)
async def test_a_question_that_cannot_be_meant_is_explained(
    door: aiohttp.ClientSession, behind: Behind, path: str
) -> None:
    """Nobody is asked, and the panel says which field is wrong."""
    async with door.get(path) as answer:
        assert answer.status == 200
        assert "failure" in await answer.text()
    assert behind.seen == []


@pytest.fixture
async def told(behind: Behind) -> AsyncIterator[aiohttp.ClientSession]:
    """A caller of a gateway whose services say how they stand."""

    async def stand(request: web.Request) -> web.Response:
        if request.path == "/api/episodes/stats":
            return web.json_response(STATS)
        return web.json_response({"state": "idle"}) if "reembed" in request.path else web.json_response({}, status=404)

    behind.answer = stand
    async with gateway(settings_for(behind.url)) as url, caller(url) as session:
        yield session


async def test_events_come_as_contracts(told: aiohttp.ClientSession) -> None:
    """One stream, a name for each kind, the data as the API gives it."""
    seen: dict[str, str] = {}
    async with told.get("/api/events") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        name = ""
        async for line in answer.content:
            key, _, value = line.decode().strip().partition(": ")
            if key == "event":
                name = value
            elif key == "data":
                seen[name] = value
            if {"stats", "reembed", "latency"} <= seen.keys():
                break
    assert '"episodes":3' in seen["stats"]
    assert '"state":"idle"' in seen["reembed"]
    assert '"requests":0' in seen["latency"]


async def test_events_need_a_key(behind: Behind) -> None:
    """As every path does."""
    async with (
        gateway(settings_for(behind.url)) as url,
        caller(url, None) as session,
        session.get("/api/events") as answer,
    ):
        assert answer.status == 401


PLAIN = {"Accept-Encoding": "identity"}
EPISODE = {
    "episode_id": "ep_file_1",
    "timestamp": "2026-11-01T00:00:00Z",
    "ingested_at": "2026-11-01T00:00:00Z",
    "instance": "laptop",
    "project": "shop",
    "summary": "README: how it is installed",
    "tags": ["on:laptop", "deleted"],
    "source": {"kind": "document", "path": "docs/a.pdf", "line": 12, "last_line": 48, "page": 3, "section": "A > <B>"},
    "content_hash": "0" * 64,
    "superseded_by": "ep_new",
    "consolidated_from": ["ep_part_1", "ep_part_2"],
}


async def test_an_episode_says_where_in_a_file_it_stands(door: aiohttp.ClientSession, behind: Behind) -> None:
    """File, lines, page and section; that it is gone, replaced, or made from others, each with the way there."""

    async def one(request: web.Request) -> web.Response:
        return web.json_response(EPISODE)

    behind.answer = one
    async with door.get("/dashboard/parts/episodes/one/ep_file_1", headers=PLAIN) as answer:
        text = await answer.text()
    for words in ("docs/a.pdf", "12 to 48", "<dt>Page</dt><dd>3</dd>", "A &gt; &lt;B&gt;", "Its file was deleted."):
        assert words in text
    assert {f"/dashboard/episodes/{id}" for id in ("ep_new", "ep_part_1", "ep_part_2")} <= addresses(text)


SCHEDULE = {"schedule": {"enabled": True, "at": "05:00", "time_zone": "UTC"}, "version": 1}
STANDING = {
    "/api/crawler/status": {"state": "off"},
    "/api/schedule": SCHEDULE,
    "/api/jsonl/summaries": {"backend": "extractive", "pending": 0},
}


async def test_what_comes_in_is_told_by_the_stream(behind: Behind) -> None:
    """The crawler, the schedule and the summaries, beside what was told before."""

    async def stand(request: web.Request) -> web.Response:
        found = STANDING.get(request.path)
        return web.json_response(found or {}, status=200 if found else 404)

    behind.answer = stand
    seen: set[str] = set()
    async with (
        gateway(settings_for(behind.url)) as url,
        caller(url) as session,
        session.get("/api/events") as answer,
    ):
        async for line in answer.content:
            key, _, value = line.decode().strip().partition(": ")
            if key == "event":
                seen.add(value)
            if {"crawler", "schedule", "summaries"} <= seen:
                break
    assert {"crawler", "schedule", "summaries"} <= seen


@pytest.mark.parametrize("which", ["transcripts", "files"])
async def test_a_table_asks_for_its_page_alone(door: aiohttp.ClientSession, behind: Behind, which: str) -> None:
    """What is on other pages is not fetched; a state that the list does not know is none; paths are text."""

    async def stand(request: web.Request) -> web.Response:
        if request.path == "/api/crawler/status":
            return web.json_response({"state": "idle"})
        one = {
            "path": "/srv/<b>a</b>/b.py",
            "project": "shop",
            "state": "read",
            "size": 100,
            "modified_at": "2026-11-01T00:00:00Z",
        }
        more = {"bytes_read": 100} if which == "transcripts" else {"source": "s", "instance": "i"}
        return web.json_response({"files": [{**one, **more}], "total": 40})

    behind.answer = stand
    path = f"/dashboard/parts/ingest/files?which={which}&state=nonsense&page=2"
    async with door.get(path, headers=PLAIN) as answer:
        text = await answer.text()
    assert dict(behind.seen[-1].query) == {"skip": "15", "limit": "15"}
    assert "/srv/&lt;b&gt;a&lt;/b&gt;/" in text
    assert "16–16 of 40" in text


@pytest.mark.parametrize("path", ["/dashboard/settings/files", "/dashboard/settings/night", "/dashboard/ingest"])
async def test_what_a_key_may_not_do_is_not_offered(door: aiohttp.ClientSession, path: str) -> None:
    """A key of scope `write` may begin runs and not change settings; the page says so."""
    async with door.get(path) as answer:
        text = await answer.text()
    assert ("that needs the scope “admin”" in text) == ("settings" in path)
    assert ('id="start"' in text) == ("ingest" in path)
