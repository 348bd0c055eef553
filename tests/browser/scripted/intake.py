"""The data paths of the ingest service as a test scripts them: crawler, nights, summaries, documents, consolidation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, JsonValue

from anamnesis.contracts.consolidate import Consolidated, ConsolidateRequest, Consolidation, UndoRequest
from anamnesis.contracts.crawler import (
    CrawledFile,
    CrawledFiles,
    CrawlerConfig,
    CrawlerConfigured,
    CrawlerStatus,
    CrawlRun,
    CrawlStarted,
    MachineRoots,
    Preview,
    PreviewRequest,
    Sources,
    TagPatterns,
    TagPatternsConfigured,
)
from anamnesis.contracts.documents import DocumentIngested, IngestUrl
from anamnesis.contracts.ingest import (
    IngestRequest,
    IngestRun,
    IngestStarted,
    IngestState,
    IngestStatus,
    TranscriptFile,
    TranscriptFiles,
)
from anamnesis.contracts.insight import Coverage
from anamnesis.contracts.schedule import Night, NightStarted, Schedule, ScheduleRequest, ScheduleStatus
from anamnesis.contracts.summaries import JsonlConfig, JsonlConfigured, SummaryStatus

ALLOWED = "/srv/files"
MOMENT = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)


def refusal(status: int, code: str, message: str, detail: JsonValue = None) -> Response:
    return JSONResponse({"error": {"code": code, "message": message, "detail": detail}}, status)


async def unfit(_: Request, error: Exception) -> Response:
    """What does not fit the contract, as every service says it."""
    assert isinstance(error, RequestValidationError)
    detail: list[JsonValue] = [
        {"where": ".".join(map(str, one["loc"])), "why": str(one["msg"])} for one in error.errors()
    ]
    return refusal(422, "invalid", "the request does not fit; see detail for where and why", detail)


def answered(value: BaseModel) -> Response:
    return Response(value.model_dump_json(), media_type="application/json")


@dataclass
class Intake:
    """What there is to be read, how it is configured, and what has been asked."""

    crawler: CrawlerConfig = field(default_factory=CrawlerConfig)
    crawler_version: int = 0
    patterns: TagPatternsConfigured = field(default_factory=lambda: TagPatternsConfigured(version=0))
    warnings: tuple[str, ...] = ()
    jsonl: JsonlConfig = field(default_factory=JsonlConfig)
    jsonl_version: int = 0
    found: tuple[str, ...] = ()
    schedule: ScheduleStatus = field(default_factory=lambda: ScheduleStatus(schedule=Schedule(), version=0))
    status: CrawlerStatus = field(default_factory=lambda: CrawlerStatus(state="off"))
    summaries: SummaryStatus = field(default_factory=lambda: SummaryStatus(backend="extractive", pending=0))
    reading: IngestStatus = field(
        default_factory=lambda: IngestStatus(state=IngestState.IDLE, instance="laptop", poll_seconds=60, roots=())
    )
    coverage: Coverage = field(
        default_factory=lambda: Coverage(files=0, read=0, behind=0, unread=0, bytes_unread=0, purge_days=30)
    )
    transcripts: tuple[TranscriptFile, ...] = ()
    files: tuple[CrawledFile, ...] = ()
    preview: Preview = field(default_factory=lambda: Preview(files=0, bytes=0))
    groups: tuple[Consolidation, ...] = ()
    refuse: Callable[[str], Response | None] = lambda _: None
    """An error for a path, instead of its answer."""
    asked: list[tuple[str, JsonValue]] = field(default_factory=list)
    """What changed or began something: path and body."""

    def note(self, path: str, body: BaseModel | None = None) -> Response | None:
        self.asked.append((path, body.model_dump(mode="json") if body else None))
        return self.refuse(path)


def serve(app: FastAPI, intake: Intake) -> None:
    app.add_exception_handler(RequestValidationError, unfit)
    _transcripts(app, intake)
    _crawler(app, intake)
    _nights(app, intake)
    _documents(app, intake)


def _transcripts(app: FastAPI, intake: Intake) -> None:
    @app.get("/api/jsonl/status")
    async def status() -> IngestStatus:
        return intake.reading

    @app.get("/api/jsonl/coverage")
    async def coverage() -> Coverage:
        return intake.coverage

    @app.get("/api/jsonl/files")
    async def files(state: str | None = None, skip: int = 0, limit: int = 50) -> TranscriptFiles:
        found = [one for one in intake.transcripts if state in (None, one.state)]
        return TranscriptFiles(files=tuple(found[skip : skip + limit]), total=len(found))

    @app.post("/api/jsonl/ingest")
    async def ingest(request: IngestRequest | None = None) -> Response:
        run = IngestRun(run_id="r1", state="running", trigger="request", started_at=datetime.now(UTC))
        return intake.note("/api/jsonl/ingest", request) or answered(IngestStarted(run=run, started=True))

    @app.get("/api/jsonl/config")
    async def config() -> JsonlConfigured:
        return JsonlConfigured(config=intake.jsonl, version=intake.jsonl_version, found=intake.found)

    @app.put("/api/jsonl/config")
    async def configure(request: JsonlConfig, version: int | None = None) -> Response:
        refused = intake.note("/api/jsonl/config", request)
        if refused:
            return refused
        if version not in (None, intake.jsonl_version):
            return refusal(409, "conflict", "the configuration has been changed meanwhile; read it again")
        intake.jsonl, intake.jsonl_version = request, intake.jsonl_version + 1
        intake.found = tuple(one for one in intake.found if one not in request.roots)
        return answered(await config())

    @app.get("/api/jsonl/summaries")
    async def summaries() -> SummaryStatus:
        return intake.summaries

    @app.post("/api/jsonl/summaries/run")
    async def summarise() -> Response:
        return intake.note("/api/jsonl/summaries/run") or answered(intake.summaries)


def _crawler(app: FastAPI, intake: Intake) -> None:
    @app.get("/api/crawler/status")
    async def status() -> CrawlerStatus:
        return intake.status

    @app.get("/api/crawler/files")
    async def files(
        source: str | None = None, state: str | None = None, skip: int = 0, limit: int = 50
    ) -> CrawledFiles:
        found = [one for one in intake.files if source in (None, one.source) and state in (None, one.state)]
        return CrawledFiles(files=tuple(found[skip : skip + limit]), total=len(found))

    @app.post("/api/crawler/scan")
    async def scan() -> Response:
        run = CrawlRun(run_id="c1", state="running", trigger="request", started_at=datetime.now(UTC))
        return intake.note("/api/crawler/scan") or answered(CrawlStarted(run=run, started=True))

    @app.get("/api/crawler/config")
    async def config() -> CrawlerConfigured:
        return CrawlerConfigured(
            config=intake.crawler,
            version=intake.crawler_version,
            allowed=(ALLOWED,),
            warnings=intake.warnings,
        )

    def changed(path: str, request: BaseModel, config_: CrawlerConfig, version: int | None) -> Response | None:
        refused = intake.note(path, request)
        if refused:
            return refused
        if version not in (None, intake.crawler_version):
            return refusal(409, "conflict", "the configuration has been changed meanwhile; read it again")
        for one in config_.sources:
            if one.root and one.root.startswith("/") and not one.root.startswith(ALLOWED):
                where: list[JsonValue] = [{"where": f"source {one.name!r}", "why": f"{one.root} may not be read"}]
                return refusal(422, "invalid", f"source {one.name!r}: {one.root} may not be read", where)
        for root in config_.machine_roots:
            if not root.path.startswith(ALLOWED):
                where = [{"where": f"machine root {root.path!r}", "why": "it may not be read"}]
                return refusal(422, "invalid", f"machine root {root.path!r}: it may not be read", where)
        intake.crawler, intake.crawler_version = config_, intake.crawler_version + 1
        return None

    @app.put("/api/crawler/config")
    async def configure(request: CrawlerConfig, version: int | None = None) -> Response:
        return changed("/api/crawler/config", request, request, version) or answered(await config())

    @app.put("/api/crawler/config/machine-roots")
    async def roots(request: MachineRoots, version: int | None = None) -> Response:
        whole = intake.crawler.model_copy(update={"machine_roots": request.machine_roots})
        return changed("/api/crawler/config/machine-roots", request, whole, version) or answered(await config())

    @app.put("/api/crawler/config/sources")
    async def sources(request: Sources, version: int | None = None) -> Response:
        whole = intake.crawler.model_copy(update={"sources": request.sources})
        return changed("/api/crawler/config/sources", request, whole, version) or answered(await config())

    @app.get("/api/crawler/config/docx-tag-patterns")
    async def patterns() -> TagPatternsConfigured:
        return intake.patterns

    @app.put("/api/crawler/config/docx-tag-patterns")
    async def set_patterns(request: TagPatterns, version: int | None = None) -> Response:
        refused = intake.note("/api/crawler/config/docx-tag-patterns", request)
        if refused:
            return refused
        if version not in (None, intake.patterns.version):
            return refusal(409, "conflict", "the patterns have been changed meanwhile; read them again")
        for at, one in enumerate(request.patterns):
            if one.syntax == "regex" and one.pattern.count("(") != one.pattern.count(")"):
                place = f"patterns.{at}.pattern"
                why: list[JsonValue] = [{"where": place, "why": "missing ), unterminated group"}]
                return refusal(422, "invalid", "the request does not fit; see detail for where and why", why)
        intake.patterns = TagPatternsConfigured(patterns=request.patterns, version=intake.patterns.version + 1)
        return answered(intake.patterns)

    @app.post("/api/crawler/preview")
    async def preview(request: PreviewRequest) -> Response:
        return intake.note("/api/crawler/preview", request) or answered(intake.preview)


def _nights(app: FastAPI, intake: Intake) -> None:
    @app.get("/api/schedule")
    async def schedule() -> ScheduleStatus:
        return intake.schedule

    @app.put("/api/schedule")
    async def set_schedule(request: Schedule, version: int | None = None) -> Response:
        refused = intake.note("/api/schedule", request)
        if refused:
            return refused
        if version not in (None, intake.schedule.version):
            return refusal(409, "conflict", "the schedule has been changed meanwhile; read it again")
        intake.schedule = intake.schedule.model_copy(
            update={
                "schedule": request,
                "version": intake.schedule.version + 1,
                "next_run": MOMENT + timedelta(days=1) if request.enabled else None,
            }
        )
        return answered(intake.schedule)

    @app.post("/api/schedule/run")
    async def run(request: ScheduleRequest | None = None) -> Response:
        night = Night(
            run_id="n1", trigger="request", day="2026-11-20", state="running", started_at=datetime.now(UTC), steps=()
        )
        return intake.note("/api/schedule/run", request) or answered(NightStarted(night=night, started=True))

    @app.post("/api/episodes/consolidate")
    async def consolidate(request: ConsolidateRequest) -> Response:
        made = [
            one if request.dry_run else one.model_copy(update={"episode_id": f"ep_made_{at}"})
            for at, one in enumerate(intake.groups)
        ]
        superseded = sum(len(one.members) for one in made)
        done = Consolidated(dry_run=request.dry_run, examined=120, groups=tuple(made), superseded=superseded)
        return intake.note("/api/episodes/consolidate", request) or answered(done)

    @app.post("/api/episodes/consolidate/undo")
    async def undo(request: UndoRequest) -> Response:
        return intake.note("/api/episodes/consolidate/undo", request) or JSONResponse({"changed": 2})


def _documents(app: FastAPI, intake: Intake) -> None:
    def ingested(name: str) -> DocumentIngested:
        ids = tuple(f"ep_doc_{at}" for at in range(9))
        return DocumentIngested(
            name=name,
            kind=name.rpartition(".")[2],
            title="Terms of delivery",
            pages=4,
            characters=12_345,
            episodes=ids,
            created=7,
            duplicate=2,
            blocked=0,
            redactions=1,
        )

    @app.post("/api/episodes/upload")
    async def upload(
        file: Annotated[UploadFile, File()],
        project: Annotated[str, Form()],
        tags: Annotated[tuple[str, ...], Form()] = (),
    ) -> Response:
        body: JsonValue = {"name": file.filename, "bytes": len(await file.read()), "project": project, "tags": [*tags]}
        intake.asked.append(("/api/episodes/upload", body))
        return intake.refuse("/api/episodes/upload") or answered(ingested(file.filename or ""))

    @app.post("/api/ingest-url")
    async def fetch(request: IngestUrl) -> Response:
        return intake.note("/api/ingest-url", request) or answered(ingested(request.url))
