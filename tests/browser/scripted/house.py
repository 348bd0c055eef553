"""The pages on a real port, and behind them a gateway's data paths as a test scripts them, written to the contracts.

What a test wants to see in a page, it puts into `House`: sessions, the pieces of answers with the gates between them,
episodes, points, questions. What the page sends is kept in it.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import JsonValue

from anamnesis.contracts.chat import (
    Attempt,
    BackendState,
    BackendStates,
    ChatBackend,
    ChatBegun,
    ChatDelta,
    ChatDone,
    ChatFound,
    ChatRecalled,
    ChatRequest,
    ChatSearch,
    ChatSession,
    ChatSessionPage,
    ChatSessionTurns,
    ChatTurn,
    Recalled,
    StopReason,
    TitleChange,
    TitleRequest,
    TurnState,
    Usage,
)
from anamnesis.contracts.embedding import CpuShare, EmbeddingConfig, EmbeddingModel
from anamnesis.contracts.episodes import (
    Changed,
    CountBy,
    Episode,
    EpisodeSource,
    EpisodeStats,
    Reason,
    SearchHit,
    SearchRequest,
    SearchResponse,
    Trust,
)
from anamnesis.contracts.evaluate import EvaluateRequest, EvaluateRun, EvaluateRuns, EvaluateState
from anamnesis.contracts.insight import EpisodeMap
from anamnesis.contracts.keys import Identity, KeyList, Scope
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import UpstreamFailed
from anamnesis.kit.sse import Event, event, respond
from services.gateway.dashboard import pages
from services.gateway.dashboard.callers import Callers
from services.gateway.subpath import SubPath
from tests.browser.scripted import intake
from tests.browser.scripted.intake import Intake
from tests.ports import free_ports

CSRF = "csrf-of-this-page"
BEGAN = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
ANSWER = (
    "The upload test was flaky because of a **race** between the worker and the cleanup.\n\n"
    "1. Wait for the worker's `done` event.\n2. Only then remove the directory.\n\n"
    "```python\nawait worker.done.wait()\nshutil.rmtree(directory)\n```\n\nSee [the notes](https://example.org/notes)."
)


def reasons(score: float) -> tuple[Reason, ...]:
    shares = {"dense": 0.55, "lexical": 0.25, "opening": 0.12, "recency": 0.08}
    return tuple(Reason(term=t, value=score, weight=s, contribution=round(score * s, 4)) for t, s in shares.items())


def recalled(number: int, summary: str, score: float = 0.7, trust: Trust = Trust.ASSISTANT) -> Recalled:
    return Recalled(
        episode_id=f"ep_{number}",
        timestamp=BEGAN - timedelta(days=number),
        project="uploads",
        instance="laptop",
        summary=summary,
        source="claude-code: session 4f1c",
        trust=trust,
        score=score,
        reasons=reasons(score),
    )


def turn(number: int, asked: str, answered: str, state: TurnState = TurnState.COMPLETE) -> ChatTurn:
    moment = BEGAN + timedelta(minutes=number)
    return ChatTurn(
        turn=number,
        asked=asked,
        answered=answered,
        state=state,
        backend="openai",
        model="scripted-1",
        started_at=moment,
        finished_at=moment,
    )


@dataclass
class Script:
    """One turn: what is recalled, the pieces of the answer (an event among them is waited for), how it ends."""

    pieces: Sequence[str | threading.Event] = (ANSWER,)
    recalled: Sequence[Recalled] = ()
    used: Sequence[str] = ()
    abstained: bool = False
    memory_error: str | None = None
    attempts: Sequence[Attempt] = ()
    thinking: str = ""
    error: str | None = None
    cut: bool = False
    """The connection ends without a last event."""


@dataclass
class House:
    """What there is, and what has been asked."""

    script: Callable[[ChatRequest], Script] = lambda _: Script()
    backends: tuple[BackendState, ...] = (
        BackendState(name="openai", configured=True, reason=None, models=("scripted-1", "scripted-2")),
        BackendState(name="ollama", configured=True, reason=None, models=("llama3.2",)),
        BackendState(name="claude", configured=False, reason="set ANAMNESIS_CLAUDE_API_KEY to a key of the Claude API"),
    )
    sessions: dict[str, ChatSession] = field(default_factory=dict)
    turns: dict[str, list[ChatTurn]] = field(default_factory=dict)
    asked: list[ChatRequest] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    feedback: list[JsonValue] = field(default_factory=list)
    episodes: dict[str, Episode] = field(default_factory=dict)
    map: EpisodeMap | None = None
    settings: dict[str, JsonValue] = field(default_factory=dict)
    evaluated: list[EvaluateRequest] = field(default_factory=list)
    runs: list[EvaluateRun] = field(default_factory=list)
    scope: Scope = Scope.ADMIN
    """Of the reader's key."""
    intake: Intake = field(default_factory=Intake)
    """What the ingest service says."""
    told: "queue.Queue[Event]" = field(default_factory=queue.Queue)
    """What the stream of events tells the page, one after the other."""
    outcome: Callable[[EvaluateRequest, EvaluateRun], EvaluateRun] = lambda _, run: run
    """What a run looks like the next time that it is asked for."""

    def session(self, id: str, title: str, turns: Sequence[ChatTurn]) -> None:
        moment = BEGAN + timedelta(minutes=len(turns))
        self.sessions[id] = ChatSession(
            session_id=id, title=title, turns=len(turns), created_at=BEGAN, updated_at=moment, project="uploads"
        )
        self.turns[id] = list(turns)

    def episode(self, id: str, summary: str, project: str = "uploads") -> Episode:
        self.episodes[id] = Episode(
            episode_id=id,
            timestamp=BEGAN,
            ingested_at=BEGAN,
            instance="laptop",
            project=project,
            summary=summary,
            source=EpisodeSource(kind="claude-code"),
            content_hash="0" * 64,
        )
        return self.episodes[id]


