"""The gateway's app: who owns which path, and who may come in."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from anamnesis.contracts.embedding import EmbeddingConfig, ReembedStatus
from anamnesis.contracts.episodes import EpisodeStats
from anamnesis.contracts.ingest import IngestStatus
from anamnesis.kit.app import create_app
from anamnesis.kit.auth import READING_PATHS, ServiceKey, key_hash, presented_key
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.keys import RemoteKeys
from services.gateway import events, latency
from services.gateway.backends import states
from services.gateway.backends.choose import choose
from services.gateway.dashboard import pages
from services.gateway.dashboard.callers import Callers
from services.gateway.events import Events
from services.gateway.proxy import Deadlines, Proxy, Service
from services.gateway.settings import GatewaySettings

MAX_IMPORT = 4 << 30  # bytes of one import; passed on as they come, never held
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]

MEMORY = (
    "/api/episodes",
    "/api/chat/sessions",
    "/api/embedding",
    "/api/blocklist",
    "/api/settings",
    "/api/state",
    "/api/leases",
    "/api/keys",
)
INGEST = ("/api/jsonl",)
SEARCH = "/api/episodes/search"
LOOK = 5.0  # seconds that a service may take to say how it stands, for the pages that are open
ENDLESS = ("/api/episodes/export", "/api/episodes/import")
"""Paths of memory whose bodies may be larger and take longer than any bound."""


def build(settings: GatewaySettings) -> FastAPI:
    """The app; nothing is opened before it starts."""
    memory = Service("memory", str(settings.memory_url).rstrip("/"))
    ingest = Service("ingest", str(settings.ingest_url).rstrip("/"))
    client = ServiceClient(memory.url, settings.service_key)
    ingest_client = ServiceClient(ingest.url, settings.service_key)
    holder = ServiceKey(settings.service_key, RemoteKeys(client))
    proxy = Proxy()
    backends = choose(settings, os.environ)
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

    async def recall_latency() -> latency.Latency:
        return latency.of_route(app.state.metrics, SEARCH)

    told = Events(
        {
            "stats": lambda: client.get("/api/episodes/stats", EpisodeStats, deadline=LOOK),
            "embedding": lambda: client.get("/api/embedding/config", EmbeddingConfig, deadline=LOOK),
            "reembed": lambda: client.get("/api/episodes/reembed/status", ReembedStatus, deadline=LOOK),
            "ingest": lambda: ingest_client.get("/api/jsonl/status", IngestStatus, deadline=LOOK),
            "latency": recall_latency,
        }
    )

    async def allowed(request: Request) -> bool:
        key = presented_key(request)
        return key is not None and await holder.identify(key_hash(key)) is not None

    def csrf(request: Request) -> str:
        return ""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client, ingest_client, AsyncExitStack() as opened:
            await proxy.open()
            opened.push_async_callback(proxy.close)
            for backend in backends:
                await backend.open()
                opened.push_async_callback(backend.close)
            opened.push_async_callback(told.close)
            yield

    async def ready() -> None:
        await proxy.require_ready(memory)

    app = create_app(
        "gateway",
        routers=[
            events.routes(told, allowed),
            pages.routes(Callers(client, ingest_client), csrf),
            states.routes(states.States(backends)),
            router,
        ],
        holder=holder,
        allowed_hosts=settings.own_hosts,
        ready=ready,
        lifespan=lifespan,
        larger={"/api/episodes/import": MAX_IMPORT},
    )
    return app
