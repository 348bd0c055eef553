"""The memory service put together: which store, which embedder, which routes."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from anamnesis.kit.app import create_app
from anamnesis.kit.auth import ServiceKey
from anamnesis.kit.errors import Unavailable
from services.memory.blocklist import Blocks
from services.memory.chat.search import Search
from services.memory.chat.sessions import Sessions
from services.memory.consolidation.run import Consolidator
from services.memory.door import Door
from services.memory.embedding.service import Embedding
from services.memory.endpoints import chat, consolidate, episodes, insight, search, state, transfer
from services.memory.endpoints import embedding as embedding_endpoints
from services.memory.endpoints import keys as key_endpoints
from services.memory.endpoints import usefulness as usefulness_endpoints
from services.memory.keys import StoredKeys, ensure_first_key
from services.memory.last_used import LastUsed
from services.memory.picture.maps import Maps
from services.memory.removal import Remover
from services.memory.search.hits import Hits
from services.memory.search.recall import Recall
from services.memory.search.rerank import CrossEncoderReranker
from services.memory.settings import MemorySettings
from services.memory.stores.base import Store
from services.memory.stores.mongo import MongoStore
from services.memory.stores.sqlite import SqliteStore
from services.memory.trials import Trials
from services.memory.usefulness import Usefulness


def choose_store(settings: MemorySettings) -> Store:
    """MongoDB where its URI is given, else the embedded store in the data directory."""
    if settings.mongodb_uri is not None:
        return MongoStore(settings.mongodb_uri.get_secret_value(), settings.mongodb_database)
    return SqliteStore(settings.data / "anamnesis.db")


def build(settings: MemorySettings) -> FastAPI:
    """The app; nothing is opened before its lifespan begins."""
    store = choose_store(settings)
    blocks = Blocks()
    workers = ThreadPoolExecutor(2, thread_name_prefix="door")
    embedding = Embedding(store, settings)
    registry_counts = _Redactions()
    door = Door(store, blocks, embedding, workers, settings.redact_entropy, registry_counts)
    chats = Sessions(store, door, blocks)
    usefulness = Usefulness(store)
    remover = Remover(store, blocks, wipe=chats.forget, removed=usefulness.removed)
    consolidator = Consolidator(store, door, remover, embedding)
    hits = Hits(store)
    maps = Maps(store)
    reranker = CrossEncoderReranker(settings.reranker) if settings.reranker is not None else None
    trials = Trials(store, embedding, reranker)
    uses = LastUsed(store)
    keys = StoredKeys(store, uses)
    holder = ServiceKey(settings.service_key, keys)
    opened = False

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        nonlocal opened
        registry_counts.register(app.state.metrics.registry)
        app.state.metrics.registry.register(_EmbeddingFigures(embedding))
        async with AsyncExitStack() as stack:
            stack.callback(workers.shutdown, wait=False, cancel_futures=True)
            if reranker is not None:
                stack.callback(reranker.close)
            settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
            await store.open()
            stack.push_async_callback(store.close)
            stack.push_async_callback(hits.close)
            stack.push_async_callback(uses.close)
            stack.push_async_callback(maps.close)
            await blocks.load(store)
            await usefulness.load()
            stack.push_async_callback(usefulness.close)
            first = await ensure_first_key(store, settings.api_key, settings.data)
            if first is not None:
                sys.stdout.write(
                    f"Your first API key (shown this once, kept in {settings.data / 'api.key'}):\n  {first}\n"
                )
                sys.stdout.flush()
            stack.push_async_callback(embedding.close)
            stack.push_async_callback(trials.close)
            stack.push_async_callback(consolidator.close)
            await embedding.open()
            settling = asyncio.create_task(_settle(embedding))
            clearing = asyncio.create_task(chats.finish())
            opened = True
            yield
            opened = False
            settling.cancel()
            clearing.cancel()

    async def ready() -> None:
        if not opened:
            raise Unavailable("the service is starting or stopping")
        await store.ping()
        embedding.ping()

    return create_app(
        "memory",
        routers=[
            episodes.routes(store, door, remover, blocks, embedding),
            consolidate.routes(consolidator),
            search.routes(Recall(store, embedding, hits, reranker, usefulness.unused)),
            usefulness_endpoints.routes(usefulness),
            chat.routes(chats, Search(chats, workers)),
            transfer.routes(store, door),
            insight.routes(store, embedding, maps),
            embedding_endpoints.routes(embedding, trials),
            state.routes(store, door.clean_json),
            key_endpoints.routes(keys, on_revoked=holder.forget),
            episodes.routes_by_id(store, door, remover),  # last: fixed paths come before /{id}
        ],
        holder=holder,
        allowed_hosts=settings.own_hosts,
        ready=ready,
        lifespan=lifespan,
        larger={"/api/episodes/import": transfer.MAX_IMPORT},
    )


async def _settle(embedding: Embedding) -> None:
    await embedding.opened()
    gc.collect()
    gc.freeze()  # what was loaded stays: collections under way need not walk it again


class _Redactions:
    """Counts redactions by kind in the app's metrics."""

    def __init__(self) -> None:
        self._counter = Counter(
            "anamnesis_redactions", "Secrets replaced at memory's door, by kind.", ("kind",), registry=None
        )

    def register(self, registry: CollectorRegistry) -> None:
        registry.register(self._counter)

    def __call__(self, counts: Mapping[str, int]) -> None:
        for kind, count in counts.items():
            self._counter.labels(kind).inc(count)


class _EmbeddingFigures(Collector):
    """The embedding workers' figures, read when somebody asks for the metrics."""

    def __init__(self, embedding: Embedding) -> None:
        self._embedding = embedding

    def collect(self) -> Iterator[Metric]:
        for name, value in self._embedding.figures().items():
            yield GaugeMetricFamily(f"anamnesis_embedding_{name}", "See EmbeddingPool.stats.", value=value)
