"""The embedding of a store: the active model with its workers, what is kept of it, and the move to another.

Owns the encoders and the state documents of kind `embedding` (the active model, the share of the
processor, a user's own models); `reembed` owns the document of a move.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import numpy as np
from pydantic import BaseModel

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.embedding import CpuShare, EmbeddingConfig, EmbeddingModel, ModelChoice, ReembedStatus
from anamnesis.kit.errors import AnamnesisError, BadRequest, Conflict, Unavailable
from anamnesis.kit.logs import logger, where
from services.memory.embedding import room
from services.memory.embedding.cpu import allot
from services.memory.embedding.encoder import Encoder
from services.memory.embedding.gate import Gate
from services.memory.embedding.pool import PoolOptions
from services.memory.embedding.reembed import ACTIVE, KIND, PLAN, Reembedder
from services.memory.embedding.registry import Registry
from services.memory.settings import MemorySettings
from services.memory.stores.base import Store, Vector, Vectors

SHARE = "cpu"
OWN = "models"
_BACKGROUND_NICE = 10
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 60.0
"""Seconds before the model is tried for again; they double."""
_SERVING, _MOVING = 2, 4
"""The part of the memory that the workers may take that serve, and those of a move; the rest is for all else."""


class Embedding:
    """Embeds for writers and searches by the active model, and moves the store to another on request."""

    def __init__(self, store: Store, settings: MemorySettings) -> None:
        self._store = store
        self._settings = settings
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="windows")
        self._memory = room.allowed()
        self._options = PoolOptions(
            precision=settings.embedding_dtype, queue_limit=settings.embed_queue, memory=self._part(_SERVING)
        )
        self._share = CpuShare(percent=settings.embedding_cpu_percent)
        self._gate = Gate()
        self._reembedder = Reembedder(store, self, self._gate)
        self._registry = self._registry_with(())
        self._encoder: Encoder | None = None
        self._borrowed: Encoder | None = None
        self._old: Encoder | None = None
        self._name = settings.embedding_model
        self._opening: asyncio.Task[None] | None = None
        self._phase = "embedding is starting"
        self._fetching = False
        self._fault: str | None = None
        """Why the last try to start failed."""

    async def open(self) -> None:
        """Begin to start the workers of the active model, and to go on with a re-embedding that was under way.

        A model that has to be fetched first takes minutes, and one that cannot be had may be put in its place:
        until `opened` what needs the model raises `Unavailable` with what is under way. Raises `NotFound` for an
        unknown model.
        """
        own = _Own.model_validate(await self._read(OWN) or {})
        self._registry = self._registry_with(own.own)
        share = await self._read(SHARE)
        if share is not None:
            self._share = _still_there(CpuShare.model_validate(share), self._share)
        chosen = await self._read(ACTIVE) or {}
        self._name = str(chosen.get("model") or self._settings.embedding_model)
        if self._name != self._settings.embedding_model:
            logger().info("the store keeps its embedding model; 'reembed' moves it", kept=self._name)
        self._registry.get(self._name)
        plan = await self._read(PLAN) or {}
        await asyncio.to_thread(self._registry.sweep, {self._name, str(plan.get("model"))})
        self._opening = asyncio.create_task(self._open_patiently(), name="embedding-open")

    async def opened(self) -> None:
        """Wait until the workers are ready, or for `close`."""
        if self._opening is not None:
            await asyncio.wait({self._opening})

    async def _open_patiently(self) -> None:
        pause = _FIRST_PAUSE
        while self._encoder is None:
            try:
                self._encoder = await self._open()
                self._fault = None
                return
            except AnamnesisError as error:
                self._fault = error.message
            except Exception as error:  # noqa: BLE001 - the edge of this task: an unforeseen error must be told
                self._fault = where(error)
            logger().warning("embedding does not start", model=self._name, reason=self._fault, again_in=pause)
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)

    async def _open(self) -> Encoder:
        """The active model's encoder, and a store that is ready for it."""
        if self._registry.locate(self._name) is None:
            self._registry.check(self._name)
            self._phase, self._fetching = f"the embedding model {self._name} is being fetched", True
            logger().info("fetching the embedding model", model=self._name)
            await self._registry.obtain(self._name)
            self._fault = None
        self._phase, self._fetching = "the embedding workers are starting", False
        encoder = await self._start(self._name, self._options)
        try:
            await self._store.prepare(encoder.model.name, encoder.model.dimension)
            await self._store.activate(encoder.model.name)
            # From now on the store says which model its vectors are from; the setting is for new stores.
            await self._store.write(KIND, ACTIVE, {"model": encoder.model.name})
            await self._reembedder.open()
        except BaseException:
            await encoder.close(0)
            raise
        return encoder  # nothing else runs before it serves: the re-embedder's task finds it there

    async def close(self) -> None:
        """Let the batch of a re-embedding save its checkpoint, then end all workers. Safe to call at any time."""
        self._phase, self._fetching, self._fault = "embedding is stopping", False, None
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        await self._reembedder.close()
        for encoder in (self._encoder, self._borrowed, self._old):
            if encoder is not None:
                await encoder.close(5.0)
        self._encoder = self._borrowed = self._old = None
        self._threads.shutdown(wait=False, cancel_futures=True)

    def ping(self) -> None:
        """Raise `Unavailable`, with what is under way, unless a worker of the active model is ready."""
        if not self._serving.pool.stats().ready:
            raise Unavailable("the embedding workers are starting")

    # Embedding --------------------------------------------------------------------------------

    @property
    def active(self) -> EmbeddingModel:
        """The model that is searched with, or will be once its workers are ready."""
        return self._registry.get(self._name) if self._encoder is None else self._encoder.model

    async def query(self, text: str) -> tuple[str, Vector]:
        """A question: the model's name and its (d) unit vector. Raises `Busy`, `DeadlineExceeded`, `Unavailable`."""
        encoder = self._serving
        return encoder.model.name, await encoder.query(text)

    async def passages(self, texts: Sequence[str]) -> tuple[str, list[Vectors]]:
        """The model's name, and per text the (w d) unit vectors of its windows."""
        encoder = self._serving
        return encoder.model.name, await encoder.embed(texts)

    async def queries(self, texts: Sequence[str]) -> tuple[str, Vectors]:
        """The model's name, and the (n d) unit vectors of several questions; they wait behind one another."""
        encoder = self._serving
        return encoder.model.name, np.stack([await encoder.query(text) for text in texts])

    async def whole(self, texts: Sequence[str]) -> tuple[str, Vectors]:
        """The model's name, and the (n d) unit vectors of whole texts: each the mean of its windows'."""
        model, windows = await self.passages(texts)
        means = np.stack([own.mean(axis=0) for own in windows])
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        return model, (means / np.maximum(lengths, 1e-12)).astype(np.float32)

    def writing(self) -> AbstractAsyncContextManager[None]:
        """Hold this from embedding a text until its episode is stored: the model stays the same meanwhile."""
        return self._gate.writing()

    # Settings ---------------------------------------------------------------------------------

    def config(self) -> EmbeddingConfig:
        pool = self._serving.pool
        stats = pool.stats()
        return EmbeddingConfig(
            active=self._registry.get(pool.model.name),
            known=self._registry.known(),
            cpu=self._share,
            workers=stats.workers,
            cores_in_use=pool.cores,
            queue_depth=stats.queue_depth,
            queue_limit=pool.options.queue_limit,
            checkpoint_every=self._settings.reembed_checkpoint,
        )

    def figures(self) -> dict[str, float]:
        """Figures of the workers that serve, for the metrics."""
        if self._encoder is None:
            return {}
        stats = self._encoder.pool.stats()
        return {
            "queue_depth": stats.queue_depth,
            "texts_per_second": stats.texts_per_second,
            "over_length": stats.over_length,
            "sampled": self._encoder.sampled,
            "restarts": stats.restarts,
            "failed": stats.failed,
        }

    async def set_cpu(self, share: CpuShare) -> EmbeddingConfig:
        """Move the workers to other cores at once, and for good. Raises `BadRequest` for a core that is not there."""
        self._require_open()
        allot(share)
        await self._store.write(KIND, SHARE, share.model_dump(mode="json", exclude_none=True))
        self._share = share
        for encoder in (self._encoder, self._borrowed):
            if encoder is not None:
                await encoder.pool.set_cpu(share)
        return self.config()

    async def register(self, model: EmbeddingModel) -> EmbeddingConfig:
        """Make a model of the user's known, for good. Raises `Conflict` or `BadRequest`."""
        self._require_open()
        self._registry.register(model)
        await self._store.write(KIND, OWN, _Own(own=self._registry.own).model_dump(mode="json"))
        return self.config()

    # Moving to another model ------------------------------------------------------------------

    async def switch(self, choice: ModelChoice | None = None) -> ReembedStatus:
        """Move to a model, or embed what lacks vectors of the active one.

        Raises `NotFound` for an unknown model, `Unavailable` for one that cannot be had, `Conflict` while a move to
        another one is running.
        """
        self._require_open()
        name = self.active.name if choice is None else choice.name
        self._registry.check(name)
        every = choice.checkpoint_every if choice is not None else None
        return await self._reembedder.start(name, every or self._settings.reembed_checkpoint)

    async def pause(self) -> ReembedStatus:
        self._require_open()
        return await self._reembedder.pause()

    async def resume(self) -> ReembedStatus:
        self._require_open()
        return await self._reembedder.resume()

    async def status(self) -> ReembedStatus:
        self._require_open()
        return await self._reembedder.status()

    async def borrow(self, name: str) -> Encoder:
        """For the re-embedder: the active encoder, or a new one whose workers stand back behind those that serve."""
        if name == self.active.name:
            return self._serving
        options = replace(self._options, nice=_BACKGROUND_NICE, memory=self._part(_MOVING))
        self._borrowed = await self._start(name, options)
        return self._borrowed

    def adopt(self) -> None:
        """For the re-embedder: search and write by the borrowed encoder from this moment on."""
        assert self._borrowed is not None
        self._old, self._encoder, self._borrowed = self._encoder, self._borrowed, None

    async def settle(self) -> None:
        """For the re-embedder: end the workers that no longer serve, and let the new ones stand back no longer."""
        if self._old is not None:
            await self._old.close()
            self._old = None
        await self._serving.pool.promote(self._options)

    # Trying another model ---------------------------------------------------------------------

    async def beside(self, name: str) -> Encoder:
        """One worker of another model, which stands back behind all others; whoever asks closes it.

        Raises `NotFound` for an unknown model, `Unavailable` for one that is not on this machine, `Conflict` while the
        store moves to another one: the memory of this machine is for the move then.
        """
        self._require_open()
        if self._registry.locate(name) is None:
            raise Unavailable(f"{name} is not on this machine: fetch it first, or choose one that is available")
        if self._borrowed is not None or self._old is not None:
            raise Conflict("the store is moving to another embedding model; compare models when that is done")
        return await self._start(name, replace(self._options, nice=_BACKGROUND_NICE, max_workers=1))

    # Small things -----------------------------------------------------------------------------

    @property
    def _serving(self) -> Encoder:
        if self._encoder is None:
            raise Unavailable(self._under_way())
        return self._encoder

    def _require_open(self) -> None:
        """Raise `Unavailable` before it is known what the store's move is at, and what workers there are."""
        _ = self._serving

    def _under_way(self) -> str:
        """What is done just now, for those who wait: with every look more of it, where it goes on."""
        told = self._phase
        if self._fetching and (size := self._registry.fetched(self._name)):
            told += f" ({size / 1e6:.0f} MB so far)"
        return told if self._fault is None else f"{told}; the last try failed: {self._fault}"

    async def _start(self, name: str, options: PoolOptions) -> Encoder:
        directory = await self._registry.obtain(name)
        return await Encoder.open(self._registry.get(name), directory, self._share, options, self._threads)

    def _part(self, of: int) -> int | None:
        return None if self._memory is None else self._memory // of

    def _registry_with(self, own: Sequence[EmbeddingModel]) -> Registry:
        settings = self._settings
        return Registry(settings.models_dir or settings.data / "models", own, settings.allow_downloads)

    async def _read(self, key: str) -> JsonObject | None:
        document = await self._store.read(KIND, key)
        return None if document is None else document.value


class _Own(BaseModel):
    """The state document of a user's own models."""

    own: tuple[EmbeddingModel, ...] = ()


def _still_there(share: CpuShare, otherwise: CpuShare) -> CpuShare:
    """The share that was kept, unless it names cores that this machine no longer has."""
    try:
        allot(share)
    except BadRequest as error:
        logger().warning("the cores kept for embedding are gone", reason=error.message)
        return otherwise
    return share
