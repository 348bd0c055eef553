"""The embedding model: which one, how much of the processor it may take, and the move to another."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response

from anamnesis.contracts.embedding import EmbeddingConfig, ReembedStatus
from services.gateway.dashboard.callers import Callers
from services.gateway.dashboard.shell import Context, Shell

DEADLINE = 20.0  # seconds for what a panel shows
PARTS = "/dashboard/parts/embedding"


def routes(shell: Shell, callers: Callers) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/dashboard/embedding")
    async def page(request: Request) -> Response:
        return shell.page(request, "embedding.html", "embedding")

    def part(name: str) -> None:
        @router.get(f"{PARTS}/{name}")
        async def shown(request: Request) -> Response:
            async def make() -> Context:
                memory = callers.memory(request)
                config, reembed = await asyncio.gather(
                    memory.get("/api/embedding/config", EmbeddingConfig, deadline=DEADLINE),
                    memory.get("/api/episodes/reembed/status", ReembedStatus, deadline=DEADLINE),
                )
                return {"config": config, "reembed": reembed}

            return await shell.panel(request, f"parts/embedding_{name}.html", make)

    for name in ("active", "cpu", "move", "models"):
        part(name)
    return router
