"""The gateway's app: who owns which path, and who may come in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from anamnesis.kit.app import create_app
from anamnesis.kit.auth import READING_PATHS, ServiceKey
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.keys import RemoteKeys
from services.gateway.evaluate.memory import MemoryDesk
from services.gateway.evaluate.routes import routes as evaluate_routes
from services.gateway.evaluate.runs import Runs
from services.gateway.proxy import Deadlines, Proxy, Service
from services.gateway.settings import GatewaySettings

MAX_IMPORT = 4 << 30  # bytes of one import; passed on as they come, never held
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]

MEMORY = (
    "/api/episodes",
    "/api/embedding",
    "/api/blocklist",
    "/api/settings",
    "/api/state",
    "/api/leases",
    "/api/keys",
)
INGEST = ("/api/jsonl",)
SEARCH = "/api/episodes/search"
ENDLESS = ("/api/episodes/export", "/api/episodes/import")
"""Paths of memory whose bodies may be larger and take longer than any bound."""


def build(settings: GatewaySettings) -> FastAPI:
    """The app; nothing is opened before it starts."""
    memory = Service("memory", str(settings.memory_url).rstrip("/"))
    ingest = Service("ingest", str(settings.ingest_url).rstrip("/"))
    client = ServiceClient(memory.url, settings.service_key)
    proxy = Proxy()
    evaluations = Runs(MemoryDesk(client))
    bounded = Deadlines(settings.gateway_wait, settings.gateway_idle, settings.gateway_total)
    endless = bounded._replace(total=None)
    read_wait = min(settings.gateway_wait, settings.gateway_read_wait)

    def pass_on(path: str, service: Service, deadlines: Deadlines) -> None:
        async def forward(request: Request) -> Response:
            reads = request.method == "GET" or path in READING_PATHS
            return proxy.forward(request, service, deadlines._replace(wait=read_wait) if reads else deadlines)

        # The service behind describes its paths itself; repeating them here would only go stale.
        router.add_api_route(path, forward, methods=METHODS, response_class=Response, include_in_schema=False)

    router = APIRouter()
    for path in ENDLESS:
        pass_on(path, memory, endless)
    pass_on(SEARCH, memory, bounded)
    for service, prefixes in ((memory, MEMORY), (ingest, INGEST)):
        for prefix in prefixes:
            pass_on(prefix, service, bounded)
            pass_on(prefix + "/{rest:path}", service, bounded)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            await proxy.open()
            try:
                yield
            finally:
                await evaluations.close()
                await proxy.close()

    async def ready() -> None:
        await proxy.require_ready(memory)

    return create_app(
        "gateway",
        routers=[evaluate_routes(evaluations), router],
        holder=ServiceKey(settings.service_key, RemoteKeys(client)),
        allowed_hosts=settings.own_hosts,
        ready=ready,
        lifespan=lifespan,
        larger={"/api/episodes/import": MAX_IMPORT},
    )