def error(status: int, code: str, message: str, detail: JsonValue = None) -> Response:
    return JSONResponse({"error": {"code": code, "message": message, "detail": detail}}, status)


def build(house: House, own: str) -> FastAPI:
    """`own`: the address that it will have; the pages ask it as they ask memory."""
    client = ServiceClient(own, None)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.middleware("http")
    async def known(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        request.state.identity = Identity(key_id="k1", name="a reader", scope=house.scope)
        return await go_on(request)

    app.include_router(pages.routes(Callers(client, client), lambda _: CSRF))
    _chat(app, house)
    _memory(app, house)
    _evaluate(app, house)
    intake.serve(app, house.intake)
    return app


def _chat(app: FastAPI, house: House) -> None:
    @app.post("/api/chat/stream")
    async def stream(request: ChatRequest, http: Request) -> Response:
        assert http.headers["x-csrf-token"] == CSRF
        if request.session_id is not None and request.session_id not in house.sessions:
            return error(404, "not_found", "there is no such session")
        house.asked.append(request)
        return respond(_answer(house, request))

    @app.get("/api/backends")
    async def backends() -> BackendStates:
        return BackendStates(backends=house.backends)

    @app.post("/api/feedback")
    async def feedback(request: Request) -> dict[str, str]:
        house.feedback.append(await request.json())
        return {}

    @app.get("/api/chat/sessions")
    async def sessions(skip: int = 0, limit: int = 50) -> ChatSessionPage:
        newest = sorted(house.sessions.values(), key=lambda one: one.updated_at, reverse=True)
        return ChatSessionPage(sessions=tuple(newest[skip : skip + limit]), total=len(newest))

    @app.get("/api/chat/sessions/search")
    async def find(q: str) -> ChatSearch:
        found = [
            ChatFound(session=house.sessions[id], turn=one.turn, excerpt=one.asked)
            for id, turns in house.turns.items()
            for one in turns
            if q.lower() in f"{one.asked} {one.answered}".lower()
        ]
        return ChatSearch(results=tuple(found[:20]), complete=True)

    @app.get("/api/chat/sessions/{id}")
    async def turns(id: str, before: int | None = None, limit: int = 50) -> Response:
        if id not in house.sessions:
            return error(404, "not_found", "there is no such session")
        older = [one for one in house.turns[id] if before is None or one.turn < before]
        page = ChatSessionTurns(session=house.sessions[id], turns=tuple(older[-limit:]), total=len(house.turns[id]))
        return Response(page.model_dump_json(), media_type="application/json")

    @app.patch("/api/chat/sessions/{id}/title")
    async def rename(id: str, request: TitleRequest) -> ChatSession:
        old = house.sessions[id]
        titles = (*old.titles, TitleChange(title=old.title, until=datetime.now(UTC)))
        house.sessions[id] = old.model_copy(update={"title": request.title, "titles": titles})
        return house.sessions[id]

    @app.delete("/api/chat/sessions/{id}/delete")
    async def delete(id: str) -> Changed:
        del house.turns[id]
        return Changed(changed=int(house.sessions.pop(id, None) is not None))


async def _answer(house: House, request: ChatRequest) -> AsyncIterator[Event]:
    script = house.script(request)
    id = request.session_id or f"s{len(house.sessions) + 1}"
    if id not in house.sessions:
        house.session(id, request.message[:40], [])
    number = len(house.turns[id]) + 1
    said: list[str] = []
    state = TurnState.STOPPED
    house.turns[id].append(turn(number, request.message, "", TurnState.RUNNING))

    def kept() -> ChatTurn:
        return turn(number, request.message, "".join(said), state).model_copy(
            update={
                "recalled": tuple(script.recalled),
                "used": tuple(script.used),
                "stop_reason": StopReason.END,
                "usage": Usage(input_tokens=812, output_tokens=64),
                "error": script.error,
                "remember": request.memory,
            }
        )

    try:
        yield event("session", ChatBegun(session_id=id, turn=number, title=house.sessions[id].title))
        if request.memory:
            yield event(
                "recalled",
                ChatRecalled(
                    episodes=tuple(script.recalled),
                    abstained=script.abstained,
                    error=script.memory_error,
                    milliseconds=18.4,
                ),
            )
        answering = Attempt(backend="openai", endpoint="http://127.0.0.1:8000/v1")
        yield event(
            "backend", ChatBackend(backend="openai", model="scripted-1", attempts=(*script.attempts, answering))
        )
        if script.thinking:
            yield event("thinking", ChatDelta(text=script.thinking))
        for piece in script.pieces:
            if isinstance(piece, threading.Event):
                await asyncio.to_thread(piece.wait, 30)
                continue
            said.append(piece)
            yield event("delta", ChatDelta(text=piece))
        state = TurnState.FAILED if script.error or script.cut else TurnState.COMPLETE
        if script.cut:
            return
        if script.error:
            yield event("error", UpstreamFailed(script.error).envelope())
            return
        yield event("done", ChatDone(turn=kept()))
    finally:
        if id in house.turns:
            house.turns[id][number - 1] = kept()
            house.sessions[id] = house.sessions[id].model_copy(
                update={"turns": number, "updated_at": datetime.now(UTC)}
            )
        if state is TurnState.STOPPED:
            house.stopped.set()


def _next(told: "queue.Queue[Event]") -> Event:
    """The next thing to tell; a comment where there is none for a while, so that no thread waits for ever."""
    try:
        return told.get(timeout=1)
    except queue.Empty:
        return Event("beat", "{}")


def _memory(app: FastAPI, house: House) -> None:
    @app.get("/api/events")
    async def events() -> Response:
        async def told() -> AsyncIterator[Event]:
            while True:
                yield await asyncio.to_thread(_next, house.told)

        return respond(told())

    @app.get("/api/episodes/stats")
    async def stats() -> EpisodeStats:
        count = len(house.episodes)
        by = (CountBy(name="uploads", episodes=count, latest=BEGAN),) if count else ()
        return EpisodeStats(
            episodes=count,
            superseded=0,
            without_vectors=0,
            projects=by,
            instances=by,
            earliest=None,
            latest=None,
            bytes_on_disk=None,
        )

    @app.get("/api/episodes/map")
    async def picture() -> Response:
        if house.map is None:
            return error(503, "unavailable", "the map is not there yet; try again in a moment")
        return Response(house.map.model_dump_json(), media_type="application/json")

    @app.post("/api/episodes/search")
    async def search(request: SearchRequest) -> SearchResponse:
        words = request.query_text.lower().split()
        found = [one for one in house.episodes.values() if any(word in one.summary.lower() for word in words)]
        hits = [SearchHit(**one.model_dump(), score=0.5) for one in found[: request.top_k]]
        return SearchResponse(results=tuple(hits), abstained=not hits)

    @app.get("/api/episodes/{id}")
    async def episode(id: str) -> Response:
        if id not in house.episodes:
            return error(404, "not_found", "there is no such episode")
        return Response(house.episodes[id].model_dump_json(), media_type="application/json")

    @app.get("/api/embedding/config")
    async def embedding() -> EmbeddingConfig:
        model = EmbeddingModel(
            name="all-MiniLM-L6-v2", dimension=384, max_tokens=256, licence="Apache-2.0", available=True
        )
        other = model.model_copy(update={"name": "bge-small-en-v1.5"})
        return EmbeddingConfig(
            active=model,
            known=(model, other),
            cpu=CpuShare(percent=50),
            workers=1,
            cores_in_use=(0,),
            queue_depth=0,
            queue_limit=10,
            checkpoint_every=25,
        )

    @app.get("/api/keys")
    async def keys() -> KeyList:
        return KeyList(keys=())

    @app.get("/api/settings/{name}")
    async def setting(name: str) -> Response:
        if name not in house.settings:
            return error(404, "not_found", f"the setting {name} has never been set")
        return JSONResponse({"name": name, "value": house.settings[name], "version": 1})

    @app.put("/api/settings/{name}")
    async def set_setting(name: str, request: Request) -> Response:
        house.settings[name] = await request.json()
        return JSONResponse({"name": name, "value": house.settings[name], "version": 2})


def _evaluate(app: FastAPI, house: House) -> None:
    @app.post("/api/evaluate")
    async def begin(request: EvaluateRequest) -> EvaluateRun:
        house.evaluated.append(request)
        total = (len(request.questions) or request.made or 1) * len(request.configurations)
        run = EvaluateRun(
            run_id=f"run{len(house.runs) + 1}",
            state=EvaluateState.RUNNING,
            started_at=datetime.now(UTC),
            total=total,
        )
        house.runs.insert(0, run)
        return run

    @app.get("/api/evaluate")
    async def runs() -> EvaluateRuns:
        return EvaluateRuns(runs=tuple(one.model_copy(update={"outcomes": ()}) for one in house.runs))

    @app.get("/api/evaluate/{id}")
    async def run(id: str) -> EvaluateRun:
        at = next(at for at, one in enumerate(house.runs) if one.run_id == id)
        if house.runs[at].state is EvaluateState.RUNNING:
            house.runs[at] = house.outcome(house.evaluated[-1], house.runs[at])
        return house.runs[at]

    @app.delete("/api/evaluate/{id}")
    async def stop(id: str) -> EvaluateRun:
        at = next(at for at, one in enumerate(house.runs) if one.run_id == id)
        house.runs[at] = house.runs[at].model_copy(update={"state": EvaluateState.STOPPED})
        return house.runs[at]


@contextlib.contextmanager
def serving(house: House, root_path: str = "") -> Iterator[str]:
    """The address of the pages, served by a thread."""
    [port] = free_ports(1)
    app = SubPath(build(house, f"http://127.0.0.1:{port}"), root_path)
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="house")
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive(), "the pages did not start"
            assert time.monotonic() < deadline, "the pages did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}{root_path}"
    finally:
        server.should_exit = True
        thread.join(15)
