"""Recall over a real store: other weights for one search, and searches that leave no trace."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamnesis.contracts.episodes import RankingWeights, SearchRequest
from services.memory.search.hits import Hits
from services.memory.search.ranking import DEFAULT, weights_of
from services.memory.search.recall import Recall
from services.memory.stores.base import Vector
from services.memory.stores.sqlite import SqliteStore
from tests.contract.records import DIMENSION, MODEL, make_record, make_vectors

WEIGHT = st.none() | st.floats(0, 10)


class Near:
    """Gives every question the vector of one episode."""

    def __init__(self, episode_id: str) -> None:
        self._vector: Vector = make_vectors(episode_id, 1, DIMENSION)[0]

    async def query(self, text: str) -> tuple[str, Vector]:
        return MODEL, self._vector


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """One episode is nearest in meaning, the other in words."""
    made = SqliteStore(tmp_path / "recall.db", linger=0.01)
    await made.open()
    await made.activate(MODEL)
    await made.insert(
        [make_record("ep_meaning", summary="quite other words"), make_record("ep_words", summary="copper kettle")]
    )
    yield made
    await made.close()


async def test_a_search_ranks_by_the_weights_it_is_given(store: SqliteStore) -> None:
    """The same question is answered by meaning or by words first, as its weights say, and says so in its reasons."""
    recall = Recall(store, Near("ep_meaning"), Hits(store))
    firsts = []
    for ranking in (RankingWeights(lexical=0.0), RankingWeights(dense=0.0, opening=0.0, lexical=2.5)):
        asked = SearchRequest(query_text="copper kettle", floor=0.0, explain=True, ranking=ranking)
        found = (await recall.search(asked)).results
        firsts.append(found[0].episode_id)
        reasons = {reason.term: reason.weight for reason in found[0].reasons or ()}
        assert reasons["lexical"] == ranking.lexical
    assert firsts == ["ep_meaning", "ep_words"]


async def test_other_weights_leave_relevance_as_it_was_calibrated(store: SqliteStore) -> None:
    """Whether there is silence does not depend on the weights of the order."""
    recall = Recall(store, Near("ep_meaning"), Hits(store))
    told = [
        (await recall.search(SearchRequest(query_text="copper kettle", explain=True, ranking=ranking))).explanation
        for ranking in (None, RankingWeights(dense=0.0, opening=0.0, lexical=9.0))
    ]
    assert told[0] is not None
    assert told[1] is not None
    assert told[0].relevance == told[1].relevance


@pytest.mark.parametrize("count", [True, False])
async def test_a_search_that_is_not_counted_leaves_no_trace(store: SqliteStore, count: bool) -> None:
    """With `count` false neither the number of retrievals nor the time of the last one changes."""
    hits = Hits(store)
    recall = Recall(store, Near("ep_meaning"), hits)
    answer = await recall.search(SearchRequest(query_text="copper kettle", floor=0.0, count=count))
    assert len(answer.results) == 2
    await hits.close()
    for episode in (await store.get(["ep_meaning", "ep_words"])).values():
        assert episode.retrieval_count == int(count)
        assert (episode.last_retrieved is not None) == count


def test_no_weights_are_the_shipped_ones() -> None:
    """A request that names no weight is ranked as shipped."""
    assert weights_of(None) == weights_of(RankingWeights()) == DEFAULT


@given(dense=WEIGHT, lexical=WEIGHT, trust=WEIGHT, unused=WEIGHT)
def test_weights_left_out_stay_as_shipped(
    dense: float | None, lexical: float | None, trust: float | None, unused: float | None
) -> None:
    """Each term has the weight that was given, or the shipped one; a term that is not ranked by is passed over."""
    weights = weights_of(RankingWeights(dense=dense, lexical=lexical, trust=trust, unused=unused))
    assert weights.dense == (DEFAULT.dense if dense is None else dense)
    assert weights.lexical == (DEFAULT.lexical if lexical is None else lexical)
    assert weights.trust == (DEFAULT.trust if trust is None else trust)
    assert (weights.opening, weights.half_life) == (DEFAULT.opening, DEFAULT.half_life)
