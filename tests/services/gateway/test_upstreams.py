"""The scripted upstream does to a real client what its script says."""

import asyncio

import aiohttp
import pytest

from .upstreams import BAD_FRAMING, Cut, Reset, Script, Stall, Upstream, refusing, respond, sse, stream

FRAME = sse({"text": "hello"})


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (stream([FRAME], then=Reset()), aiohttp.ClientError),
        (stream([FRAME], then=Cut()), aiohttp.ClientPayloadError),
        (stream([FRAME], then=BAD_FRAMING), aiohttp.ClientError),
        ((Reset(),), aiohttp.ClientConnectionError),
        ((Cut(),), aiohttp.ServerDisconnectedError),
    ],
)
async def test_what_breaks_is_seen_to_break(script: Script, error: type[Exception]) -> None:
    """A reset, a cut and broken framing each reach a client as that failure."""
    async with Upstream(script) as upstream, aiohttp.ClientSession() as session:
        with pytest.raises(error):
            async with session.post(upstream.url, data=b"ask") as answer:
                await answer.read()
    assert upstream.seen[0].body == b"ask"


async def test_whole_answers_share_a_connection() -> None:
    """Answers in chunks and in one piece are whole, in the order of the scripts, over one connection."""
    async with (
        Upstream(stream([FRAME, FRAME]), respond(429, {"no": 1}, {"Retry-After": "7"}), respond(200, 3)) as upstream,
        aiohttp.ClientSession() as session,
    ):
        async with session.post(upstream.url) as answer:
            assert await answer.read() == FRAME * 2
        async with session.post(upstream.url) as answer:
            assert (answer.status, answer.headers["Retry-After"], await answer.json()) == (429, "7", {"no": 1})
        for _ in range(2):
            async with session.post(upstream.url) as answer:
                assert await answer.json() == 3
    assert upstream.connected == 1
    assert all(seen.whole and not seen.left.is_set() for seen in upstream.seen)


@pytest.mark.parametrize(("script", "during"), [((Stall(),), "prefill"), (stream([FRAME], then=Stall()), "decode")])
async def test_a_client_that_leaves_is_seen(script: Script, during: str) -> None:
    """When the client goes the upstream knows, before the first frame and after it."""
    async with Upstream(script) as upstream:
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(_read_all(session, upstream.url))
            seen = await upstream.request()
            if during == "decode":
                await asyncio.wait_for(seen.said.wait(), 15)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await asyncio.wait_for(seen.left.wait(), 15)
        assert seen.left_during == during
        assert not seen.whole


async def _read_all(session: aiohttp.ClientSession, url: str) -> None:
    async with session.post(url) as answer:
        await answer.read()


async def test_a_port_can_refuse() -> None:
    """Nobody answers at a refusing address."""
    with refusing() as url:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(url)
