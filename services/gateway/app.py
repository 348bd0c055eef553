"""The gateway put together: who comes in, who answers a conversation, and what is passed on to whom."""

import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI, Request
from starlette.middleware import Middleware

from anamnesis.contracts.crawler import CrawlerStatus
from anamnesis.contracts.embedding import EmbeddingConfig, ReembedStatus
from anamnesis.contracts.episodes import EpisodeStats
from anamnesis.contracts.ingest import IngestStatus
from anamnesis.contracts.schedule import ScheduleStatus
from anamnesis.contracts.summaries import SummaryStatus
from anamnesis.kit.app import create_app
from anamnesis.kit.auth import OPEN, READING_PATHS, ServiceKey, key_hash, presented_key
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.keys import RemoteKeys
from services.gateway import behind, events, feedback, latency
from services.gateway.answering import Answering
from services.gateway.backends import states
from services.gateway.backends.anamnesis_gpt import NAME as TRAINERS
from services.gateway.backends.choose import choose
from services.gateway.backends.claude import Claude
from services.gateway.backends.endpoints import endpoints
from services.gateway.chat import endpoints as chat
from services.gateway.chat.remembering import Remembering
from services.gateway.chat.sessions import Sessions
from services.gateway.chat.turns import Turns
from services.gateway.dashboard import pages
from services.gateway.dashboard.callers import Callers
from services.gateway.entrance import login as entrance
from services.gateway.entrance.login import Login
from services.gateway.entrance.places import to_login
from services.gateway.entrance.rates import RateLimit
from services.gateway.entrance.sessions import BrowserSessions, csrf_token
from services.gateway.evaluate.memory import MemoryDesk
from services.gateway.evaluate.routes import routes as evaluate_routes
from services.gateway.evaluate.runs import Runs
from services.gateway.events import Events
from services.gateway.failover.chain import Chain
from services.gateway.failover.pool import Pool
from services.gateway.failover.walk import Deadlines
from services.gateway.headers import SafeHeaders
from services.gateway.hooks.service import Hooks
from services.gateway.idempotency import Idempotency
from services.gateway.proxy import Proxy, Service
from services.gateway.recall import Recall
from services.gateway.reports import Reports
from services.gateway.settings import GatewaySettings
from services.gateway.subpath import SubPath
from services.gateway.surfaces import anthropic, embeddings, models, openai
from services.gateway.surfaces.catalogue import Catalogue
from services.gateway.surfaces.desk import Desk
from services.gateway.surfaces.errors import DialectErrors
from services.gateway.surfaces.mcp import Mcp
from services.gateway.surfaces.toolbox import Toolbox
from services.gateway.trainers import endpoints as trainers
from services.gateway.trainers.client import TrainerClient
from services.gateway.trainers.fleet import Fleet

OPENED = OPEN | entrance.OPENED
READING = READING_PATHS | entrance.READING | {"/v1/embeddings", "/v1/messages/count_tokens", "/mcp"}
"""What a key of the scope `read` may do without a GET; at /mcp each tool looks at the key's scope itself."""
FREE = ("/dashboard/static/",)
"""Files of the pages, which do not count as requests of a key."""
LOOK = 5.0  # seconds that a service may take to say how it stands, for the pages that are open


