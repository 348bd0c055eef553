"""The ingest service put together: what is read, by which rules, when, and where it goes."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel

from anamnesis.contracts.summaries import JsonlConfig
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
from services.ingest.configuration import Allowed, Configuration
from services.ingest.coverage import CoverageReport
from services.ingest.crawler import endpoints as crawler
from services.ingest.crawler.checking import Reach
from services.ingest.crawler.configuration import Configuration as CrawlConfiguration
from services.ingest.crawler.crawls import Crawls
from services.ingest.crawler.figures import CrawlFigures
from services.ingest.crawler.files import Files
from services.ingest.crawler.lease import ScanLease
from services.ingest.crawler.lease import holder as crawler_holder
from services.ingest.crawler.previews import Previews
from services.ingest.documents import endpoints as documents
from services.ingest.documents.addresses import Policy, resolve
from services.ingest.documents.desk import Desk
from services.ingest.documents.fetching import Fetcher
from services.ingest.endpoints import routes
from services.ingest.lease import Lease
from services.ingest.reader import Reader
from services.ingest.runs import Runs
from services.ingest.schedule import endpoints as schedule
from services.ingest.schedule import steps
from services.ingest.schedule.book import Book
from services.ingest.schedule.nights import Nights
from services.ingest.settings import IngestSettings
from services.ingest.summaries import endpoints as summaries
from services.ingest.summaries.cache import Cache
from services.ingest.summaries.marking import Marking
from services.ingest.summaries.passes import Passes
from services.ingest.summaries.writers import GatewayWriter

PROBE = 3.0  # seconds for memory's answer to a readiness probe
BRIEF = 3.0  # seconds that a page waits for a memory that is away
READERS = ("ingest", "console")
"""Who reads transcripts on a machine; each has a namespace of marks."""


class _Ready(BaseModel):
    status: str


def build(settings: IngestSettings) -> FastAPI:
    """The app; nothing is opened before its lifespan begins."""
    client = ServiceClient(str(settings.memory_url), settings.service_key)
    gateway = ServiceClient(str(settings.gateway_url), settings.service_key, read=300.0)
    holder = f"{settings.instance[:100]} {uuid.uuid4().hex[:12]}"
    named = tuple(os.path.abspath(os.path.expanduser(root)) for root in settings.transcript_roots)
    configuration = Configuration(
        client,
        JsonlConfig(roots=named, poll_seconds=settings.ingest_poll),
        Allowed(settings.sources, named),
        os.environ,
        Path.home(),
    )
    maker = Maker(Projects(), settings.rules, settings.ingest_max_raw, settings.redact_entropy)
    cache = Cache(client)
    destination = Marking(
        HttpDestination(client, namespace("ingest", settings.instance)), cache, lambda: configuration.current.summaries
    )
    # People also read with the `anamnesis` command, which keeps marks of its own: what it has read is read.
    readers = [HttpDestination(client, namespace(one, settings.instance), patience=BRIEF) for one in READERS]
    reach = Reach(tuple(map(Path, settings.sources)), settings.instance, (settings.data,))
    crawled = CrawlConfiguration(client, reach)
    figures = CrawlFigures()
    kept = HttpDestination(client, namespace("crawl", settings.instance))
    limits = Limits(seconds=settings.document_seconds, memory_bytes=settings.document_memory << 20)
    crawls = Crawls(
        lambda on_progress: Crawl(
            kept,
            crawled.current,
            reach.allowed,
            reach.instance,
            on_progress,
            limits=limits,
            entropy=settings.redact_entropy,
            never=reach.never,
        ),
        crawled,
        ScanLease(client, settings.instance, crawler_holder(settings.ingest_port)),
        Watcher(lambda: crawled.current()[0], reach.allowed, reach.instance, never=reach.never),
        figures,
    )
    files = Files(crawls.files, lambda: crawls.last)
    previews = Previews(crawled.load, reach)

    desk = Desk(
        HttpDestination(client, namespace("documents", settings.instance), patience=BRIEF),
        settings.instance,
        limits,
        settings.redact_entropy,
    )
    fetcher = Fetcher(Policy(settings.url_schemes, settings.url_hosts), resolve)
    coverage = CoverageReport((), readers)
    runs = Runs(
        lambda on_progress: Reader(destination, maker, configuration, settings.instance, on_progress),
        configuration.interval,
    )
    configuration.listen(lambda _: coverage.look_at(configuration.roots))
    configuration.listen(lambda _: runs.changed())
    passes = Passes(
        client,
        cache,
        Lease(client, "summaries", holder, seconds=900.0),
        lambda: configuration.current.summaries,
        lambda by: GatewayWriter(gateway, by),
    )
    nights = Nights(
        Book(client),
        Lease(client, "night", holder),
        {
            "transcripts": lambda _: steps.transcripts(runs),
            "crawl": lambda _: steps.crawl(crawls),
            "summaries": lambda _: passes.night(),
            "consolidation": lambda since: steps.consolidation(client, since),
        },
        holder,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        figures.register(app.state.metrics.registry)
        async with client, gateway:
            runs.open()
            crawls.open()
            passes.open()
            nights.open()
            try:
                yield
            finally:
                await nights.close()
                await passes.close()
                await asyncio.gather(runs.close(), crawls.close())

    async def ready() -> None:
        try:
            await client.request("GET", "/ready", _Ready, deadline=PROBE)  # a probe is not tried again
        except AnamnesisError:
            raise Unavailable("the memory service is not ready") from None

    return create_app(
        "ingest",
        routers=[
            routes(runs, coverage, configuration, settings.instance, lambda: nights.next_run),
            summaries.routes(passes),
            schedule.routes(nights),
            crawler.routes(crawled, crawls, files, previews),
            documents.routes(desk, fetcher),
        ],
        holder=ServiceKey(settings.service_key, RemoteKeys(client)),
        allowed_hosts=settings.own_hosts,
        ready=ready,
        lifespan=lifespan,
        larger={documents.UPLOAD: documents.MAX_BODY},
    )
