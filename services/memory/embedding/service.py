"""The embedding of this store: the active model with its workers, and the move to another model."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.embedding import CpuShare, EmbeddingConfig, EmbeddingModel
from anamnesis.kit.errors import Unavailable
from services.memory.embedding.passages import Passages
from services.memory.embedding.pool import EmbeddingPool, PoolOptions
from services.memory.embedding.registry import Registry
from services.memory.settings import MemorySettings
from services.memory.stores.base import Store, Vector, Vectors

KIND = "embedding"  # state documents: `active`, `cpu`, `models`


class Embedding:
    def __init__(self, store: Store, settings: MemorySettings) -> None:
        self._store = store
        self._settings = settings
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="windows")
        self._pool: EmbeddingPool | None = None
        self._passages: Passages | None = None

    async def open(self) -> None:
        own = await self._read("models")
        self._registry = Registry(
            self._settings.models_dir or self._settings.data / "models",
            [EmbeddingModel.model_validate(model) for model in own.get("own", [])],
            self._settings.allow_downloads,
        )
        active = (await self._read("active")).get("model", self._settings.embedding_model)
        model = self._registry.get(active)
        directory = await self._registry.obtain(model.name)
        self._pool = EmbeddingPool(model, directory, CpuShare(percent=50), PoolOptions())
        await self._store.prepare(model.name, model.dimension)
        await asyncio.gather(self._pool.start(), self._store.activate(model.name))
        self._passages = Passages(self._pool, directory, self._workers)
    @property
    def active(self):
        return self._pool.model
    def ping(self):
        pass
    async def close(self):
        await self._pool.close()
    async def _read(self, key):
        d = await self._store.read(KIND, key)
        return d.value if d else {}
    async def query(self, text):
        return self._pool.model.name, await self._pool.embed_query(text)
    async def passages(self, texts):
        return self._pool.model.name, await self._passages.embed(texts)
