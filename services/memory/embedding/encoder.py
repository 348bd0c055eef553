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
"""Windows handed to the pool at a time, at most, so that one large batch cannot fill its queue."""
_GROUP_SECONDS = 5.0
"""How long the workers may take for them: with a large model fewer go at a time, as a stop waits for these."""
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

    async def embed(
        self, texts: Sequence[str], *, background: bool = False, stop: asyncio.Event | None = None
    ) -> list[Vectors]:
        """Per text the (w d) unit vectors of its windows; raises what the pool raises.

        Once `stop` is set no more windows are begun, and texts that are not complete by then are left out: the
        vectors are those of the first texts.
        """
        windows = await asyncio.get_running_loop().run_in_executor(self._threads, self._cut, texts)
        flat = [window for own in windows for window in own]
        deadline = _BACKGROUND_SECONDS if background else _PASSAGE_SECONDS
        pieces = [np.empty((0, self.model.dimension), np.float32)]
        done = 0
        while done < len(flat) and not (stop is not None and stop.is_set()):
            group = _group(flat[done : done + _GROUP], self.pool.pace * _GROUP_SECONDS)
            pieces.append(await self.pool.embed_passages(group, background=background, deadline=deadline))
            done += len(group)
        ends = np.cumsum([len(own) for own in windows])
        ends = ends[ends <= done]
        return np.split(np.concatenate(pieces), ends)[: len(ends)]

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


def _group(windows: list[str], room: float) -> list[str]:
    """The first of the windows, at least one, that have no more characters than there is room for."""
    ends = np.cumsum([len(window) for window in windows])
    return windows[: max(1, int(np.searchsorted(ends, room, side="right")))]
