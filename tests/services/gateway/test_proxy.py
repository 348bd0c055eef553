"""How bytes travel through the gateway: streaming, headers, deadlines, and either side leaving."""

import asyncio
import gzip
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import aiohttp
import pytest
from aiohttp import web

from .conftest import Behind, caller, gateway, settings_for


async def leave(request: AbstractAsyncContextManager[aiohttp.ClientResponse], reached: asyncio.Event) -> None:
    """Send a request, and drop it when the service has it."""

    async def send() -> None:
        async with request:
            pass

    sending = asyncio.create_task(send())
    await asyncio.wait_for(reached.wait(), 15)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_an_answer_streams(door: aiohttp.ClientSession, behind: Behind) -> None:
    """The first piece of an answer arrives before the service has written the second."""
    seen_first = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await response.write(b"one\n")
        await asyncio.wait_for(seen_first.wait(), 5)
        await response.write(b"two\n")
        return response

    behind.answer = stream
    async with door.get("/api/episodes/export") as answer:
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert await answer.content.readany() == b"one\n"
        seen_first.set()
        assert await answer.content.read() == b"two\n"


async def test_a_body_streams(door: aiohttp.ClientSession, behind: Behind) -> None:
    """The service reads the first piece of a request before the caller has sent the second."""
    got_first = asyncio.Event()

    async def read(request: web.Request) -> web.StreamResponse:
        first = await request.content.readany()
        got_first.set()
        return web.json_response({"first": first.decode(), "rest": (await request.content.read()).decode()})

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.wait_for(got_first.wait(), 5)
        yield b"two"

    behind.answer = read
    async with door.post("/api/episodes/import", data=pieces()) as answer:
        assert await answer.json() == {"first": "one", "rest": "two"}


