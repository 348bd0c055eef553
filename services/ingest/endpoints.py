"""What the ingest service answers: how it stands, what of the disk has been read, and the wish to begin now."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.ingest import (
    IngestRequest,
    IngestRoot,
    IngestStarted,
    IngestState,
    IngestStatus,
    TranscriptFiles,
)
from anamnesis.contracts.insight import Coverage
from anamnesis.contracts.keys import Scope
from anamnesis.contracts.summaries import JsonlConfig, JsonlConfigured
from anamnesis.kit.auth import Needs
from services.ingest.configuration import Configuration
from services.ingest.coverage import CoverageReport, State
from services.ingest.runs import Runs

PAGE = 1_000  # transcripts in one answer
MOST = 10_000_000  # transcripts that may be passed over
Version = Annotated[int | None, Query(ge=0, lt=2**53, description="Write only over this version.")]


def routes(
    runs: Runs,
    coverage: CoverageReport,
    configuration: Configuration,
    instance: str,
    next_night: Callable[[], datetime | None],
) -> APIRouter:
    router = APIRouter(prefix="/api/jsonl", tags=["ingest"])

    @router.get("/status")
    async def status() -> IngestStatus:
        """What is read, and how the present and the last run went."""
        await configuration.for_page()
        roots = configuration.roots
        exist = await asyncio.to_thread(lambda: [root.exists() for root in roots])
        current, last = runs.current, runs.last
        failed = last is not None and last.state == "failed"
        state = IngestState.RUNNING if current else IngestState.FAILED if failed else IngestState.IDLE
        return IngestStatus(
            state=state,
            instance=instance,
            poll_seconds=configuration.poll,
            roots=tuple(IngestRoot(path=str(root), exists=there) for root, there in zip(roots, exist, strict=True)),
            current=current,
            last=last,
            last_change=runs.last_change,
            next_run=min((one for one in (runs.next_look, next_night()) if one is not None), default=None),
        )

    @router.get("/coverage")
    async def covered() -> Coverage:
        """Transcripts on disk against those that were read, and which will soon be deleted unread."""
        await configuration.for_page()
        return await coverage.get()

    @router.get("/files")
    async def files(
        state: State | None = None,
        skip: Annotated[int, Query(ge=0, le=MOST)] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE)] = 100,
    ) -> TranscriptFiles:
        """How far each transcript has been read; what is not, and will be deleted first, comes first."""
        await configuration.for_page()
        return await coverage.files(state, skip, limit)

    @router.post("/ingest", status_code=202, dependencies=[Depends(Needs(Scope.WRITE))])
    async def ingest(request: IngestRequest | None = None) -> IngestStarted:
        """Begin a run in the background; while one is under way, that one is given."""
        run, started = runs.start("request", anew=request.anew if request else False)
        return IngestStarted(run=run, started=started)

    @router.get("/config")
    async def config() -> JsonlConfigured:
        """Which transcripts are read, how often, what of them is kept, and who writes summaries."""
        await configuration.refresh()
        return await configuration.configured()

    @router.put(
        "/config",
        dependencies=[Depends(Needs(Scope.ADMIN))],
        responses={
            400: {"model": ErrorEnvelope, "description": "A root may not be read; the message says which may."},
            409: {"model": ErrorEnvelope, "description": "It has changed meanwhile."},
        },
    )
    async def configure(config: JsonlConfig, version: Version = None) -> JsonlConfigured:
        """Set it; it counts at once. Where other rules are set, the next run judges everything that was read anew."""
        return await configuration.change(config, version)

    return router
