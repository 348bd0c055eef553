"""Panels of what the crawler, the night and the summaries do, as they do it."""

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from anamnesis.contracts.crawler import CrawlerStatus
from anamnesis.contracts.schedule import ScheduleStatus
from anamnesis.contracts.summaries import SummaryStatus
from services.gateway.dashboard.callers import Callers
from services.gateway.dashboard.ingest import DEADLINE, PARTS
from services.gateway.dashboard.shell import Context, Shell

REASONS = {
    "root-missing": "its directory is not there",
    "root-empty": "its directory is empty: not mounted?",
    "permission": "no permission to read",
    "vanished": "gone before it was read",
    "changed": "changed while it was read; the next scan reads it",
    "too-large": "larger than the cap",
    "too-deep": "too many directories within one another",
    "ignored": "left out by .gitignore",
    "excluded": "left out by an exclude",
    "credentials": "may hold credentials",
    "symbolic-link": "symbolic links, which are not followed",
    "outside-root": "led out of its directory",
    "not-regular": "devices, pipes and sockets",
    "input-output": "the disk did not answer",
}
"""Words for reasons why files are left out or cannot be read; one that is not here speaks for itself."""
STEPS = {"transcripts": "Transcripts", "crawl": "Files", "summaries": "Summaries", "consolidation": "Consolidation"}
BACKENDS = {
    "extractive": "Cut out of the text",
    "anamnesis-gpt": "AnamnesisGPT",
    "openai": "OpenAI-compatible",
    "ollama": "Ollama",
    "claude": "Claude API",
    "claude-cli": "Claude Code",
}
"""Who may write summaries, as pages call them."""


def routes(shell: Shell, callers: Callers) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    def part(name: str, path: str, answer: type[BaseModel], words: Context) -> None:
        @router.get(f"{PARTS}/{name}")
        async def shown(request: Request) -> Response:
            async def make() -> Context:
                status = await callers.ingest(request).get(path, answer, deadline=DEADLINE)
                return {"status": status, **words}

            return await shell.panel(request, f"parts/ingest_{name}.html", make)

    part("crawl", "/api/crawler/status", CrawlerStatus, {"reasons": REASONS})
    part("night", "/api/schedule", ScheduleStatus, {"names": STEPS})
    part("summaries", "/api/jsonl/summaries", SummaryStatus, {"backends": BACKENDS})
    return router
