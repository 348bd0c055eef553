"""Conversations at memory's paths: what is refused, what comes in pages, and the files."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from anamnesis.contracts.keys import Identity, Scope
from anamnesis.kit.app import create_app
from services.memory.chat.search import Search
from services.memory.chat.sessions import Sessions
from services.memory.door import Door
from services.memory.endpoints import chat

SESSIONS = "/api/chat/sessions"


class Anybody:
    async def identify(self, hash: str) -> Identity | None:
        return Identity(key_id="k", name="tests", scope=Scope.WRITE)


@pytest.fixture
async def sessions(door: Door) -> Sessions:
    return Sessions(door.store, door, door.blocks, together=2)


@pytest.fixture
async def client(sessions: Sessions) -> AsyncIterator[httpx.AsyncClient]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = create_app(
        "memory",
        routers=[chat.routes(sessions, Search(sessions, sessions.door.workers, seconds=30.0))],
        holder=Anybody(),
        allowed_hosts=["memory"],
        ready=sessions.store.ping,
        lifespan=lifespan,
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://memory", headers={"X-API-Key": "anm_x"}) as one:
        yield one


def _turn(number: int, **more: object) -> dict[str, object]:
    return {
        "turn": number,
        "asked": f"Question {number}",
        "answered": f"Answer {number}",
        "state": "complete",
        "started_at": f"2026-05-01T10:{number:02}:00Z",
        **more,
    }


async def _filled(client: httpx.AsyncClient, title: str = "Lamps & \u201czeppelins\u201d / 2026\r\nX: y") -> None:
    await client.post(SESSIONS, json={"session_id": "a", "title": title, "project": "atlas"})
    for number in range(1, 6):
        answer = await client.put(f"{SESSIONS}/a/turns/{number}", json=_turn(number))
        assert answer.status_code == 200


async def test_a_session_from_its_beginning_to_its_end(client: httpx.AsyncClient) -> None:
    """Created, begun, written, listed, read in pages, renamed, searched and deleted, each by its path."""
    made = await client.post(SESSIONS, json={"title": "A talk", "project": "atlas"})
    assert made.status_code == 201
    place = f"{SESSIONS}/{made.json()['session_id']}"
    begun = await client.post(f"{place}/turns", json={"asked": "Why?", "started_at": "2026-05-01T10:00:00Z"})
    assert begun.status_code == 201
    assert begun.json() == {"session_id": made.json()["session_id"], "turn": 1, "title": "A talk"}
    body = _turn(1, started_at="2026-05-01T10:00:00Z")
    assert (await client.put(f"{place}/turns/1", json=body)).json()["answered"] == "Answer 1"
    assert (await client.patch(f"{place}/title", json={"title": "Renamed"})).json()["titles"][0]["title"] == "A talk"
    [listed] = (await client.get(SESSIONS, params={"project": "atlas"})).json()["sessions"]
    assert (listed["title"], listed["turns"]) == ("Renamed", 1)
    assert (await client.get(SESSIONS, params={"project": "other"})).json() == {"sessions": [], "total": 0}
    read = (await client.get(place)).json()
    assert ([one["turn"] for one in read["turns"]], read["total"], read["session"]) == ([1], 1, listed)
    found = (await client.get(f"{SESSIONS}/search", params={"q": "ANSWER question"})).json()
    assert ([one["turn"] for one in found["results"]], found["complete"]) == ([1], True)
    assert (await client.delete(f"{place}/delete")).json() == {"changed": 1}
    assert (await client.delete(f"{place}/delete")).json() == {"changed": 0}
    for gone in (client.get(place), client.get(f"{place}/export"), client.patch(f"{place}/title", json={"title": "x"})):
        assert (await gone).status_code == 404


async def test_pages_load_upwards(client: httpx.AsyncClient) -> None:
    """The end by default, and what lies before a turn when it is named."""
    await _filled(client)

    async def page(**more: int) -> list[int]:
        return [one["turn"] for one in (await client.get(f"{SESSIONS}/a", params=more)).json()["turns"]]

    assert await page() == [1, 2, 3, 4, 5]
    assert await page(limit=2) == [4, 5]
    assert await page(limit=2, before=4) == [2, 3]
    assert await page(limit=2, before=2) == [1]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "", {"session_id": "../x", "title": "T"}, 422),
        ("POST", "", {"session_id": "search", "title": "T"}, 400),
        ("POST", "", {"session_id": "a", "title": "T"}, 409),
        ("POST", "", {"title": " "}, 422),
        ("PUT", "/a/turns/1", _turn(2), 400),
        ("PUT", "/a/turns/9", _turn(9), 409),
        ("PUT", "/a/turns/0", _turn(1), 422),
        ("PUT", "/none/turns/1", _turn(1), 404),
        ("POST", "/none/turns", {"asked": "Why?", "started_at": "2026-05-01T10:00:00Z"}, 404),
        ("PATCH", "/a/title", {"title": "x" * 201}, 422),
        ("GET", "/search?q=%20", None, 422),
        ("GET", "/a?limit=201", None, 422),
        ("GET", "/a/export?format=exe", None, 422),
        ("GET", "/.hidden", None, 422),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    client: httpx.AsyncClient, method: str, path: str, body: dict[str, object] | None, status: int
) -> None:
    """Each with the status that says why."""
    await _filled(client)
    answer = await client.request(method, SESSIONS + path, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


async def test_files_hold_everything_under_a_safe_name(client: httpx.AsyncClient) -> None:
    """JSON that can be read back and Markdown for people; a title cannot break out of the header."""
    await _filled(client)
    whole = await client.get(f"{SESSIONS}/a/export")
    assert whole.headers["content-disposition"] == 'attachment; filename="lamps-zeppelins-2026-x-y.json"'
    read = json.loads(whole.text)
    page = (await client.get(f"{SESSIONS}/a")).json()
    assert (read["session"], read["turns"]) == (page["session"], page["turns"])
    text = await client.get(f"{SESSIONS}/a/export", params={"format": "markdown"})
    assert text.headers["content-type"] == "text/markdown; charset=utf-8"
    assert text.text.startswith("# Lamps & \u201czeppelins\u201d / 2026 X: y\n")
    places = [text.text.index(f"Answer {number}") for number in range(1, 6)]
    assert places == sorted(places)
    await client.post(SESSIONS, json={"session_id": "b", "title": "\u30e9\u30f3\u30d7"})
    empty = await client.get(f"{SESSIONS}/b/export")
    assert empty.headers["content-disposition"] == 'attachment; filename="chat.json"'
    assert json.loads(empty.text)["turns"] == []


async def test_tabs_that_send_at_once_lose_nothing(client: httpx.AsyncClient) -> None:
    """Begun over HTTP at once, every question has a turn of its own."""
    await _filled(client, "Tabs")
    bodies = [{"asked": f"Tab {number}", "started_at": "2026-05-01T11:00:00Z"} for number in range(6)]
    begun = await asyncio.gather(*[client.post(f"{SESSIONS}/a/turns", json=body) for body in bodies])
    assert sorted(one.json()["turn"] for one in begun) == list(range(6, 12))
    read = (await client.get(f"{SESSIONS}/a")).json()
    assert {one["asked"] for one in read["turns"]} >= {f"Tab {number}" for number in range(6)}
