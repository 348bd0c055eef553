"""What a night does, step by step: each is somebody else's work, begun here and told of in a few words."""

from datetime import datetime, timedelta

from anamnesis.contracts.consolidate import Consolidated, ConsolidateRequest
from anamnesis.contracts.ingest import IngestRun
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import Unavailable
from services.ingest.crawler.crawls import Crawls
from services.ingest.runs import Runs

CONSOLIDATE = 1_800.0  # seconds for one answer: every new episode is compared with all of its project
ROUNDS = 20
"""Answers that say that there is more."""
MARGIN = timedelta(hours=1)
"""By which the clocks of two machines may differ."""


async def transcripts(runs: Runs) -> str:
    """Read all that is new. Raises `Unavailable` with the reason where that ended early."""
    run = await runs.run("night")
    if run.state != "done":
        raise Unavailable(run.error or "the run did not end well")
    return _told(run)


async def crawl(crawls: Crawls) -> str:
    """Scan all sources. Raises `Unavailable` with the reason where that ended early."""
    run = await crawls.run("night")
    if run.state != "done":
        raise Unavailable(run.error or "the scan did not end well")
    told = f"{run.created} new parts in {run.files_changed} changed of {run.files} files"
    unread = sum(run.errors.values())
    return f"{told}; {unread} could not be read" if unread else told


async def consolidation(memory: ServiceClient, since: datetime | None) -> str:
    """Make one episode of near-duplicates, where one of them came since. Raises what the client raises."""
    request = ConsolidateRequest(dry_run=False, since=since - MARGIN if since is not None else None)
    groups = superseded = 0
    for _ in range(ROUNDS):
        done = await memory.request(
            "POST", "/api/episodes/consolidate", Consolidated, body=request, deadline=CONSOLIDATE
        )
        groups += len(done.groups)
        superseded += done.superseded
        if done.complete or not done.groups:
            break
    return f"{superseded} near-duplicates became {groups} episodes" if groups else "no near-duplicates"


def _told(run: IngestRun) -> str:
    told = f"{run.created} new, {run.updated} grown, of {run.files} transcripts"
    unread = sum(run.errors.values())
    return f"{told}; {unread} could not be read" if unread else told
