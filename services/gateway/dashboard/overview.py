"""The first page: how much is remembered, since when and of what, and whether all of it is well."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from anamnesis.contracts.embedding import EmbeddingConfig, ReembedStatus
from anamnesis.contracts.episodes import EpisodeStats
from anamnesis.contracts.insight import Bucket, Coverage, Timeline
from anamnesis.contracts.usefulness import UsefulnessSummary
from services.gateway import latency
from services.gateway.dashboard.callers import Callers
from services.gateway.dashboard.shell import Context, Shell
from services.gateway.dashboard.timeline import By, bucket_for, earliest_shown, table

STATS = "/api/episodes/stats"
DEADLINE = 20.0  # seconds for what a panel shows
PARTS = "/dashboard/parts/overview"


def routes(shell: Shell, callers: Callers) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/dashboard")
    async def page(request: Request) -> Response:
        return shell.page(request, "overview.html", "overview")

    @router.get(PARTS + "/tiles")
    async def tiles(request: Request) -> Response:
        async def make() -> Context:
            return {"stats": await callers.memory(request).get(STATS, EpisodeStats, deadline=DEADLINE)}

        return await shell.panel(request, "parts/overview_tiles.html", make)

    @router.get(PARTS + "/makeup")
    async def makeup(request: Request) -> Response:
        async def make() -> Context:
            return {"stats": await callers.memory(request).get(STATS, EpisodeStats, deadline=DEADLINE)}

        return await shell.panel(request, "parts/overview_makeup.html", make)

    @router.get(PARTS + "/timeline")
    async def timeline(
        request: Request,
        by: Annotated[By, Query()] = "project",
        bucket: Annotated[Bucket | Literal[""], Query(description="Empty = what is read best.")] = "",
    ) -> Response:
        async def make() -> Context:
            memory = callers.memory(request)
            stats = await memory.get(STATS, EpisodeStats, deadline=DEADLINE)
            chosen = Bucket(bucket) if bucket else bucket_for(stats.earliest, stats.latest)
            since = earliest_shown(stats.latest, chosen)
            asked = {"bucket": chosen.value, "since": since.isoformat() if since else None}
            found = await memory.get("/api/episodes/timeline", Timeline, asked, deadline=DEADLINE)
            cut = since is not None and stats.earliest is not None and stats.earliest < since
            shown = table(found.points, found.bucket, by)
            return {"table": shown, "bucket": found.bucket.value, "by": by, "cut": cut}

        return await shell.panel(request, "parts/overview_timeline.html", make)

    @router.get(PARTS + "/health")
    async def health(request: Request) -> Response:
        async def make() -> Context:
            memory = callers.memory(request)
            stats, embedding, reembed = await asyncio.gather(
                memory.get(STATS, EpisodeStats, deadline=DEADLINE),
                memory.get("/api/embedding/config", EmbeddingConfig, deadline=DEADLINE),
                memory.get("/api/episodes/reembed/status", ReembedStatus, deadline=DEADLINE),
            )
            return {"stats": stats, "embedding": embedding, "reembed": reembed}

        return await shell.panel(request, "parts/overview_health.html", make)

    @router.get(PARTS + "/coverage")
    async def coverage(request: Request) -> Response:
        async def make() -> Context:
            found = await callers.ingest(request).get("/api/jsonl/coverage", Coverage, deadline=DEADLINE)
            return {"coverage": found}

        return await shell.panel(request, "parts/coverage.html", make)

    @router.get(PARTS + "/latency")
    async def recall_latency(request: Request) -> Response:
        return shell.part(
            request,
            "parts/overview_latency.html",
            {"latency": latency.of_routes(request.app.state.metrics, latency.SEARCHES)},
        )

    @router.get(PARTS + "/usefulness")
    async def usefulness(request: Request) -> Response:
        async def make() -> Context:
            found = await callers.memory(request).get("/api/episodes/usefulness", UsefulnessSummary, deadline=DEADLINE)
            return {"usefulness": found}

        return await shell.panel(request, "parts/overview_usefulness.html", make)

    return router
