"""An embedding model at work: its workers, and the windows that its tokenizer makes of whole texts."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np

from anamnesis.contracts.embedding import CpuShare, EmbeddingModel
from anamnesis.kit.logs import logger
from services.memory.embedding.pool import EmbeddingPool, PoolOptions
from services.memory.search.text import Tokens, cut, tokens_of
from services.memory.stores.base import Vector, Vectors

_GROUP = 64
"""Windows handed to the pool at a time, so that one large batch cannot fill its queue."""
_PASSAGE_SECONDS = 600.0
"""For one group: a large model on a small processor embeds a window a second, behind other writers."""
_BACKGROUND_SECONDS = 3600.0
"""Re-embedding waits behind everyone else; a worker that hangs is noticed by the pool itself."""


class Encoder:
    """Embeds whole texts and questions with one model."""

    def __init__(self, pool: EmbeddingPool, tokens: Tokens, threads: Executor) -> None:
        """`threads` is where texts are cut."""
        self.pool = pool
        self._tokens = tokens
        self._threads = threads
        self.sampled = 0
        """Texts so long that only even samples of them were embedded; their words are indexed whole."""

    @classmethod
    async def open(
        cls, model: EmbeddingModel, directory: Path, share: CpuShare, options: PoolOptions, threads: Executor
    ) -> "Encoder":
        """Start the workers. Raises `Unavailable` when the model in `directory` cannot be loaded."""
        tokens = await asyncio.get_running_loop().run_in_executor(threads, tokens_of, directory)
        pool = EmbeddingPool(model, directory, share, options)
        await pool.start()
        return cls(pool, tokens, threads)

    @property
    def model(self) -> EmbeddingModel:
        return self.pool.model

    async def query(self, text: str) -> Vector:
        """(d): a question. One that is longer than the model takes is read in windows, and their mean counts."""
        model = self.model
        if len(text) <= model.max_tokens // 2:  # no token is shorter than a character
            return await self.pool.embed_query(text)
        windows = cut(text, model.max_tokens, self._tokens, model.query_prefix).windows
        if len(windows) < 2:
            return await self.pool.embed_query(text)
        total: Vector = np.sum(await asyncio.gather(*map(self.pool.embed_query, windows)), axis=0)
        vector: Vector = (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)
        return vector

    async def embed(self, texts: Sequence[str], *, background: bool = False) -> list[Vectors]:
        """Per text the (w d) unit vectors of its windows; raises what the pool raises."""
        windows = await asyncio.get_running_loop().run_in_executor(self._threads, self._cut, texts)
        flat = [window for own in windows for window in own]
        deadline = _BACKGROUND_SECONDS if background else _PASSAGE_SECONDS
        pieces = [
            await self.pool.embed_passages(flat[start : start + _GROUP], background=background, deadline=deadline)
            for start in range(0, len(flat), _GROUP)
        ]
        rows = np.concatenate(pieces) if pieces else np.empty((0, self.model.dimension), np.float32)
        return np.split(rows, np.cumsum([len(own) for own in windows])[:-1])

    def _cut(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        model = self.model
        cuts = [cut(text, model.max_tokens, self._tokens, model.passage_prefix) for text in texts]
        sampled = [one.covered for one in cuts if one.covered < 1]
        if sampled:
            self.sampled += len(sampled)
            logger().warning("long texts are embedded in part, by even samples", texts=len(sampled), least=min(sampled))
        return [one.windows for one in cuts]

    async def close(self, drain: float = 10.0) -> None:
        """Let what is under way end for up to `drain` seconds, then end the workers."""
        await self.pool.close(drain)
