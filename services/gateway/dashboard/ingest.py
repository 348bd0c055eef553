"""What comes in and how: transcripts, and the page that shows all ways in beside one another, as they go."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from anamnesis.contracts.documents import MAX_UPLOAD
from anamnesis.contracts.ingest import IngestStatus
from anamnesis.contracts.keys import Scope
from services.gateway.dashboard.callers import Callers, may
from services.gateway.dashboard.shell import Context, Shell

DEADLINE = 20.0  # seconds for what a panel shows
PARTS = "/dashboard/parts/ingest"

KEPT = "kept"
LEFT_OUT = {
    "nod": "nothing but “ok”, “thanks” and the like",
    "command": "commands without an answer",
    "unanswered": "short and unanswered",
    "too-short": "too little said",
    "warm-up": "warm-ups of subagents",
    "sidechain": "subagents",
    "empty": "empty",
    "unfit": "not to be written down",
    "project-excluded": "excluded projects",
}
"""Words for the reasons why exchanges are left out; a reason that is not here speaks for itself."""
UNREADABLE = {"root-missing": "a directory is not there"}
"""Words for the reasons why something could not be read."""


def routes(shell: Shell, callers: Callers) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/dashboard/ingest")
    async def page(request: Request) -> Response:
        return shell.page(
            request, "ingest.html", "ingest", {"may_write": may(request, Scope.WRITE), "most_bytes": MAX_UPLOAD}
        )

    def part(name: str) -> None:
        @router.get(f"{PARTS}/{name}")
        async def shown(request: Request) -> Response:
            async def make() -> Context:
                status = await callers.ingest(request).get("/api/jsonl/status", IngestStatus, deadline=DEADLINE)
                run = status.current or status.last_change or status.last
                return {"status": status, "run": run, "kept": KEPT, "left_out": LEFT_OUT, "unreadable": UNREADABLE}

            return await shell.panel(request, f"parts/ingest_{name}.html", make)

    for name in ("progress", "outcome"):
        part(name)
    return router
