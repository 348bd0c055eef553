"""A gateway with the surfaces on a real port: scripted backends, and a server that stands in for memory."""

import asyncio
import base64
import contextlib
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field

import uvicorn
from aiohttp import web
from fastapi import FastAPI
from pydantic import SecretStr

from anamnesis.contracts.base import now
from anamnesis.contracts.embedding import CpuShare, EmbeddedTexts, EmbeddingConfig, EmbeddingModel, EmbedTexts
from anamnesis.contracts.episodes import EpisodeSource, SearchHit, SearchRequest, SearchResponse, Trust
from anamnesis.contracts.keys import Identity, KeyCheck, Scope
from anamnesis.contracts.usefulness import UsefulnessReport
from anamnesis.kit.app import create_app
from anamnesis.kit.auth import ServiceKey, key_hash, new_key
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.keys import RemoteKeys
from services.gateway.answering import Answering
from services.gateway.app import READING
from services.gateway.backends.base import Ask, Backend, BackendFailure, Dialect, Endpoint, Piece
from services.gateway.failover.chain import Chain
from services.gateway.failover.walk import Deadlines
from services.gateway.recall import Recall
from services.gateway.reports import Reports
from services.gateway.surfaces import anthropic, embeddings, models, openai
from services.gateway.surfaces.catalogue import Catalogue
from services.gateway.surfaces.desk import Desk
from services.gateway.surfaces.errors import DialectErrors
from services.gateway.surfaces.exchange import Patience
from services.gateway.surfaces.token_count import Counter

SERVICE_KEY = new_key()
CALLER_KEY = new_key()
READER_KEY = new_key()
"""Of scope `read`."""
MODEL = "tests/embedder"
EPISODE = "ep_20261002_cc_deploys"
REMEMBERED = "Deploys go out on Tuesdays after the smoke test."


class Scripted:
    """A backend that says what it is told to say, and keeps what it was asked."""

    def __init__(
        self, name: str, script: Sequence[Piece | BackendFailure | asyncio.Event], dialect: Dialect | None = None
    ) -> None:
        """An event in the script is waited for."""
        self.name = name
        self.dialect = dialect
        self.script = list(script)
        self.endpoints = (Endpoint(f"{name}-1", "http://127.0.0.1"),)
        self.missing: str | None = None
        self.listed: Sequence[str] = ("default-model",)
        self.asked: list[Ask] = []
        self.said = 0
        """Pieces that were taken from it."""
        self.reached = asyncio.Event()
        """Set when it is asked."""
        self.closed = asyncio.Event()
        """Set when an answer ended, however it did."""

    def cannot(self, ask: Ask) -> str | None:
        return None

    async def models(self) -> Sequence[str]:
        return self.listed

    async def answer(self, ask: Ask, endpoint: Endpoint) -> AsyncGenerator[Piece, None]:
        self.asked.append(ask)
        self.reached.set()
        try:
            for step in self.script:
                if isinstance(step, BackendFailure):
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    self.said += 1
                    yield step
        finally:
            self.closed.set()

    async def open(self) -> None: ...

    async def close(self) -> None: ...


