import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from anamnesis.contracts.embedding import CpuShare, EmbeddingModel
from services.memory.embedding.encoder import Encoder
from services.memory.embedding.pool import EmbeddingPool, PoolOptions
from services.memory.search.text import tokens_of

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
TEXTS = [" ".join(f"{name} step {number}" for number in range(2500)) for name in ("one", "two", "three")]


class Watched(EmbeddingPool):
    """A pool that keeps how many windows came at a time, and tells a stop with the first of them."""

    def __init__(self, model: EmbeddingModel) -> None:
        assert model.path is not None
        super().__init__(model, Path(model.path), CpuShare(percent=50), PoolOptions(precision="fp32"))
        self.groups: list[int] = []
        self.stop = asyncio.Event()

    async def embed_passages(
        self, texts: Sequence[str], *, background: bool = False, deadline: float | None = None
    ) -> NDArray[np.float32]:
        self.groups.append(len(texts))
        self.stop.set()
        return await super().embed_passages(texts, background=background, deadline=deadline)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tiny: EmbeddingModel) -> AsyncIterator[Watched]:
    opened = Watched(tiny)
    await opened.start()
    yield opened
    await opened.close(drain=0)


async def test_a_stop_leaves_out_what_is_not_complete(pool: Watched) -> None:
    """Told to stop, only the windows in work are embedded; a text that is complete by then is given whole."""
    assert pool.model.path is not None
    with ThreadPoolExecutor(1) as threads:
        encoder = Encoder(pool, tokens_of(Path(pool.model.path)), threads)
        whole = await encoder.embed(TEXTS)
        assert [len(own) > 32 for own in whole] == [True] * 3  # so that a group ends within the second text
        first = len(pool.groups)
        pool.stop.clear()
        part = await encoder.embed(TEXTS, stop=pool.stop)
        assert len(pool.groups) == first + 1
        assert len(part) == 1
        np.testing.assert_allclose(part[0], whole[0], atol=1e-5)
        assert await encoder.embed(TEXTS, stop=pool.stop) == []
        assert await encoder.embed([]) == []


async def test_a_slow_model_gets_less_at_a_time(pool: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stop has to wait for is bounded by time: the slower the workers, the fewer windows go together."""
    assert pool.model.path is not None
    monkeypatch.setattr(Watched, "pace", 1000.0)  # 5 s: 5,000 characters
    with ThreadPoolExecutor(1) as threads:
        encoder = Encoder(pool, tokens_of(Path(pool.model.path)), threads)
        pool.groups.clear()
        (vectors,) = await encoder.embed(TEXTS[:1])
    assert sum(pool.groups) == len(vectors)
    assert 1 <= max(pool.groups) <= 10
