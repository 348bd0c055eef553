"""What the crawler answers: its configuration, how it stands, what it knows of each file, and the wish to begin now."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from anamnesis.contracts.crawler import (
    CrawledFiles,
    CrawlerConfig,
    CrawlerConfigured,
    CrawlerStatus,
    CrawlStarted,
    MachineRoots,
    Preview,
    PreviewRequest,
    Sources,
    TagPatterns,
    TagPatternsConfigured,
)
from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.ingest import IngestRequest
from anamnesis.contracts.keys import Scope
from anamnesis.kit.auth import Needs
from services.ingest.crawler.configuration import Configuration
from services.ingest.crawler.crawls import Crawls
from services.ingest.crawler.files import Files, State
from services.ingest.crawler.previews import Previews

PAGE = 1_000  # files in one answer
MOST = 10_000_000  # files that may be passed over
ADMIN = [Depends(Needs(Scope.ADMIN))]
Version = Annotated[int | None, Query(ge=0, lt=2**53, description="Write only over this version.")]


def routes(configuration: Configuration, crawls: Crawls, files: Files, previews: Previews) -> APIRouter:
    router = APIRouter(
        prefix="/api/crawler", tags=["crawler"], responses={409: {"model": ErrorEnvelope}, 503: {"model": ErrorEnvelope}}
    )

    @router.get("/config")
    async def config() -> CrawlerConfigured:
        """What is read: empty until somebody says more."""
        return await configuration.get()

    @router.put("/config", dependencies=ADMIN)
    async def set_config(body: CrawlerConfig, version: Version = None) -> CrawlerConfigured:
        """Write the whole configuration; the next scan begins at once."""
        return await configuration.put(body, version)

    @router.put("/config/machine-roots", dependencies=ADMIN)
    async def set_machine_roots(body: MachineRoots, version: Version = None) -> CrawlerConfigured:
        """Write the machine roots; the rest stays."""
        return await configuration.put_part(version, machine_roots=body.machine_roots)

    @router.put("/config/sources", dependencies=ADMIN)
    async def set_sources(body: Sources, version: Version = None) -> CrawlerConfigured:
        """Write the sources; the rest stays."""
        return await configuration.put_part(version, sources=body.sources)

    @router.get("/config/docx-tag-patterns")
    async def patterns() -> TagPatternsConfigured:
        """Which tags documents get."""
        return await configuration.get_patterns()

    @router.put("/config/docx-tag-patterns", dependencies=ADMIN)
    async def set_patterns(body: TagPatterns, version: Version = None) -> TagPatternsConfigured:
        """Write the patterns; they count for documents that are read from now on."""
        return await configuration.put_patterns(body, version)

    @router.get("/status")
    async def status() -> CrawlerStatus:
        """Whether files are looked at and watched, and how the present and the last scan went."""
        return crawls.status(await files.by_source())

    @router.get("/files")
    async def list_files(
        source: Annotated[str | None, Query(max_length=200)] = None,
        state: State | None = None,
        skip: Annotated[int, Query(ge=0, le=MOST)] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE)] = 100,
    ) -> CrawledFiles:
        """What is known of each file."""
        return await files.page(source, state, skip, limit)

    @router.post("/scan", status_code=202, dependencies=[Depends(Needs(Scope.WRITE))])
    async def scan(request: IngestRequest | None = None) -> CrawlStarted:
        """Begin a scan in the background; while one is under way, that one is given."""
        run, started = await crawls.start("request", anew=request.anew if request else False)
        return CrawlStarted(run=run, started=started)

    @router.post("/preview", dependencies=ADMIN, responses={429: {"model": ErrorEnvelope}})
    async def preview(request: PreviewRequest) -> Preview:
        """What a source would read, within seconds and without reading it."""
        return await previews.get(request)

    return router
