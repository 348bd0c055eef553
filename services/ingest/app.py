"""The ingest service put together: what is read, by which rules, and where it goes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel

from anamnesis.crawl.sync import Crawl
from anamnesis.crawl.watching import Watcher
from anamnesis.destination import HttpDestination, namespace
from anamnesis.documents import Limits
from anamnesis.kit.app import create_app
from anamnesis.kit.auth import ServiceKey
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError, Unavailable
from anamnesis.kit.keys import RemoteKeys
from anamnesis.transcripts.episodes import Maker
from anamnesis.transcripts.projects import Projects
from anamnesis.transcripts.sync import Sync
from services.ingest.coverage import CoverageReport
from services.ingest.crawler import endpoints as crawler
from services.ingest.crawler.checking import Reach
from services.ingest.crawler.configuration import Configuration
from services.ingest.crawler.crawls import Crawls
from services.ingest.crawler.figures import CrawlFigures
from services.ingest.crawler.files import Files
from services.ingest.crawler.lease import ScanLease, holder
from services.ingest.crawler.previews import Previews
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
    reach = Reach(tuple(map(Path, settings.sources)), settings.instance, (settings.data,))
    configuration = Configuration(client, reach)
    figures = CrawlFigures()
    kept = HttpDestination(client, namespace("crawl", settings.instance))
    crawls = Crawls(
        lambda on_progress: Crawl(
            kept,
            configuration.current,
            reach.allowed,
            reach.instance,
            on_progress,
            limits=Limits(seconds=settings.document_seconds, memory_bytes=settings.document_memory << 20),
            entropy=settings.redact_entropy,
            never=reach.never,
        ),
        configuration,
        ScanLease(client, settings.instance, holder(settings.ingest_port)),
        Watcher(lambda: configuration.current()[0], reach.allowed, reach.instance, never=reach.never),
        figures,
    )
    files = Files(crawls.files, lambda: crawls.last)
    previews = Previews(configuration.load, reach)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        figures.register(app.state.metrics.registry)
        async with client:
            runs.open()
            crawls.open()
            try:
                yield
            finally:
                await asyncio.gather(runs.close(), crawls.close())

    async def ready() -> None:
        try:
            await client.request("GET", "/ready", _Ready, deadline=PROBE)  # a probe is not tried again
        except AnamnesisError:
            raise Unavailable("the memory service is not ready") from None

    return create_app(
        "ingest",
        routers=[
            routes(runs, coverage, roots, settings.instance, poll),
            crawler.routes(configuration, crawls, files, previews),
        ],
        holder=ServiceKey(settings.service_key, RemoteKeys(client)),
        allowed_hosts=settings.own_hosts,
        ready=ready,
        lifespan=lifespan,
    )
