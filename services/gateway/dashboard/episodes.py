"""Episodes to leaf through, and one of them whole: raw beside summary, where it came from, what can be done with it."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from anamnesis.contracts.base import EpisodeId
from anamnesis.contracts.episodes import Episode, EpisodePage, EpisodeStats, SearchRequest, SearchResponse
from services.gateway.dashboard.callers import Callers
from services.gateway.dashboard.filters import Filters
from services.gateway.dashboard.shell import Context, Shell

ON_A_PAGE = 50
DEADLINE = 20.0  # seconds for what a panel shows
PARTS = "/dashboard/parts/episodes"
PageNumber = Annotated[int, Query(ge=1, le=200_000)]
Id = Annotated[EpisodeId, Path()]
Question = Annotated[str, Query(max_length=10_000)]


def routes(shell: Shell, callers: Callers) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/dashboard/episodes")
    async def page(request: Request, page: PageNumber = 1) -> Response:
        filters = Filters.of(request.query_params)
        return shell.page(request, "episodes.html", "episodes", {"filters": filters, "page": page})

    @router.get(PARTS + "/list")
    async def listed(request: Request, page: PageNumber = 1) -> Response:
        async def make() -> Context:
            filters = Filters.of(request.query_params)
            found = await callers.memory(request).get(
                "/api/episodes",
                EpisodePage,
                {
                    "project": filters.project or None,
                    "instance": filters.instance or None,
                    "tag": filters.tags or None,
                    "since": filters.begin.isoformat() if filters.begin else None,
                    "until": filters.end.isoformat() if filters.end else None,
                    "skip": (page - 1) * ON_A_PAGE,
                    "limit": ON_A_PAGE,
                },
                deadline=DEADLINE,
            )
            pages = max(1, -(-found.total // ON_A_PAGE))
            return {"found": found, "filters": filters, "page": page, "pages": pages, "on_a_page": ON_A_PAGE}

        return await shell.panel(request, "parts/episodes_list.html", make)

    @router.get(PARTS + "/options")
    async def options(request: Request) -> Response:
        """Names of projects and instances, for the fields that filter by them."""

        async def make() -> Context:
            return {"stats": await callers.memory(request).get("/api/episodes/stats", EpisodeStats, deadline=DEADLINE)}

        return await shell.panel(request, "parts/options.html", make)

    @router.get(PARTS + "/one/{episode_id}")
    async def view(request: Request, episode_id: Id, question: Question = "") -> Response:
        async def make() -> Context:
            found = await callers.memory(request).get(f"/api/episodes/{episode_id}", Episode, deadline=DEADLINE)
            return {"one": found, "question": question}

        return await shell.panel(request, "parts/episode.html", make)

    @router.get(PARTS + "/reasons/{episode_id}")
    async def reasons(request: Request, episode_id: Id, question: Question) -> Response:
        """Why a question finds this episode."""

        async def make() -> Context:
            asked = SearchRequest(
                query_text=question, top_k=100, floor=0, explain=True, count=False, include_superseded=True
            )
            found = await callers.memory(request).request(
                "POST", "/api/episodes/search", SearchResponse, body=asked, deadline=DEADLINE, repeatable=True
            )
            ranks = {hit.episode_id: (rank, hit) for rank, hit in enumerate(found.results, 1)}
            rank, hit = ranks.get(episode_id, (0, None))
            return {"rank": rank, "hit": hit, "question": question}

        return await shell.panel(request, "parts/episode_reasons.html", make)

    @router.get("/dashboard/episodes/{episode_id}")
    async def whole(request: Request, episode_id: Id, question: Question = "") -> Response:
        filters = Filters.of(request.query_params)
        return shell.page(
            request,
            "episode.html",
            "episodes",
            {"episode_id": episode_id, "question": question, "filters": filters},
        )

    return router
