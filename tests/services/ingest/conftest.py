"""The ingest service on a real port, and behind it a small real server that keeps what memory would keep."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from aiohttp import web
from pydantic import HttpUrl, SecretStr

from anamnesis.contracts.episodes import EpisodeBatch
from anamnesis.contracts.keys import Identity, KeyCheck, Scope
from anamnesis.kit.auth import key_hash, new_key
from anamnesis.kit.errors import AnamnesisError
from services.ingest.app import build
from services.ingest.settings import IngestSettings
from tests.anamnesis.transcripts.destination import Memory

SERVICE_KEY = new_key()
WRITER_KEY = new_key()
READER_KEY = new_key()


class MemoryPeer:
    """Answers the paths of memory that ingest uses, out of a `Memory`."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.ready = True
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_get("/ready", self._readiness)
        app.router.add_post("/api/keys/check", self._check)
        app.router.add_get("/api/state/offsets/{namespace}", self._marks)
        app.router.add_put("/api/state/offsets/{namespace}", self._save)
        app.router.add_post("/api/state/offsets/{namespace}/remove", self._remove)
        app.router.add_post("/api/episodes/batch", self._push)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _readiness(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ready"}, status=200 if self.ready else 503)

    async def _check(self, request: web.Request) -> web.StreamResponse:
        check = KeyCheck.model_validate_json(await request.read())
        scopes = {key_hash(WRITER_KEY): Scope.WRITE, key_hash(READER_KEY): Scope.READ}
        if check.hash not in scopes:
            return web.json_response({"error": {"code": "not_found", "message": "no such key"}}, status=404)
        return web.json_response(text=Identity(key_id="k1", name="tests", scope=scopes[check.hash]).model_dump_json())

    async def _marks(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"documents": dict(await self.memory.load_offsets())})

    async def _save(self, request: web.Request) -> web.StreamResponse:
        documents = (await request.json())["documents"]
        await self.memory.save_offsets(documents)
        return web.json_response({"changed": len(documents)})

    async def _remove(self, request: web.Request) -> web.StreamResponse:
        keys = (await request.json())["keys"]
        await self.memory.remove_offsets(keys)
        return web.json_response({"changed": len(keys)})

    async def _push(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == f"Bearer {SERVICE_KEY}"
        try:
            result = await self.memory.push(EpisodeBatch.model_validate_json(await request.read()))
        except AnamnesisError as error:
            return web.json_response(json.loads(error.envelope().model_dump_json()), status=error.status)
        return web.json_response(text=result.model_dump_json())


@pytest.fixture
async def peer() -> AsyncIterator[MemoryPeer]:
    server = MemoryPeer()
    await server.start()
    yield server
    await server.stop()


@contextlib.asynccontextmanager
async def serving(settings: IngestSettings) -> AsyncIterator[str]:
    """The ingest service served as in production; gives its address."""
    config = uvicorn.Config(
        build(settings), host="127.0.0.1", port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110 -- uvicorn has no event for it
            await asyncio.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await task


def settings_for(peer: MemoryPeer, *roots: Path, poll: float = 0.0) -> IngestSettings:
    return IngestSettings(
        memory_url=HttpUrl(peer.url),
        service_key=SecretStr(SERVICE_KEY),
        transcript_roots=tuple(map(str, roots)),
        ingest_instance="laptop",
        ingest_poll=poll,
    )
