"""What the ingest service answers: how it stands, what of the disk has been read, and the wish to begin now."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query

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
from anamnesis.kit.auth import Needs
from services.ingest.coverage import CoverageReport, State
from services.ingest.runs import Runs

PAGE = 1_000  # transcripts in one answer
MOST = 10_000_000  # transcripts that may be passed over


def routes(runs: Runs, coverage: CoverageReport, roots: Sequence[Path], instance: str, poll: float) -> APIRouter:
    router = APIRouter(prefix="/api/jsonl", tags=["ingest"])

    @router.get("/status")
    async def status() -> IngestStatus:
        """What is read, and how the present and the last run went."""
        exist = await asyncio.to_thread(lambda: [root.exists() for root in roots])
        current, last = runs.current, runs.last
        failed = last is not None and last.state == "failed"
        state = IngestState.RUNNING if current else IngestState.FAILED if failed else IngestState.IDLE
        return IngestStatus(
            state=state,
            instance=instance,
            poll_seconds=poll,
            roots=tuple(IngestRoot(path=str(root), exists=there) for root, there in zip(roots, exist, strict=True)),
            current=current,
            last=last,
            last_change=runs.last_change,
        )

    @router.get("/coverage")
    async def covered() -> Coverage:
        """Transcripts on disk against those that were read, and which will soon be deleted unread."""
        return await coverage.get()

    @router.get("/files")
    async def files(
        state: State | None = None,
        skip: Annotated[int, Query(ge=0, le=MOST)] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE)] = 100,
    ) -> TranscriptFiles:
        """How far each transcript has been read; what is not, and will be deleted first, comes first."""
        return await coverage.files(state, skip, limit)

    @router.post("/ingest", status_code=202, dependencies=[Depends(Needs(Scope.WRITE))])
    async def ingest(request: IngestRequest | None = None) -> IngestStarted:
        """Begin a run in the background; while one is under way, that one is given."""
        run, started = runs.start("request", anew=request.anew if request else False)
        return IngestStarted(run=run, started=started)

    return router
