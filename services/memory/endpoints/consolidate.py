"""Consolidation: look for near-duplicates, put one episode in the place of several, and take it back."""

from typing import Any

from fastapi import APIRouter, Depends

from anamnesis.contracts.consolidate import Consolidated, ConsolidateRequest, UndoRequest
from anamnesis.contracts.episodes import Changed
from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.keys import Scope
from anamnesis.kit.auth import Needs
from services.memory.consolidation.run import Consolidator

ADMIN = [Depends(Needs(Scope.ADMIN))]
UNDER_WAY: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorEnvelope, "description": "A run is under way, or something else hangs on an episode."}
}


def routes(consolidator: Consolidator) -> APIRouter:
    router = APIRouter(tags=["episodes"], dependencies=ADMIN, responses=UNDER_WAY)

    @router.post("/api/episodes/consolidate")
    async def consolidate(request: ConsolidateRequest) -> Consolidated:
        """Put one episode in the place of several that are nearly the same; by default only say what would be done.

        Takes up to four minutes; `complete` is false where that was not enough, and another run goes on.
        """
        return await consolidator.run(request)

    @router.post(
        "/api/episodes/consolidate/undo",
        responses={404: {"model": ErrorEnvelope, "description": "There is no such episode; nothing was undone."}},
    )
    async def undo(request: UndoRequest) -> Changed:
        """Take episodes away that a consolidation made: what they had superseded is current again, and stays apart."""
        return Changed(changed=await consolidator.undo(request.episode_ids))

    return router
