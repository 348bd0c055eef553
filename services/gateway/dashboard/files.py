"""What is known of each file: a table of transcripts, and one of files that the crawler reads."""

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from anamnesis.contracts.crawler import CrawledFiles, CrawlerStatus
from anamnesis.contracts.ingest import TranscriptFiles
from services.gateway.dashboard.callers import Callers
from services.gateway.dashboard.ingest import DEADLINE, PARTS
from services.gateway.dashboard.shell import Context, Shell

ON_A_PAGE = 15
Which = Literal["transcripts", "files"]
STATES: Mapping[Which, Mapping[str, str]] = {
    "transcripts": {"unread": "not read", "behind": "read in part", "read": "read"},
    "files": {"read": "read", "error": "not readable", "deleted": "deleted"},
}
"""States that can be asked for, and the words for them."""


def routes(shell: Shell, callers: Callers) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get(PARTS + "/files")
    async def files(
        request: Request,
        which: Annotated[Which, Query()] = "transcripts",
        state: Annotated[str, Query(max_length=20)] = "",
        source: Annotated[str, Query(max_length=200)] = "",
        page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    ) -> Response:
        async def make() -> Context:
            ingest = callers.ingest(request)
            chosen = state if state in STATES[which] else ""
            query = {"state": chosen or None, "skip": (page - 1) * ON_A_PAGE, "limit": ON_A_PAGE}
            found: TranscriptFiles | CrawledFiles
            sources: list[str] = []
            if which == "transcripts":
                found = await ingest.get("/api/jsonl/files", TranscriptFiles, query, deadline=DEADLINE)
            else:
                status = await ingest.get("/api/crawler/status", CrawlerStatus, deadline=DEADLINE)
                sources = [one.name for one in status.sources]
                asked = {**query, "source": source or None}
                found = await ingest.get("/api/crawler/files", CrawledFiles, asked, deadline=DEADLINE)
            return {
                "which": which,
                "state": chosen,
                "states": STATES[which],
                "source": source,
                "sources": sources,
                "found": found,
                "page": page,
                "pages": max(1, -(-found.total // ON_A_PAGE)),
                "first": (page - 1) * ON_A_PAGE + 1,
            }

        return await shell.panel(request, "parts/ingest_files.html", make)

    return router
