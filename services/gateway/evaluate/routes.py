"""Evaluations over HTTP: start one, see how it goes, look at the latest, stop one."""

from typing import Annotated

from fastapi import APIRouter, Path

from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.evaluate import EvaluateRequest, EvaluateRun, EvaluateRuns
from services.gateway.evaluate.memory import KEPT
from services.gateway.evaluate.runs import Runs

RunId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="An evaluation's id.")]


def routes(runs: Runs) -> APIRouter:
    router = APIRouter(prefix="/api/evaluate", tags=["evaluate"], responses={404: {"model": ErrorEnvelope}})

    @router.post("", status_code=202, responses={409: {"model": ErrorEnvelope}})
    async def start(request: EvaluateRequest) -> EvaluateRun:
        """Put labelled questions to the store under several configurations, in the background; one run at a time.

        Own questions come with the request or from the setting `evaluation-questions`; `made` ones from episodes.
        """
        return await runs.start(request)

    @router.get("")
    async def latest() -> EvaluateRuns:
        """The latest, newest first, without what they found question by question."""
        found = (await runs.all())[:KEPT]
        return EvaluateRuns(runs=tuple(one.model_copy(update={"outcomes": ()}) for one in found))

    @router.get("/{run_id}")
    async def one(run_id: RunId) -> EvaluateRun:
        """How far one is, and what has come of it so far."""
        return await runs.get(run_id)

    @router.delete("/{run_id}")
    async def stop(run_id: RunId) -> EvaluateRun:
        """End a run; what it has found so far is kept."""
        return await runs.stop(run_id)

    return router