async def test_bytes_arrive_as_they_were_sent(door: aiohttp.ClientSession, behind: Behind) -> None:
    """Bodies and status pass unchanged in both directions, compressed ones included."""
    payload = gzip.compress(os.urandom(300_000))

    async def echo(request: web.Request) -> web.StreamResponse:
        assert request.headers["Content-Type"] == "application/json"
        assert request.content_length == len(payload)
        return web.Response(status=207, body=await request.read(), headers={"Content-Encoding": "gzip"})

    behind.answer = echo
    async with door.post("/api/episodes", data=payload, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == 207
        assert answer.headers["Content-Encoding"] == "gzip"
        assert await answer.read() == payload


async def test_headers_of_one_connection_stay_on_it(door: aiohttp.ClientSession, behind: Behind) -> None:
    """Hop-by-hop headers and those that `Connection` names are dropped, the others pass."""

    async def answer_with_headers(_: web.Request) -> web.StreamResponse:
        return web.Response(headers={"Keep-Alive": "timeout=5", "X-Kept": "yes", "Proxy-Authenticate": "no"})

    behind.answer = answer_with_headers
    sent = {"Connection": "keep-alive, X-Private", "X-Private": "1", "TE": "trailers", "X-Mine": "2"}
    async with door.get("/api/episodes", headers=sent) as answer:
        assert answer.headers["X-Kept"] == "yes"
        assert "Keep-Alive" not in answer.headers
        assert "Proxy-Authenticate" not in answer.headers
        assert len(answer.headers.getall("Date")) == 1
    (seen,) = behind.seen
    assert seen.headers["X-Mine"] == "2"
    assert "X-Private" not in seen.headers
    assert "TE" not in seen.headers


async def test_the_request_id_is_one_through_all_services(door: aiohttp.ClientSession, behind: Behind) -> None:
    """The id that the caller gave, or that the gateway made, is the one that the service sees and the caller gets."""
    async with door.get("/api/episodes", headers={"X-Request-ID": "mine-1"}) as answer:
        assert answer.headers.getall("X-Request-ID") == ["mine-1"]
    async with door.get("/api/episodes") as answer:
        made = answer.headers["X-Request-ID"]
    assert [seen.headers.getall("X-Request-ID") for seen in behind.seen] == [["mine-1"], [made]]


@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_an_answer_cut_off_never_looks_whole(door: aiohttp.ClientSession, behind: Behind, framing: str) -> None:
    """When the service dies in the middle of a body, the caller's connection breaks too."""

    async def die(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if framing == "length":
            response.content_length = 1000
        await response.prepare(request)
        await response.write(b"half of it")
        assert request.transport is not None
        request.transport.abort()
        await asyncio.sleep(5)
        return response

    behind.answer = die
    async with door.get("/api/episodes/export") as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_a_caller_who_leaves_while_waiting_ends_the_work(door: aiohttp.ClientSession, behind: Behind) -> None:
    """When the caller closes before any answer, the request to the service is closed at once."""

    reached = asyncio.Event()

    async def wait(_: web.Request) -> web.StreamResponse:
        reached.set()
        await asyncio.sleep(30)
        return web.Response()

    behind.answer = wait
    await leave(door.post("/api/episodes/search", json={}), reached)
    await asyncio.wait_for(behind.closed.wait(), 15)


async def test_a_caller_who_leaves_in_the_middle_ends_the_stream(door: aiohttp.ClientSession, behind: Behind) -> None:
    """When the caller closes in the middle of a stream, the service stops writing."""

    async def forever(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 1000)
            await asyncio.sleep(0.01)

    behind.answer = forever
    async with door.get("/api/episodes/export") as answer:
        await answer.content.readany()
        answer.close()
    await asyncio.wait_for(behind.closed.wait(), 15)


async def test_a_caller_who_leaves_in_the_middle_of_a_body(door: aiohttp.ClientSession, behind: Behind) -> None:
    """A body that the caller never finishes reaches the service as a broken one, never as a whole one."""
    outcomes: list[str] = []
    reached = asyncio.Event()

    async def read(request: web.Request) -> web.StreamResponse:
        await request.content.readany()
        reached.set()
        try:
            await request.read()
        except BaseException as error:
            outcomes.append(type(error).__name__)
            raise
        outcomes.append("whole")
        return web.Response()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.sleep(30)

    behind.answer = read
    await leave(door.post("/api/episodes/import", data=pieces()), reached)
    await asyncio.wait_for(behind.closed.wait(), 15)
    assert outcomes
    assert "whole" not in outcomes


async def test_silence_has_an_end(behind: Behind) -> None:
    """A service whose answer does not begin in time gives 504 in the envelope, naming it."""

    async def wait(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    behind.answer = wait
    async with (
        gateway(settings_for(behind.url, wait=0.3)) as url,
        caller(url) as session,
        session.get("/api/episodes") as answer,
    ):
        assert answer.status == 504
        error = (await answer.json())["error"]
        assert error["code"] == "deadline_exceeded"
        assert "memory" in error["message"]


async def test_bytes_that_flow_keep_a_stream_alive(behind: Behind) -> None:
    """A stream may take longer than the idle deadline, and an export longer than the total one."""
    enough = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while not enough.is_set():
            await response.write(b"x")
            await asyncio.sleep(0.05)
        await response.write(b"end")
        return response

    behind.answer = slow
    async with (
        gateway(settings_for(behind.url, idle=3.0, total=4.0)) as url,
        caller(url) as session,
        session.get("/api/episodes/export") as export,
    ):
        assert (await export.content.readany()).startswith(b"x")
        # Begun after the export, and cut off by the total deadline: then the export has lasted longer than it.
        async with session.get("/api/episodes") as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        enough.set()
        assert (await export.read()).endswith(b"xend")


async def test_an_answer_that_stalls_is_cut_off(behind: Behind) -> None:
    """An answer that has begun and then says nothing for the idle deadline breaks the caller's connection."""

    async def stall(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await asyncio.sleep(30)
        return response

    behind.answer = stall
    async with (
        gateway(settings_for(behind.url, idle=0.3)) as url,
        caller(url) as session,
        session.get("/api/episodes/export") as answer,
    ):
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    await asyncio.wait_for(behind.closed.wait(), 15)


async def test_an_early_refusal_reaches_the_caller(door: aiohttp.ClientSession, behind: Behind) -> None:
    """A service may answer before it has read the body, and the caller gets that answer."""

    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"code": "forbidden", "message": "no"}}, status=403)

    behind.answer = refuse
    async with door.post("/api/episodes/import", data=b"x" * 200_000) as answer:
        assert answer.status == 403


async def test_redirects_and_cookies_are_the_callers(door: aiohttp.ClientSession, behind: Behind) -> None:
    """The gateway follows no redirect, keeps no cookie of anybody, and passes none on: cookies here are its own."""

    async def redirect(_: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "/api/episodes/x", "Set-Cookie": "a=b; Path=/"})

    behind.answer = redirect
    for _ in range(2):
        async with door.get("/api/episodes", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (307, "/api/episodes/x")
            assert "Set-Cookie" not in answer.headers
        door.cookie_jar.clear()
    assert all("Cookie" not in seen.headers for seen in behind.seen)


HOSTILE = {
    "Content-Security-Policy": "script-src * 'unsafe-inline'",
    "X-Frame-Options": "ALLOWALL",
    "X-Content-Type-Options": "sniff",
    "Referrer-Policy": "unsafe-url",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Cross-Origin-Opener-Policy": "unsafe-none",
    "Access-Control-Allow-Origin": "*",
    "Set-Cookie": "anamnesis_session=theirs; Path=/",
    "Clear-Site-Data": '"*"',
    "Service-Worker-Allowed": "/",
    "WWW-Authenticate": 'Basic realm="Anamnesis"',
    "Refresh": "0; url=https://evil.example",
    "Link": "<https://evil.example/x.js>; rel=preload",
}


@pytest.mark.parametrize("kind", ["text/html", "TEXT/HTML", "image/svg+xml", "application/xhtml+xml", "text/plain"])
async def test_what_is_passed_on_runs_nothing_on_our_origin(
    door: aiohttp.ClientSession, behind: Behind, kind: str
) -> None:
    """A page that a service behind answers with is shown without scripts and without an origin, and what it would
    tell a browser about this origin (cookies, policies, passwords, workers) stays behind."""

    async def hostile(_: web.Request) -> web.StreamResponse:
        return web.Response(status=401, body=b"<script>alert(1)</script>", headers=HOSTILE | {"Content-Type": kind})

    behind.answer = hostile
    async with door.get("/api/episodes") as answer:
        said = answer.headers
        assert said.getall("Content-Security-Policy") == [
            "default-src 'none'; frame-ancestors 'none'; sandbox allow-downloads"
        ]
        assert said.getall("X-Frame-Options") == ["DENY"]
        assert said.getall("X-Content-Type-Options") == ["nosniff"]
        assert said.getall("Referrer-Policy") == ["same-origin"]
        assert said.getall("Cross-Origin-Resource-Policy") == ["same-origin"]
        assert said.get("Cross-Origin-Opener-Policy") in (None, "same-origin")
        assert not said.keys() & {
            *("Access-Control-Allow-Origin", "Set-Cookie", "Clear-Site-Data", "Service-Worker-Allowed"),
            *("WWW-Authenticate", "Refresh", "Link"),
        }
