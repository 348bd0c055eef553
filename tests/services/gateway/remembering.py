"""A small memory behind the gateway: episodes in a dict, keys of every scope, and faults on request."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

from aiohttp import web

from anamnesis.contracts.episodes import (
    Changed,
    Episode,
    EpisodeCreate,
    EpisodePage,
    EpisodeSource,
    ForgetProof,
    ForgetReceipt,
    SearchHit,
    SearchRequest,
    SearchResponse,
    Trust,
)
from anamnesis.contracts.ingest import IngestRun, IngestStarted
from anamnesis.contracts.keys import Identity, KeyCheck, Scope
from anamnesis.contracts.usefulness import UsefulnessReport, Verdict
from anamnesis.kit.auth import key_hash, new_key

from .conftest import SERVICE_KEY, Behind

KEYS = {scope: new_key() for scope in (Scope.READ, Scope.WRITE, Scope.ADMIN)}
START = datetime(2026, 10, 2, 9, 0, tzinfo=UTC)


def episode(number: int, summary: str, project: str = "shop", raw: str | None = None) -> Episode:
    """Number `number` happened `number` hours after the first."""
    return Episode(
        episode_id=f"ep_{number}",
        timestamp=START + timedelta(hours=number),
        ingested_at=START,
        instance="laptop",
        project=project,
        summary=summary,
        raw_exchange=raw,
        source=EpisodeSource(kind="claude-code", session="s1"),
        trust=Trust.USER,
        content_hash="0" * 64,
    )


class Remembering(Behind):
    """Answers as memory and ingest do, as far as tools and hooks ask."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes: dict[str, Episode] = {}
        self.searches: list[SearchRequest] = []
        self.verdicts: dict[str, list[Verdict]] = {}
        self.reported = asyncio.Event()
        self.ingests = 0
        self.asked_to_ingest = asyncio.Event()
        self.pause: asyncio.Event | None = None
        """While it is there and not set, nothing is answered."""
        self.pause_keys = False
        """Whether key look-ups are held up too."""
        self.answer = self._answer

    def keep(self, *episodes: Episode) -> None:
        self.episodes |= {one.episode_id: one for one in episodes}

    async def _check(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == f"Bearer {SERVICE_KEY}"
        if self.pause is not None and self.pause_keys:
            await self.pause.wait()
        check = KeyCheck.model_validate_json(await request.read())
        for scope, key in KEYS.items():
            if check.hash == key_hash(key):
                identity = Identity(key_id=f"k-{scope}", name=f"the {scope} key", scope=scope)
                return web.json_response(text=identity.model_dump_json())
        return _error(404, "not_found", "no such key")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.pause is not None:
            await self.pause.wait()
        match request.method, unquote(request.path).split("/")[2:]:
            case "POST", ["episodes", "search"]:
                return self._search(SearchRequest.model_validate_json(await request.read()))
            case "POST", ["episodes", "usefulness"]:
                report = UsefulnessReport.model_validate_json(await request.read())
                for one in report.verdicts:
                    self.verdicts.setdefault(one.episode_id, []).append(one.verdict)
                self.reported.set()
                known = sum(one.episode_id in self.episodes for one in report.verdicts)
                return _json(Changed(changed=known).model_dump_json())
            case "POST", ["episodes"]:
                return self._create(EpisodeCreate.model_validate_json(await request.read()))
            case "GET", ["episodes"]:
                return self._page(request)
            case "GET", ["episodes", name] if name in self.episodes:
                return _json(self.episodes[name].model_dump_json())
            case "POST", ["episodes", name, "forget"] if name in self.episodes:
                return self._forget(name)
            case "POST", ["jsonl", "ingest"]:
                self.ingests += 1
                self.asked_to_ingest.set()
                run = IngestRun(run_id="r1", state="running", trigger="request", started_at=START)
                return _json(IngestStarted(run=run, started=True).model_dump_json(), 202)
        return _error(404, "not_found", "there is no such episode")

    def _search(self, request: SearchRequest) -> web.StreamResponse:
        self.searches.append(request)
        wanted = {*request.query_text.lower().split()}
        hits = [
            SearchHit(**one.model_dump(), score=0.5)
            for one in self.episodes.values()
            if request.project_filter in (None, one.project) and (request.floor == 0 or wanted & {*_words(one)})
        ]
        return _json(SearchResponse(results=tuple(hits[: request.top_k]), abstained=not hits).model_dump_json())

    def _create(self, made: EpisodeCreate) -> web.StreamResponse:
        for one in self.episodes.values():
            if one.summary == made.summary:
                detail = {"episode_id": one.episode_id, "status": "duplicate"}
                return _error(409, "conflict", "the same content exists under another id", detail)
        number = len(self.episodes) + 1
        kept = episode(number, made.summary, made.project, made.raw_exchange).model_copy(
            update={"instance": made.instance, "source": made.source, "trust": made.trust, "tags": made.tags}
        )
        self.keep(kept)
        return _json(kept.model_dump_json(), 201)

    def _page(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        since, until = (datetime.fromisoformat(query[name]) if name in query else None for name in ("since", "until"))
        found = [
            one
            for one in sorted(self.episodes.values(), key=lambda one: one.timestamp, reverse=True)
            if query.get("project") in (None, one.project)
            and (since is None or one.timestamp >= since)
            and (until is None or one.timestamp < until)
        ]
        skip, limit = int(query.get("skip", 0)), int(query["limit"])
        return _json(EpisodePage(episodes=tuple(found[skip : skip + limit]), total=len(found)).model_dump_json())

    def _forget(self, name: str) -> web.StreamResponse:
        gone = self.episodes.pop(name)
        receipt = ForgetReceipt(
            episode_id=name,
            content_hash=gone.content_hash,
            forgotten_at=START,
            episodes=(name,),
            vectors=1,
            blocked=("b1",),
            proof=ForgetProof(by_id=0, by_content=0, vectors=0, index=0, blocklist=1),
        )
        return _json(receipt.model_dump_json())


@asynccontextmanager
async def remembering() -> AsyncIterator[Remembering]:
    memory = Remembering()
    await memory.start()
    try:
        yield memory
    finally:
        if memory.pause is not None:
            memory.pause.set()
        await memory.stop()


def _words(one: Episode) -> list[str]:
    return f"{one.summary} {one.raw_exchange or ''}".lower().replace(".", " ").split()


def _json(text: str, status: int = 200) -> web.StreamResponse:
    return web.json_response(text=text, status=status)


def _error(status: int, code: str, message: str, detail: dict[str, str] | None = None) -> web.StreamResponse:
    return _json(json.dumps({"error": {"code": code, "message": message, "detail": detail}}), status)
