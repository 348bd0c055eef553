"""The gateway's app: who owns which path, and who may come in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from starlette.middleware import Middleware

from anamnesis.kit.app import create_app
from anamnesis.kit.auth import OPEN, READING_PATHS, ServiceKey
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.keys import RemoteKeys
from services.gateway.entrance import login as entrance
from services.gateway.entrance.login import Login
from services.gateway.entrance.places import to_login
from services.gateway.entrance.rates import RateLimit
from services.gateway.entrance.sessions import BrowserSessions
from services.gateway.headers import SafeHeaders
from services.gateway.proxy import Deadlines, Proxy, Service
from services.gateway.settings import GatewaySettings
from services.gateway.subpath import SubPath

MAX_IMPORT = 4 << 30  # bytes of one import; passed on as they come, never held
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]

KEYS = "/api/keys"
MEMORY = (
    "/api/episodes",
    "/api/embedding",
    "/api/blocklist",
    "/api/settings",
    "/api/state",
    "/api/leases",
    KEYS,
)
INGEST = ("/api/jsonl",)
SEARCH = "/api/episodes/search"
ENDLESS = ("/api/episodes/export", "/api/episodes/import")
"""Paths of memory whose bodies may be larger and take longer than any bound."""
OPENED = OPEN | entrance.OPENED
READING = READING_PATHS | entrance.READING | {"/v1/embeddings", "/v1/messages/count_tokens", "/mcp"}
"""What a key of the scope `read` may do without a GET; at /mcp each tool looks at the key's scope itself."""
FREE = ("/dashboard/static/",)
"""Files of the pages, which do not count as requests of a key."""


def build(settings: GatewaySettings) -> FastAPI:
    """The app; nothing is opened before it starts."""
    memory = Service("memory", str(settings.memory_url).rstrip("/"))
    ingest = Service("ingest", str(settings.ingest_url).rstrip("/"))
    client = ServiceClient(memory.url, settings.service_key)
    holder = ServiceKey(settings.service_key, RemoteKeys(client))
    login = Login(client, holder, settings.login_days)
    proxy = Proxy()
    bounded = Deadlines(settings.gateway_wait, settings.gateway_idle, settings.gateway_total)
    endless = bounded._replace(total=None)
    read_wait = min(settings.gateway_wait, settings.gateway_read_wait)

    def pass_on(path: str, service: Service, deadlines: Deadlines) -> None:
        async def forward(request: Request) -> Response:
            reads = request.method == "GET" or path in READING_PATHS
            # A key that is revoked on its way through opens nothing from the moment that memory says so.
            on_answer = holder.forget if path.startswith(KEYS) and not reads else None
            within = deadlines._replace(wait=read_wait) if reads else deadlines
            return proxy.forward(request, service, within, on_answer)

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
                await proxy.close()

    async def ready() -> None:
        await proxy.require_ready(memory)

    return create_app(
        "gateway",
        routers=[entrance.routes(login), router],
        holder=holder,
        allowed_hosts=settings.own_hosts,
        ready=ready,
        lifespan=lifespan,
        larger={"/api/episodes/import": MAX_IMPORT, "/login": entrance.MAX_FORM},
        opened=OPENED,
        reading=READING,
        stranger=to_login,
        around=[Middleware(SubPath, root=settings.gateway_path), Middleware(SafeHeaders)],
        before=[Middleware(BrowserSessions, opened=OPENED)],
        behind=[Middleware(RateLimit, rate=settings.gateway_rate, free=FREE)],
    )
