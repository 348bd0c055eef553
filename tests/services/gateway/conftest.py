"""A gateway on a real port, and a real small server behind it that stands in for memory and ingest."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
import uvicorn
from aiohttp import web
from pydantic import HttpUrl, SecretStr

from anamnesis.contracts.keys import Identity, KeyCheck, Scope
from anamnesis.kit.auth import key_hash, new_key
from services.gateway.app import build
from services.gateway.settings import GatewaySettings

SERVICE_KEY = new_key()
CALLER_KEY = new_key()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Behind:
    """Answers key look-ups as memory does; what else it answers, a test says in `answer`."""

    def __init__(self) -> None:
        self.ready = True
        self.answer: Handler = self._nothing
        self.seen: list[web.Request] = []
        self.closed = asyncio.Event()
        """Set when a request's connection was closed before its answer was complete."""
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/api/keys/check", self._check)
        app.router.add_get("/ready", self._readiness)
        app.router.add_get("/api/chat/sessions", self._no_sessions)
        app.router.add_route("*", "/{rest:.*}", self._any)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _any(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        try:
            return await self.answer(request)
        except (asyncio.CancelledError, ConnectionError):
            self.closed.set()
            raise

    async def _nothing(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({})

    async def _no_sessions(self, request: web.Request) -> web.StreamResponse:
        """The gateway asks by itself, when it starts, whether turns were left behind."""
        return web.json_response({"sessions": [], "total": 0})

    async def _readiness(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({}, status=200 if self.ready else 503)

    async def _check(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == f"Bearer {SERVICE_KEY}"
        check = KeyCheck.model_validate_json(await request.read())
        if check.hash != key_hash(CALLER_KEY):
            return web.json_response({"error": {"code": "not_found", "message": "no such key"}}, status=404)
        identity = Identity(key_id="k1", name="tests", scope=Scope.WRITE)
        return web.json_response(text=identity.model_dump_json())


@contextlib.asynccontextmanager
async def gateway(settings: GatewaySettings) -> AsyncIterator[str]:
    """The gateway served as in production; gives its address."""
    config = uvicorn.Config(
        build(settings), host="127.0.0.1", port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done(), "the gateway did not start"
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, 10)


def settings_for(
    url: str, wait: float = 5.0, idle: float = 5.0, total: float = 10.0, read_wait: float = 60.0
) -> GatewaySettings:
    return GatewaySettings(
        memory_url=HttpUrl(url),
        ingest_url=HttpUrl(url),
        service_key=SecretStr(SERVICE_KEY),
        gateway_wait=wait,
        gateway_read_wait=read_wait,
        gateway_idle=idle,
        gateway_total=total,
    )


@pytest.fixture
async def behind() -> AsyncIterator[Behind]:
    server = Behind()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def door(behind: Behind) -> AsyncIterator[aiohttp.ClientSession]:
    """A caller with a valid key, talking to the gateway."""
    async with gateway(settings_for(behind.url)) as url, caller(url) as session:
        yield session


def caller(url: str, key: str | None = CALLER_KEY) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        base_url=url,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=aiohttp.ClientTimeout(total=20),
        auto_decompress=False,
    )
