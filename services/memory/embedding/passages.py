"""The texts of episodes as vectors: cut into windows that the model reads whole, embedded, put back together."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np

from services.memory.embedding.pool import EmbeddingPool
from services.memory.search.text import cut, tokens_of
from services.memory.stores.base import Vectors

GROUP = 256  # windows handed to the pool at a time, so that one large batch cannot fill its queue


class Passages:
    """Embeds whole texts with one pool's model."""

    def __init__(self, pool: EmbeddingPool, directory: Path, workers: Executor) -> None:
        """`directory` holds the model (for its tokenizer); `workers` is where texts are cut."""
        self._pool = pool
        self._tokens = tokens_of(directory)
        self._workers = workers

    async def embed(self, texts: Sequence[str], *, background: bool = False) -> list[Vectors]:
        """Per text the (w d) unit vectors of its windows; raises what the pool raises."""
        windows = await asyncio.get_running_loop().run_in_executor(self._workers, self._cut, texts)
        flat = [window for own in windows for window in own]
        pieces = [
            await self._pool.embed_passages(flat[start : start + GROUP], background=background)
            for start in range(0, len(flat), GROUP)
        ]
        rows = np.concatenate(pieces) if pieces else np.empty((0, self._pool.model.dimension), np.float32)
        return np.split(rows, np.cumsum([len(own) for own in windows])[:-1])

    def _cut(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        model = self._pool.model
        return [cut(text, model.max_tokens, self._tokens, model.passage_prefix).windows for text in texts]