@dataclass
class Memory:
    """Answers as the memory service does: key look-ups, searches, embeddings."""

    remembers: bool = True
    failing: bool = False
    searches: list[SearchRequest] = field(default_factory=list)
    embedded: list[EmbedTexts] = field(default_factory=list)
    reports: list[UsefulnessReport] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/api/keys/check", self._check)
        app.router.add_post("/api/episodes/search", self._search)
        app.router.add_post("/api/episodes/usefulness", self._usefulness)
        app.router.add_post("/api/embedding/texts", self._embed)
        app.router.add_get("/api/embedding/config", self._config)
        return app

    async def _check(self, request: web.Request) -> web.Response:
        check = KeyCheck.model_validate_json(await request.read())
        scope = {key_hash(CALLER_KEY): Scope.WRITE, key_hash(READER_KEY): Scope.READ}.get(check.hash)
        if scope is None:
            return web.json_response({"error": {"code": "not_found", "message": "no such key"}}, status=404)
        return web.json_response(text=Identity(key_id="k1", name="tests", scope=scope).model_dump_json())

    async def _search(self, request: web.Request) -> web.Response:
        self.searches.append(SearchRequest.model_validate_json(await request.read()))
        if self.failing:
            return web.json_response({"error": {"code": "internal", "message": "out of order"}}, status=500)
        hit = SearchHit(
            episode_id=EPISODE,
            timestamp=now(),
            ingested_at=now(),
            instance="cc",
            project="shop",
            summary=REMEMBERED,
            raw_exchange=None,
            tags=(),
            source=EpisodeSource(kind="transcript"),
            trust=Trust.ASSISTANT,
            content_hash="0" * 64,
            score=0.9,
        )
        found = SearchResponse(results=(hit,) if self.remembers else (), abstained=not self.remembers)
        return web.json_response(text=found.model_dump_json())

    async def _usefulness(self, request: web.Request) -> web.Response:
        self.reports.append(UsefulnessReport.model_validate_json(await request.read()))
        return web.json_response({"changed": 1})

    async def _embed(self, request: web.Request) -> web.Response:
        asked = EmbedTexts.model_validate_json(await request.read())
        self.embedded.append(asked)
        vectors = [array("f", vector_of(text)).tobytes() for text in asked.texts]
        answer = EmbeddedTexts(
            model=MODEL, dimension=3, vectors=tuple(base64.b64encode(one).decode() for one in vectors)
        )
        return web.json_response(text=answer.model_dump_json())

    async def _config(self, request: web.Request) -> web.Response:
        active = EmbeddingModel(name=MODEL, dimension=3, max_tokens=256, licence="none", available=True)
        config = EmbeddingConfig(
            active=active,
            known=(active,),
            cpu=CpuShare(percent=50),
            workers=1,
            cores_in_use=(0,),
            queue_depth=0,
            queue_limit=1,
            checkpoint_every=1,
        )
        return web.json_response(text=config.model_dump_json())


def vector_of(text: str) -> list[float]:
    """What the stand-in embeds a text to; exact as float32."""
    return [float(len(text)), 0.5, -0.25]


@dataclass
class House:
    url: str
    memory: Memory
    app: FastAPI


@contextlib.asynccontextmanager
async def house(
    *backends: Backend, counter: Counter | None = None, patience: Patience | None = None
) -> AsyncIterator[House]:
    """The surfaces, served as in production, in front of these backends in this order."""
    memory = Memory()
    runner = web.AppRunner(memory.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    client = ServiceClient(f"http://{host}:{port}", SecretStr(SERVICE_KEY))
    chain = Chain(backends, Deadlines(first=20.0, idle=20.0, total=60.0))
    reports = Reports(client)
    answering = Answering(chain, Recall(client, wait=5.0, top_k=5, tokens=1000), reports)
    catalogue = Catalogue(backends)
    desk = Desk(answering, backends, [backend.name for backend in backends], catalogue, patience)
    embedding = embeddings.Embeddings(client, within=10.0)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for backend in backends:
            await backend.open()
        yield
        await catalogue.close()
        await reports.close()
        for backend in backends:
            await backend.close()

    async def ready() -> None: ...

    app = create_app(
        "gateway",
        routers=[
            openai.routes(desk),
            embeddings.routes(embedding),
            models.routes(catalogue, embedding),
            anthropic.routes(desk, counter),
        ],
        holder=ServiceKey(SecretStr(SERVICE_KEY), RemoteKeys(client)),
        allowed_hosts=["127.0.0.1"],
        ready=ready,
        lifespan=lifespan,
        reading=READING,
    )
    app.add_middleware(DialectErrors)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False)
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    async with client:
        serving = asyncio.create_task(server.serve())
        while not server.started:
            assert not serving.done(), "the gateway did not start"
            await asyncio.sleep(0.01)
        try:
            yield House(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", memory, app)
        finally:
            server.should_exit = True
            await asyncio.wait_for(serving, 10)
            await runner.cleanup()
