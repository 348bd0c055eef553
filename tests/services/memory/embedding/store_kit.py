"""A store with episodes, and encoders that need no model: vectors made from a text's hash."""

import asyncio
import hashlib
from collections.abc import Sequence

import numpy as np

from anamnesis.contracts.base import now
from anamnesis.contracts.embedding import EmbeddingModel
from anamnesis.contracts.episodes import Episode, EpisodeSource
from services.memory.embedding.gate import Gate
from services.memory.embedding.reembed import ACTIVE, KIND, Reembedder
from services.memory.search.text import passage, terms
from services.memory.stores.base import Record, Store, Vectors

OLD = EmbeddingModel(name="old", dimension=8, max_tokens=64, licence="none")
NEW = EmbeddingModel(name="new", dimension=12, max_tokens=64, licence="none")
OTHER = EmbeddingModel(name="other", dimension=12, max_tokens=64, licence="none")
MODELS = {model.name: model for model in (OLD, NEW, OTHER)}


def episode(number: int, text: str | None = None) -> Episode:
    summary = text or f"Episode {number}: what was done about matter {number}."
    return Episode(
        episode_id=f"ep-{number:05}",
        timestamp=now(),
        ingested_at=now(),
        instance="here",
        project="p",
        summary=summary,
        source=EpisodeSource(kind="api"),
        content_hash=hashlib.sha256(summary.encode()).hexdigest(),
    )


def hashed(model: EmbeddingModel, text: str) -> Vectors:
    """(1 d): a unit vector that is the model's alone and the text's alone."""
    seed = int.from_bytes(hashlib.sha256(f"{model.name}\n{text}".encode()).digest()[:8])
    vector = np.random.default_rng(seed).normal(size=(1, model.dimension)).astype(np.float32)
    unit: Vectors = vector / np.linalg.norm(vector)
    return unit


class Hashed:
    """An encoder that works when it is let: `permits` batches, or without end."""

    def __init__(self, model: EmbeddingModel, permits: int | None = None, pause: float = 0.0) -> None:
        self.model = model
        self.batches: list[int] = []
        self.begun = asyncio.Event()
        """Something has come to be embedded."""
        self.closed = False
        self.faults: list[Exception] = []
        self._permits = None if permits is None else asyncio.Semaphore(permits)
        self._pause = pause

    def permit(self, batches: int) -> None:
        assert self._permits is not None
        for _ in range(batches):
            self._permits.release()

    async def embed(
        self, texts: Sequence[str], *, background: bool = False, stop: asyncio.Event | None = None
    ) -> list[Vectors]:
        self.begun.set()
        if self._permits is not None:
            await self._permits.acquire()
        await asyncio.sleep(self._pause)
        if self.faults:
            raise self.faults.pop(0)
        self.batches.append(len(texts))
        return [hashed(self.model, text) for text in texts]

    async def close(self) -> None:
        self.closed = True


class Slow(Hashed):
    """An encoder that takes one batch after the other, as one worker does."""

    def __init__(self, model: EmbeddingModel, seconds: float) -> None:
        super().__init__(model, pause=seconds)
        self._alone = asyncio.Lock()

    async def embed(
        self, texts: Sequence[str], *, background: bool = False, stop: asyncio.Event | None = None
    ) -> list[Vectors]:
        async with self._alone:
            return await super().embed(texts, background=background, stop=stop)


class Desk:
    """A service as the re-embedder sees it, with its gate and a writer's way in."""

    def __init__(self, store: Store, *encoders: Hashed, gate: Gate | None = None) -> None:
        self.store = store
        self.gate = gate or Gate()
        self.encoders = {encoder.model.name: encoder for encoder in (Hashed(OLD), *encoders)}
        self.encoder = self.encoders["old"]
        self.borrowed: Hashed | None = None
        self.reembedder = Reembedder(store, self, self.gate, grace=0.0, write_seconds=0.1)

    @property
    def active(self) -> EmbeddingModel:
        return self.encoder.model

    async def open(self) -> None:
        document = await self.store.read(KIND, ACTIVE)
        if document is not None:
            self.encoder = self.encoders[str(document.value["model"])]
        await self.store.prepare(self.active.name, self.active.dimension)
        await self.store.activate(self.active.name)
        await self.reembedder.open()

    async def borrow(self, name: str) -> Hashed:
        self.borrowed = self.encoders.setdefault(name, Hashed(MODELS[name]))
        return self.borrowed

    def adopt(self) -> None:
        assert self.borrowed is not None
        self.encoder = self.borrowed

    async def settle(self) -> None:
        return

    async def write(self, episodes: Sequence[Episode], *, replace: bool = False) -> None:
        """As the door does it: embedded by the active model and stored while the gate is held."""
        async with self.gate.writing():
            texts = [passage(one.summary, one.raw_exchange) for one in episodes]
            model, vectors = self.active.name, await self.encoder.embed(texts)
            records = [
                Record(one.model_copy(update={"embedding_model": model}), own, terms(text))
                for one, own, text in zip(episodes, vectors, texts, strict=True)
            ]
            await (self.store.replace(records) if replace else self.store.insert(records))


async def until_idle(desk: Desk) -> None:
    """Wait until the re-embedder has nothing more to do."""
    async with asyncio.timeout(60):
        while desk.reembedder.busy:  # noqa: ASYNC110 - asked as a client does
            await asyncio.sleep(0.005)