def build(settings: GatewaySettings) -> FastAPI:
    """The app; nothing is opened before it starts."""
    memory = Service("memory", str(settings.memory_url).rstrip("/"))
    ingest = Service("ingest", str(settings.ingest_url).rstrip("/"))
    client = ServiceClient(memory.url, settings.service_key)
    ingest_client = ServiceClient(ingest.url, settings.service_key)
    holder = ServiceKey(settings.service_key, RemoteKeys(client))
    login = Login(client, holder, settings.login_days)
    proxy = Proxy()

    backends = choose(settings, os.environ)
    configured = tuple(backend.name for backend in backends if backend.missing is None)
    names = configured or tuple(backend.name for backend in backends)  # where there is none, each says what to set
    deadlines = Deadlines(settings.chat_first, settings.chat_idle, settings.chat_total)
    fleet = Fleet(
        Pool(endpoints(settings.trainer_urls)),
        TrainerClient(settings.service_key, settings.chat_connect),
        deadlines,
        chance=random.Random(),  # noqa: S311 - jitter is no secret
    )
    idempotency = Idempotency()
    # Chats and plain generation are one load on a trainer, and what one learns of it the other knows.
    chain = Chain(backends, deadlines, pools={TRAINERS: fleet.pool})
    recall = Recall(
        client,
        wait=settings.recall_wait,
        top_k=settings.recall_top_k,
        tokens=settings.recall_tokens,
        on_search=lambda seconds: app.state.metrics.seconds.labels("gateway", latency.RECALL).observe(seconds),
    )
    reports = Reports(client)
    answering = Answering(chain, recall, reports)
    sessions = Sessions(client)
    remembering = Remembering(client, sessions)
    turns = Turns(answering, sessions, remembering, settings.chat_history, names)
    catalogue = Catalogue(backends)
    desk = Desk(answering, backends, names, catalogue)
    embedding = embeddings.Embeddings(client, within=settings.gateway_read_wait)
    counter = next((one for one in backends if isinstance(one, Claude)), None)
    mcp = Mcp(Toolbox(client))
    hooks = Hooks(client, ingest_client, settings)
    evaluations = Runs(MemoryDesk(client))

    async def recall_latency() -> latency.Latency:
        return latency.of_routes(app.state.metrics, latency.SEARCHES)

    told = Events(
        {
            "stats": lambda: client.get("/api/episodes/stats", EpisodeStats, deadline=LOOK),
            "embedding": lambda: client.get("/api/embedding/config", EmbeddingConfig, deadline=LOOK),
            "reembed": lambda: client.get("/api/episodes/reembed/status", ReembedStatus, deadline=LOOK),
            "ingest": lambda: ingest_client.get("/api/jsonl/status", IngestStatus, deadline=LOOK),
            "crawler": lambda: ingest_client.get("/api/crawler/status", CrawlerStatus, deadline=LOOK),
            "schedule": lambda: ingest_client.get("/api/schedule", ScheduleStatus, deadline=LOOK),
            "summaries": lambda: ingest_client.get("/api/jsonl/summaries", SummaryStatus, deadline=LOOK),
            "latency": recall_latency,
        }
    )

    async def allowed(request: Request) -> bool:
        key = presented_key(request)
        return key is not None and await holder.identify(key_hash(key)) is not None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(client)
            await opened.enter_async_context(ingest_client)
            await proxy.open()
            opened.push_async_callback(proxy.close)
            for backend in backends:
                await backend.open()
                opened.push_async_callback(backend.close)
            await fleet.open()
            opened.push_async_callback(fleet.close)
            opened.push_async_callback(catalogue.close)
            opened.push_async_callback(reports.close)
            await remembering.open()
            opened.push_async_callback(remembering.close)
            opened.push_async_callback(turns.close)
            hooks.open(app.state.metrics.registry)
            opened.push_async_callback(hooks.close)
            await opened.enter_async_context(mcp.running())
            opened.push_async_callback(evaluations.close)
            opened.push_async_callback(told.close)
            yield

    async def ready() -> None:
        await proxy.require_ready(memory)

    app = create_app(
        "gateway",
        routers=[
            events.routes(told, allowed),
            pages.routes(Callers(client, ingest_client), csrf_token),
            chat.routes(turns, idempotency),
            trainers.routes(fleet, idempotency),
            states.routes(states.States(backends)),
            openai.routes(desk),
            anthropic.routes(desk, counter),
            embeddings.routes(embedding),
            models.routes(catalogue, embedding),
            mcp.routes(),
            hooks.routes(),
            feedback.routes(client, sessions),
            evaluate_routes(evaluations),
            entrance.routes(login),
            behind.routes(settings, proxy, memory, ingest, fleet.pool.endpoints, on_keys=holder.forget),
        ],
        holder=holder,
        allowed_hosts=settings.own_hosts,
        ready=ready,
        lifespan=lifespan,
        larger={**behind.LARGER, "/login": entrance.MAX_FORM},
        opened=OPENED,
        reading=READING,
        stranger=to_login,
        around=[Middleware(SubPath, root=settings.gateway_path), Middleware(DialectErrors), Middleware(SafeHeaders)],
        before=[hooks.middleware, Middleware(BrowserSessions, opened=OPENED)],
        behind=[Middleware(RateLimit, rate=settings.gateway_rate, free=FREE)],
    )
    return app
