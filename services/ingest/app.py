"""The ingest service put together: what is read, by which rules, and where it goes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel

from anamnesis.destination import HttpDestination, namespace
from anamnesis.kit.app import create_app
from anamnesis.kit.auth import ServiceKey
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError, Unavailable
from anamnesis.kit.keys import RemoteKeys
from anamnesis.transcripts.episodes import Maker
from anamnesis.transcripts.projects import Projects
from anamnesis.transcripts.sync import Sync
from services.ingest.coverage import CoverageReport
from services.ingest.endpoints import routes
from services.ingest.runs import Runs
from services.ingest.settings import IngestSettings

PROBE = 3.0  # seconds for memory's answer to a readiness probe
BRIEF = 3.0  # seconds that a page waits for a memory that is away
READERS = ("ingest", "console")
"""Who reads transcripts on a machine; each has a namespace of marks."""


class _Ready(BaseModel):
    status: str


def build(settings: IngestSettings) -> FastAPI:
    """The app; nothing is opened before its lifespan begins."""
    client = ServiceClient(str(settings.memory_url), settings.service_key)
    roots = tuple(Path(root).expanduser() for root in settings.transcript_roots)
    poll = settings.ingest_poll if roots else 0.0
    maker = Maker(Projects(), settings.rules, settings.ingest_max_raw, settings.redact_entropy)
    destination = HttpDestination(client, namespace("ingest", settings.instance))
    # People also read with the `anamnesis` command, which keeps marks of its own: what it has read is read.
    readers = [HttpDestination(client, namespace(one, settings.instance), patience=BRIEF) for one in READERS]
    coverage = CoverageReport(roots, readers)
    runs = Runs(lambda on_progress: Sync(destination, maker, roots, settings.instance, on_progress), poll)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            runs.open()
            try:
                yield
            finally:
                await runs.close()

    async def ready() -> None:
        try:
            await client.request("GET", "/ready", _Ready, deadline=PROBE)  # a probe is not tried again
        except AnamnesisError:
            raise Unavailable("the memory service is not ready") from None

    return create_app(
        "ingest",
        routers=[routes(runs, coverage, roots, settings.instance, poll)],
        holder=ServiceKey(settings.service_key, RemoteKeys(client)),
        allowed_hosts=settings.own_hosts,
        ready=ready,
        lifespan=lifespan,
    )
