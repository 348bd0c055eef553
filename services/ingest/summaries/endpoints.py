"""Summaries over HTTP: how many wait for a model, how the last pass went, and the wish for one now."""

from fastapi import APIRouter, Depends

from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.keys import Scope
from anamnesis.contracts.summaries import SummaryStatus
from anamnesis.kit.auth import Needs
from services.ingest.summaries.passes import Passes


def routes(passes: Passes) -> APIRouter:
    router = APIRouter(prefix="/api/jsonl/summaries", tags=["ingest"])

    @router.get("")
    async def status() -> SummaryStatus:
        """Who writes summaries, how many episodes wait, and how the present or the last pass went."""
        return await passes.status()

    @router.post(
        "/run",
        status_code=202,
        dependencies=[Depends(Needs(Scope.WRITE))],
        responses={400: {"model": ErrorEnvelope, "description": "No model is set to write summaries."}},
    )
    async def run() -> SummaryStatus:
        """Begin a pass in the background, unless one is under way."""
        passes.begin()
        return await passes.status()

    return router
