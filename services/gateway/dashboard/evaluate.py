"""The page of evaluations: labelled questions, configurations to compare, and what came of them."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.episodes import RankingWeights
from anamnesis.contracts.evaluate import MAX_CONFIGURATIONS, MAX_QUESTIONS
from anamnesis.contracts.state import Setting
from anamnesis.kit.errors import NotFound
from services.gateway.dashboard.callers import Callers
from services.gateway.dashboard.shell import HEADERS, Shell

SETTING = "evaluation-questions"
WEIGHTS = tuple(RankingWeights.model_fields)


def routes(shell: Shell, callers: Callers) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/dashboard/evaluate")
    async def page(request: Request) -> Response:
        most = {"questions": MAX_QUESTIONS, "configurations": MAX_CONFIGURATIONS}
        return shell.page(request, "evaluate.html", "evaluate", {"most": most, "weights": WEIGHTS, "setting": SETTING})

    @router.get("/dashboard/parts/evaluate/questions")
    async def questions(request: Request) -> Response:
        """One's own questions as they are kept; none have been kept is no error here."""
        value: JsonObject = {}
        version = 0
        try:
            kept = await callers.memory(request).get(f"/api/settings/{SETTING}", Setting)
            value, version = kept.value, kept.version
        except NotFound:
            pass
        return JSONResponse({"value": value, "version": version}, headers=HEADERS)

    return router
