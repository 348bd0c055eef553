"""The memory service over HTTP: how long it is waited for when it is away."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from anamnesis.contracts.episodes import BatchResult, EpisodeBatch
from anamnesis.destination import HttpDestination
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import Invalid, Unavailable

BATCH = EpisodeBatch.model_validate({"episodes": [{"instance": "laptop", "project": "shop", "summary": "x"}]})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Peer:
    """Answers batches on a port once it is started."""

    def __init__(self) -> None:
        self.port = free_port()
        self.answers: list[web.Response] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/api/episodes/batch", self._push)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _push(self, request: web.Request) -> web.Response:
        if self.answers:
            return self.answers.pop()
        return web.json_response(text=BatchResult(results=()).model_dump_json())


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    one = Peer()
    yield one
    await one.stop()


def client(peer: Peer) -> ServiceClient:
    return ServiceClient(f"http://127.0.0.1:{peer.port}", None)


async def test_a_service_that_is_away_is_waited_for_a_little(peer: Peer) -> None:
    """After its patience has run out it gives up, long before the time that an answer may take."""
    waits = 0

    def waiting() -> None:
        nonlocal waits
        waits += 1

    async with client(peer) as http, asyncio.timeout(30):
        destination = HttpDestination(http, "n", waiting, patience=1.0)
        assert not destination.away
        with pytest.raises(Unavailable):
            await destination.push(BATCH)
        assert destination.away
        with pytest.raises(Unavailable):
            await destination.load_offsets()
    assert waits >= 2


async def test_a_service_that_comes_back_gets_what_was_to_be_sent(peer: Peer) -> None:
    """A restart in the middle of a run costs no more than its time."""
    waiting = asyncio.Event()
    async with client(peer) as http, asyncio.timeout(30):
        destination = HttpDestination(http, "n", waiting.set)
        push = asyncio.create_task(destination.push(BATCH))
        await waiting.wait()
        await peer.start()
        assert (await push).results == ()
        assert not destination.away


async def test_a_refusal_is_an_answer(peer: Peer) -> None:
    """What the service will not take is not sent again."""
    body = {"error": {"code": "invalid", "message": "no", "detail": None}}
    peer.answers = [web.json_response(body, status=422)]
    await peer.start()
    async with client(peer) as http:
        destination = HttpDestination(http, "n")
        with pytest.raises(Invalid):
            await destination.push(BATCH)
        assert not destination.away
