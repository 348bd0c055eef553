"""Search: a question in, ranked episodes out."""

from fastapi import APIRouter
from fastapi.responses import Response

from anamnesis.contracts.episodes import SearchRequest, SearchResponse
from services.memory.search.recall import Recall


def routes(recall: Recall) -> APIRouter:
    router = APIRouter(tags=["search"])

    @router.post("/api/episodes/search", response_model=SearchResponse)
    async def search(request: SearchRequest) -> Response:
        """Episodes that answer a question, best first; none when nothing relevant is remembered."""
        # Rendered here: the framework would validate what the store has just built once more.
        return Response((await recall.search(request)).model_dump_json(), media_type="application/json")

    return router
