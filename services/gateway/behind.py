"""Which paths belong to the services behind, and how they are passed on to them: one origin for everything."""

from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request
from fastapi.responses import Response

from anamnesis.contracts.documents import MAX_UPLOAD
from anamnesis.kit.auth import READING_PATHS
from anamnesis.kit.errors import NotFound, Unavailable
from services.gateway.backends.base import Endpoint
from services.gateway.proxy import Deadlines, Proxy, Service
from services.gateway.settings import GatewaySettings
from services.gateway.trainers.fleet import UNSET

MAX_IMPORT = 4 << 30  # bytes of one import; passed on as they come, never held
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]

KEYS = "/api/keys"
MEMORY = (
    "/api/episodes",
    "/api/chat/sessions",
    "/api/embedding",
    "/api/blocklist",
    "/api/settings",
    "/api/state",
    "/api/leases",
    KEYS,
)
UPLOAD = "/api/episodes/upload"
INGEST = ("/api/jsonl", "/api/crawler", "/api/schedule", "/api/ingest-url", UPLOAD)
MAX_FORM = MAX_UPLOAD + (1 << 20)  # bytes of a document and of what a form writes around it
SEARCH = "/api/episodes/search"
ENDLESS = ("/api/episodes/export", "/api/episodes/import", "/api/chat/sessions/{session_id}/export")
"""Paths of memory whose bodies may be larger and take longer than any bound."""
TRAINER = "X-Anamnesis-Trainer"
"""Names the trainer that a vessel lives on, where there are several."""
TRAINER_SEGMENTS = 3  # /api/trainers/LABEL
LARGER = {"/api/episodes/import": MAX_IMPORT, UPLOAD: MAX_FORM}


def routes(
    settings: GatewaySettings,
    proxy: Proxy,
    memory: Service,
    ingest: Service,
    trainers: Sequence[Endpoint],
    on_keys: Callable[[], None],
) -> APIRouter:
    """Every path of memory, ingest and the trainers. The gateway's own come before: a path is the first's that fits.

    `on_keys` is called when memory has changed keys: one that is revoked opens nothing from that moment on.
    """
    router = APIRouter()
    bounded = Deadlines(settings.gateway_wait, settings.gateway_idle, settings.gateway_total)
    read_wait = min(settings.gateway_wait, settings.gateway_read_wait)

    def pass_on(path: str, service: Service, deadlines: Deadlines) -> None:
        async def forward(request: Request) -> Response:
            reads = request.method == "GET" or path in READING_PATHS
            within = deadlines._replace(wait=read_wait) if reads else deadlines
            return proxy.forward(request, service, within, on_keys if path.startswith(KEYS) and not reads else None)

        # The service behind describes its paths itself; repeating them here would only go stale.
        router.add_api_route(path, forward, methods=METHODS, response_class=Response, include_in_schema=False)

    for path in ENDLESS:
        pass_on(path, memory, bounded._replace(total=None))
    pass_on(SEARCH, memory, bounded)
    for service, prefixes in ((ingest, INGEST), (memory, MEMORY)):  # ingest owns a path below one of memory's
        for prefix in prefixes:
            pass_on(prefix, service, bounded)
            pass_on(prefix + "/{rest:path}", service, bounded)
    by_name = {one.name: Service(f"trainer {one.name}", one.url, cut=TRAINER_SEGMENTS) for one in trainers}

    async def to_trainer(request: Request) -> Response:
        """The trainer's own paths, below its label."""
        label = request.path_params["label"]
        if label not in by_name:
            raise NotFound(f"there is no trainer of this label; these are configured: {', '.join(by_name) or 'none'}")
        within = bounded._replace(wait=read_wait) if request.method == "GET" else bounded
        return proxy.forward(request, by_name[label], within)

    async def to_home(request: Request) -> Response:
        """A vessel's paths, at the trainer that the caller names, or at the first."""
        label = request.headers.get(TRAINER, "") or next((one.name for one in trainers), "")
        home = next((one for one in trainers if one.name == label), None)
        if home is None:
            if not trainers:
                raise Unavailable(f"no trainer is configured: {UNSET}")
            raise NotFound(f"there is no trainer of this label; these are configured: {', '.join(by_name)}")
        within = bounded._replace(wait=read_wait) if request.method == "GET" else bounded
        return proxy.forward(request, Service(f"trainer {home.name}", home.url), within)

    for path, forward in (
        ("/api/trainers/{label}/{rest:path}", to_trainer),
        ("/api/vessels", to_home),
        ("/api/vessels/{rest:path}", to_home),
    ):
        router.add_api_route(path, forward, methods=METHODS, response_class=Response, include_in_schema=False)
    return router
