"""The page of settings: keys, who answers in chats, what is read, and how the pages look. Looking writes nothing."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from anamnesis.contracts.ingest import IngestStatus
from services.gateway.dashboard.callers import Callers
from services.gateway.dashboard.shell import Context, Shell

DEADLINE = 20.0  # seconds for what a panel shows


def routes(shell: Shell, callers: Callers) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/dashboard/settings")
    async def page(request: Request) -> Response:
        return shell.page(request, "settings.html", "settings")

    @router.get("/dashboard/parts/settings/sources")
    async def sources(request: Request) -> Response:
        async def make() -> Context:
            return {"status": await callers.ingest(request).get("/api/jsonl/status", IngestStatus, deadline=DEADLINE)}

        return await shell.panel(request, "parts/ingest_roots.html", make)

    return router
