"""Trying an embedding model on a sample of episodes, beside the one in use, without touching the store.

A trial embeds its sample for some seconds with each request and answers once that is whole: whoever asks sees how
far it is, and whoever asks no more stops it. It is searched by the code that searches the store, so that a model is
all that differs. There is one trial at a time; its worker and its memory go back when nobody has asked for a while.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Protocol

from anamnesis.contracts.embedding import EmbeddingModel
from anamnesis.contracts.episodes import Episode, SearchRequest
from anamnesis.contracts.evaluate import Compared, CompareRequest, CompareResponse
from anamnesis.kit.errors import Busy, Conflict
from services.memory.search.hits import Hits
from services.memory.search.recall import QueryEmbedder, Recall
from services.memory.search.rerank import Reranker
from services.memory.search.text import passage, terms
from services.memory.stores import rows
from services.memory.stores.base import CandidateQuery, Candidates, Record, Store, Vector, Vectors
from services.memory.stores.index import MemoryIndex, Put

STEP = 5.0  # seconds of embedding in one request
IDLE = 60.0  # seconds without a request after which a trial ends
WAIT = 30.0  # seconds that a request waits for another one
CLOSE = 10.0  # seconds that the end of the service waits for one
BATCH = 8
"""Episodes that are embedded together: a large model takes seconds for so many."""


class Worker(Protocol):
    """One model at work (see `embedding.encoder.Encoder`)."""

    @property
    def model(self) -> EmbeddingModel: ...

    async def query(self, text: str) -> Vector: ...

    async def embed(self, texts: Sequence[str], *, background: bool = False) -> list[Vectors]: ...

    async def close(self) -> None: ...


class Models(QueryEmbedder, Protocol):
    """The model in use, and others (see `embedding.service.Embedding`)."""

    @property
    def active(self) -> EmbeddingModel: ...

    async def passages(self, texts: Sequence[str]) -> tuple[str, list[Vectors]]: ...

    async def beside(self, name: str) -> Worker: ...


class Trials:
    """Holds the trial that was asked for last. `close` ends it."""

    def __init__(
        self, store: Store, models: Models, reranker: Reranker | None, step: float = STEP, idle: float = IDLE
    ) -> None:
        self._store = store
        self._models = models
        self._reranker = reranker
        self._step = step
        self._idle = idle
        self._one = asyncio.Lock()
        self._trial: _Trial | None = None
        self._end: asyncio.Task[None] | None = None

    async def compare(self, request: CompareRequest) -> CompareResponse:
        """Embed for a while, or answer. Raises `Busy` while another one is at it, and what models raise."""
        try:
            await asyncio.wait_for(self._one.acquire(), WAIT)
        except TimeoutError:
            raise Busy("another comparison of models is under way; try again in a moment") from None
        try:
            if self._end is not None:
                self._end.cancel()
            return await self._answer(request)
        finally:
            self._one.release()
            self._end = asyncio.create_task(self._end_when_idle(), name="end-trial")

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._one.acquire(), CLOSE)  # what is under way would leave a worker behind
        if self._end is not None:
            self._end.cancel()
        await self._drop()

    async def _answer(self, request: CompareRequest) -> CompareResponse:
        name = request.model or self._models.active.name
        trial = self._trial
        if trial is None or (trial.name, trial.episode_ids) != (name, request.episode_ids):
            await self._drop()
            own = name == self._models.active.name
            worker = None if own else await self._models.beside(name)
            self._trial = trial = _Trial(self._store, self._models, worker, name, request.episode_ids)
        whole = await trial.advance(self._step)
        return CompareResponse(
            model=name,
            embedded=trial.embedded,
            total=len(request.episode_ids),
            results=tuple([await self._asked(trial, request, one) for one in request.questions]) if whole else None,
        )

    async def _asked(self, trial: "_Trial", request: CompareRequest, question: str) -> Compared:
        recall = Recall(trial, trial, Hits(self._store), self._reranker)
        begun = time.perf_counter()
        answer = await recall.search(
            SearchRequest(
                query_text=question, top_k=request.top_k, floor=request.floor, ranking=request.ranking, count=False
            )
        )
        found = tuple(hit.episode_id for hit in answer.results)
        return Compared(episode_ids=found, milliseconds=(time.perf_counter() - begun) * 1000)

    async def _end_when_idle(self) -> None:
        await asyncio.sleep(self._idle)
        async with self._one:  # so that nobody cancels this while the worker is being ended
            await self._drop()

    async def _drop(self) -> None:
        trial, self._trial = self._trial, None
        if trial is not None:
            await trial.close()


class _Trial:
    """A sample of episodes under one model, in memory alone; searched like the store."""

    def __init__(
        self, store: Store, models: Models, worker: Worker | None, name: str, episode_ids: tuple[str, ...]
    ) -> None:
        """`worker` none = the model in use, which has most vectors already."""
        self.name = name
        self.episode_ids = episode_ids
        self.embedded = 0
        self._store = store
        self._models = models
        self._worker = worker
        self._index = MemoryIndex()
        dimension = models.active.dimension if worker is None else worker.model.dimension
        self._index.begin(name, dimension, len(episode_ids))
        self._index.finish(name)

    async def advance(self, seconds: float) -> bool:
        """Embed for about so long, at least one batch; whether the sample is whole now."""
        until = time.monotonic() + seconds
        while self.embedded < len(self.episode_ids):
            ids = self.episode_ids[self.embedded : self.embedded + BATCH]
            found = await self._store.get(ids)
            current = [one for one in found.values() if one.superseded_by is None]
            vectors = await self._vectors(current)
            await asyncio.to_thread(self._put, current, vectors, self.embedded)
            self.embedded += len(ids)
            if time.monotonic() >= until:
                break
        return self.embedded == len(self.episode_ids)

    async def _vectors(self, episodes: Sequence[Episode]) -> dict[str, Vectors]:
        known: dict[str, Vectors] = {}
        if self._worker is None:
            known = dict(await self._store.vectors(self.name, [one.episode_id for one in episodes]))
        lacking = [one for one in episodes if one.episode_id not in known]
        if lacking:
            texts = [passage(one.summary, one.raw_exchange) for one in lacking]
            if self._worker is None:
                name, made = await self._models.passages(texts)
                self._require(name)
            else:
                made = await self._worker.embed(texts, background=True)
            known |= {one.episode_id: vectors for one, vectors in zip(lacking, made, strict=True)}
        return known

    def _put(self, episodes: Sequence[Episode], vectors: dict[str, Vectors], first: int) -> None:
        """Runs in a thread: terms take their time."""
        changes = []
        for number, one in enumerate(episodes, start=first):
            own = vectors[one.episode_id]
            named = one.model_copy(update={"embedding_model": self.name})
            prepared = rows.prepared(Record(named, own, terms(passage(one.summary, one.raw_exchange))))
            changes.append(Put(rows.index_row(number, prepared, superseded=False), {self.name: own}))
        self._index.apply(changes)

    async def query(self, text: str) -> tuple[str, Vector]:
        if self._worker is not None:
            return self.name, await self._worker.query(text)
        name, vector = await self._models.query(text)
        self._require(name)
        return name, vector

    def _require(self, name: str) -> None:
        if name != self.name:
            raise Conflict("the store has moved to another embedding model meanwhile; begin the comparison anew")

    async def candidates(self, query: CandidateQuery) -> Candidates:
        [found] = await asyncio.to_thread(self._index.search, [query])
        return found

    async def get(self, episode_ids: Sequence[str]) -> dict[str, Episode]:
        return await self._store.get(episode_ids)

    async def close(self) -> None:
        if self._worker is not None:
            await self._worker.close()
