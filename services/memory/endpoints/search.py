"""Search: a question in, ranked episodes out."""

from fastapi import APIRouter

from anamnesis.contracts.episodes import SearchRequest, SearchResponse
from services.memory.search.recall import Recall


def routes(recall: Recall) -> APIRouter:
    router = APIRouter(tags=["search"])

    @router.post("/api/episodes/search")
    async def search(request: SearchRequest) -> SearchResponse:
        """Episodes that answer a question, best first; none when nothing relevant is remembered."""
        return await recall.search(request)

    return router
