"""Trying another embedding model on a sample, beside the one in use."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

from anamnesis.contracts.embedding import EmbeddingModel
from anamnesis.contracts.episodes import RankingWeights
from anamnesis.contracts.evaluate import CompareRequest, CompareResponse
from anamnesis.kit.errors import Conflict, NotFound, Unavailable
from services.memory.embedding.service import Embedding
from services.memory.search.text import passage, terms
from services.memory.settings import MemorySettings
from services.memory.stores.base import Record, Vector, Vectors
from services.memory.stores.sqlite import SqliteStore
from services.memory.trials import BATCH, Trials
from tests.services.memory.embedding.conftest import shipped, tiny
from tests.services.memory.embedding.store_kit import NEW, OLD, episode, hashed

__all__ = ["shipped", "tiny"]  # fixtures


class Maker:
    """A model whose questions are the texts that they quote: what is asked word by word lies nearest."""

    def __init__(self, model: EmbeddingModel) -> None:
        self.model = model
        self.embedded: list[str] = []
        self.closed = False

    async def query(self, text: str) -> Vector:
        vector: Vector = hashed(self.model, text)[0]
        return vector

    async def embed(self, texts: Sequence[str], *, background: bool = False) -> list[Vectors]:
        await asyncio.sleep(0)
        self.embedded += texts
        return [hashed(self.model, text) for text in texts]

    async def close(self) -> None:
        self.closed = True


class Two:
    """The model in use, and another one."""

    def __init__(self) -> None:
        self.active = OLD
        self.old = Maker(OLD)
        self.opened: list[Maker] = []

    async def query(self, text: str) -> tuple[str, Vector]:
        return self.active.name, await self.old.query(text)

    async def passages(self, texts: Sequence[str]) -> tuple[str, list[Vectors]]:
        return self.active.name, await self.old.embed(texts)

    async def beside(self, name: str) -> Maker:
        if name != NEW.name:
            raise NotFound("no such model")
        self.opened.append(Maker(NEW))
        return self.opened[-1]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """Thirty episodes; the vectors of the model in use are there for all but the last."""
    opened = SqliteStore(tmp_path / "trial.db", linger=0.01)
    await opened.open()
    episodes = [episode(number) for number in range(30)]
    texts = [passage(one.summary, None) for one in episodes]
    await opened.insert(
        [
            Record(one.model_copy(update={"embedding_model": OLD.name}), hashed(OLD, text), terms(text))
            for one, text in zip(episodes[:29], texts[:29], strict=True)
        ]
    )
    await opened.insert([Record(episodes[29], None, terms(texts[29]))])
    yield opened
    await opened.close()


def asking(model: str | None, *questions: str, ids: Sequence[int] = range(30), **more: object) -> CompareRequest:
    names = tuple(f"ep-{number:05}" for number in ids)
    return CompareRequest.model_validate(
        {"model": model, "episode_ids": names, "questions": questions, "floor": 0.0, "top_k": 3, **more}
    )


async def until_whole(trials: Trials, request: CompareRequest) -> CompareResponse:
    async with asyncio.timeout(60):
        while (answer := await trials.compare(request)).results is None:
            pass
    return answer


@pytest.mark.parametrize("model", [None, "old", "new"])
async def test_a_sample_is_searched_by_either_model(store: SqliteStore, model: str | None) -> None:
    """An episode is found by its own words under the model in use and under the other, and none outside the sample."""
    models = Two()
    trials = Trials(store, models, None)
    request = asking(model, episode(7).summary, episode(20).summary, ids=range(10))
    answer = await until_whole(trials, request)
    assert (answer.model, answer.embedded, answer.total) == (model or "old", 10, 10)
    assert answer.results is not None
    assert answer.results[0].episode_ids[0] == "ep-00007"
    sample = {f"ep-{number:05}" for number in range(10)}
    assert all(set(one.episode_ids) <= sample for one in answer.results)
    await trials.close()


async def test_the_model_in_use_embeds_only_what_lacks_vectors(store: SqliteStore) -> None:
    """Vectors that the store has are taken from it; the other model embeds all."""
    models = Two()
    trials = Trials(store, models, None)
    await until_whole(trials, asking(None))
    assert models.old.embedded == [passage(episode(29).summary, None)]
    await until_whole(trials, asking("new"))
    assert len(models.opened[0].embedded) == 30
    await trials.close()


async def test_a_request_embeds_for_a_while_and_says_how_far_it_is(store: SqliteStore) -> None:
    """Step by step, nothing embedded twice; results come once the sample is whole, and at once from then on."""
    models = Two()
    trials = Trials(store, models, None, step=1e-9)
    seen = [await trials.compare(asking("new", "any")) for _ in range(5)]
    assert [one.embedded for one in seen] == [min(30, BATCH * step) for step in (1, 2, 3, 4, 4)]
    assert [one.results is None for one in seen] == [True, True, True, False, False]
    assert len(models.opened) == 1
    assert len(models.opened[0].embedded) == 30
    await trials.close()


async def test_weights_and_floor_count_in_a_sample(store: SqliteStore) -> None:
    """The same code ranks: by words alone the words decide, and below the floor there is silence."""
    trials = Trials(store, Two(), None)
    words = RankingWeights(dense=0.0, opening=0.0, trust=0.0, recency=0.0, lexical=1.0)
    found = await until_whole(trials, asking("new", "matter 12", ranking=words))
    assert found.results is not None
    assert found.results[0].episode_ids[0] == "ep-00012"
    silent = await until_whole(trials, asking("new", "capital of Peru", floor=1.0))
    assert silent.results is not None
    assert silent.results[0].episode_ids == ()
    await trials.close()


async def test_what_is_gone_or_superseded_is_left_out(store: SqliteStore) -> None:
    """Only current episodes are searched, and the sample is whole without the others."""
    await store.supersede(["ep-00003"], "ep-00004")
    trials = Trials(store, Two(), None)
    answer = await until_whole(trials, asking("new", episode(3).summary, ids=[3, 4, 777]))
    assert (answer.embedded, answer.total) == (3, 3)
    assert answer.results is not None
    assert answer.results[0].episode_ids == ("ep-00004",)
    await trials.close()


async def test_nothing_is_counted_and_nothing_is_stored(store: SqliteStore) -> None:
    """A comparison leaves the store as it was: no hits, no vectors of the other model."""
    trials = Trials(store, Two(), None)
    await until_whole(trials, asking("new", episode(7).summary))
    await trials.close()
    assert await store.vectors("new", ["ep-00007"]) == {}
    assert (await store.get(["ep-00007"]))["ep-00007"].retrieval_count == 0


async def test_one_trial_at_a_time(store: SqliteStore) -> None:
    """Another sample or model takes the place of the former, whose worker is ended."""
    models = Two()
    trials = Trials(store, models, None)
    await until_whole(trials, asking("new"))
    await until_whole(trials, asking("new", ids=range(5)))
    assert [one.closed for one in models.opened] == [True, False]
    await trials.close()
    assert all(one.closed for one in models.opened)


async def test_a_trial_that_nobody_asks_for_ends(store: SqliteStore) -> None:
    """Its worker is ended after a while, and the next request begins anew."""
    models = Two()
    trials = Trials(store, models, None, idle=0.05)
    await until_whole(trials, asking("new"))
    async with asyncio.timeout(20):
        while not models.opened[0].closed:  # noqa: ASYNC110 -- seen from outside
            await asyncio.sleep(0.01)
    await until_whole(trials, asking("new"))
    assert len(models.opened) == 2
    await trials.close()


async def test_a_switch_in_between_is_an_error(store: SqliteStore) -> None:
    """The vectors of two models never meet: a comparison that a switch has overtaken begins anew."""
    models = Two()
    trials = Trials(store, models, None)
    request = asking("old", "any")
    await until_whole(trials, request)

    async def moved(text: str) -> tuple[str, Vector]:
        return NEW.name, np.zeros(NEW.dimension, np.float32)

    models.query = moved  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="anew"):
        await trials.compare(request)
    await trials.close()


async def test_an_unknown_model_is_an_error(store: SqliteStore) -> None:
    """It says so, and the next request is served."""
    trials = Trials(store, Two(), None)
    with pytest.raises(NotFound):
        await trials.compare(asking("nonsense"))
    await until_whole(trials, asking(None))
    await trials.close()


@pytest.mark.slow
async def test_real_models_are_compared_and_leave_no_process(tmp_path: Path, tiny: EmbeddingModel) -> None:
    """The shipped model finds what is meant; a tiny random one is tried beside it, and its worker is gone then."""
    store = SqliteStore(tmp_path / "store.db")
    await store.open()
    embedding = Embedding(store, MemorySettings(data_dir=tmp_path, embedding_dtype="fp32", allow_downloads=False))
    trials = Trials(store, embedding, None)
    try:
        await embedding.open()
        await embedding.opened()
        await embedding.register(tiny)
        texts = ["The upload test was flaky.", "We chose blue for the kitchen.", "The invoice of May was paid twice."]
        model, vectors = await embedding.passages(texts)
        await store.insert(
            [
                Record(episode(n, text).model_copy(update={"embedding_model": model}), own, terms(text))
                for n, (text, own) in enumerate(zip(texts, vectors, strict=True))
            ]
        )
        before = {one.pid for one in psutil.Process().children()}
        answer = await until_whole(trials, asking(None, "Which colour has the room where we cook?", ids=range(3)))
        assert answer.results is not None
        assert answer.results[0].episode_ids[0] == "ep-00001"
        other = await until_whole(trials, asking("tiny", "invoice", ids=range(3)))
        assert other.results is not None
        assert len(other.results[0].episode_ids) == 3
        with pytest.raises(Unavailable, match="not on this machine"):
            await trials.compare(asking("BAAI/bge-large-en-v1.5", "any", ids=range(3)))
        await trials.close()
        assert {one.pid for one in psutil.Process().children()} <= before
    finally:
        await trials.close()
        await embedding.close()
        await store.close()
