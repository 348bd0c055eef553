"""Usefulness: what became of episodes that were put before a model."""

from fastapi import APIRouter

from anamnesis.contracts.episodes import Changed
from anamnesis.contracts.usefulness import UsefulnessReport, UsefulnessSummary
from services.memory.usefulness import Usefulness


def routes(usefulness: Usefulness) -> APIRouter:
    router = APIRouter(tags=["usefulness"])

    @router.post("/api/episodes/usefulness")
    async def report(request: UsefulnessReport) -> Changed:
        """Count verdicts, each once more; durable when it answers how many were of episodes that there are."""
        return Changed(changed=await usefulness.report(request.verdicts))

    @router.get("/api/episodes/usefulness")
    async def summary() -> UsefulnessSummary:
        """How often episodes were put forward and of use, and which never were."""
        return await usefulness.summary()

    return router
