import asyncio
import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from anamnesis.contracts.embedding import CpuShare, EmbeddingModel, ModelChoice, ReembedState
from anamnesis.kit.errors import BadRequest, Conflict, NotFound, Unavailable
from services.memory.embedding import cpu
from services.memory.embedding.service import Embedding
from services.memory.search.text import cut, passage, terms, tokens_of
from services.memory.settings import MemorySettings
from services.memory.stores.base import CandidateQuery, Filter, Record
from services.memory.stores.sqlite import SqliteStore
from tests.services.memory.embedding.store_kit import episode

LONG = "The upload test was flaky because two workers shared one directory. " * 60


def _settings(data: Path) -> MemorySettings:
    return MemorySettings(data_dir=data, embedding_dtype="fp32", allow_downloads=False, reembed_checkpoint=5)


async def _write(store: SqliteStore, embedding: Embedding, numbers: range) -> None:
    episodes = [episode(number) for number in numbers]
    texts = [passage(one.summary, one.raw_exchange) for one in episodes]
    async with embedding.writing():
        model, vectors = await embedding.passages(texts)
        await store.insert(
            [
                Record(one.model_copy(update={"embedding_model": model}), own, terms(text))
                for one, own, text in zip(episodes, vectors, texts, strict=True)
            ]
        )


async def _best(store: SqliteStore, embedding: Embedding, text: str) -> str:
    model, vector = await embedding.query(text)
    found = await store.candidates(CandidateQuery(model, vector, (), Filter(), 5))
    return max(found.found, key=lambda one: one.dense or 0).episode_id


def _workers(before: set[int]) -> list[psutil.Process]:
    """Processes that this test has started; servers of other tests may run beside them."""
    return [one for one in psutil.Process().children() if one.pid not in before]


@pytest.mark.slow
async def test_the_service_moves_between_real_models(tmp_path: Path, tiny: EmbeddingModel) -> None:
    """From the shipped model to a user's own while it is searched and written: never mixed, kept over a restart."""
    before = {one.pid for one in psutil.Process().children()}
    store = SqliteStore(tmp_path / "store.db")
    await store.open()
    embedding = Embedding(store, _settings(tmp_path))
    try:
        await embedding.open()
        await embedding.opened()
        embedding.ping()
        await _write(store, embedding, range(40))
        first = embedding.active
        assert (first.name, first.dimension) == ("all-MiniLM-L6-v2", 384)
        assert await _best(store, embedding, episode(7).summary) == "ep-00007"

        await embedding.register(tiny)
        with pytest.raises(Conflict):
            await embedding.register(tiny.model_copy(update={"name": first.name}))
        with pytest.raises(NotFound):
            await embedding.switch(ModelChoice(name="nonsense"))
        with pytest.raises(Unavailable, match="downloads are switched off"):
            await embedding.switch(ModelChoice(name="BAAI/bge-large-en-v1.5"))

        status = await embedding.switch(ModelChoice(name="tiny"))
        assert (status.state, status.total) == (ReembedState.RUNNING, 40)
        await _write(store, embedding, range(40, 45))
        while embedding.active == first:
            model, vector = await embedding.query(f"which matter? {os.urandom(4).hex()}")
            assert vector.shape == ({"all-MiniLM-L6-v2": 384, "tiny": 32}[model],)
            assert await _best(store, embedding, episode(7).summary) == "ep-00007"
            await asyncio.sleep(0.05)
        assert await store.count_missing("tiny") == 0
        assert await _best(store, embedding, episode(42).summary) == "ep-00042"
        async with asyncio.timeout(60):  # the old workers go, and those of the new model are no longer nice
            while [one.nice() for one in _workers(before)] != [0]:  # noqa: ASYNC110 - processes tell nobody
                await asyncio.sleep(0.05)
        config = embedding.config()
        assert (config.active.name, config.checkpoint_every) == ("tiny", 5)
        assert {"tiny", "all-MiniLM-L6-v2"} < {model.name for model in config.known}
    finally:
        await embedding.close()
    assert _workers(before) == []

    again = Embedding(store, _settings(tmp_path))
    try:
        await again.open()
        await again.opened()
        assert again.active.name == "tiny"
        assert await _best(store, again, episode(7).summary) == "ep-00007"
    finally:
        await again.close()
        await store.close()


@pytest.mark.slow
async def test_settings_last_and_long_questions_are_read_whole(tmp_path: Path, shipped: EmbeddingModel) -> None:
    """Cores are kept over a restart; a question beyond the model's length counts to its end, and none is cut off."""
    store = SqliteStore(tmp_path / "store.db")
    await store.open()
    core = cpu.usable()[-1]
    embedding = Embedding(store, _settings(tmp_path))
    try:
        await embedding.open()
        await embedding.opened()
        with pytest.raises(BadRequest):
            await embedding.set_cpu(CpuShare(cores=(4095,)))
        assert (await embedding.set_cpu(CpuShare(cores=(core,)))).cores_in_use == (core,)
        _, plain = await embedding.query(LONG)
        _, other = await embedding.query(LONG + "The rest is about baking bread with rye flour and sourdough. " * 12)
        assert np.linalg.norm(other) == pytest.approx(1, abs=1e-5)
        assert float(plain @ other) < 0.999
        _, vectors = await embedding.passages([LONG, "short"])
        windows = cut(LONG, shipped.max_tokens, tokens_of(Path(str(shipped.path)))).windows
        assert [len(own) for own in vectors] == [len(windows), 1]
        assert len(windows) > 1
        assert embedding.figures()["over_length"] == 0
    finally:
        await embedding.close()

    again = Embedding(store, _settings(tmp_path))
    try:
        await again.open()
        await again.opened()
        assert again.config().cpu == CpuShare(cores=(core,))
    finally:
        await again.close()
        await store.close()
