"""The order of candidates, and the relevance that the floor is compared with."""

import random
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.memory.search.ranking import DEFAULT, DEFAULT_FLOOR, Weights, rank, relevance, reranked
from services.memory.stores.base import Candidate

NOW = 1_800_000_000.0


def candidate(
    episode_id: str,
    dense: float | None = 0.5,
    lexical: float | None = 5.0,
    session: str | None = None,
    position: int | None = None,
    age: float = 0.0,
    trust: str = "user",
    superseded: bool = False,
    opening: float | None = None,
) -> Candidate:
    return Candidate(episode_id, dense, lexical, session, position, NOW - age, trust, superseded, opening)


def ids(candidates: Sequence[Candidate], weights: Weights = DEFAULT, **successors: str) -> list[str]:
    return [one.candidate.episode_id for one in rank(candidates, NOW, weights, successors or None)]


pools = st.lists(
    st.builds(
        candidate,
        st.text("abcdef", min_size=1, max_size=4),
        st.none() | st.floats(-1, 1),
        st.none() | st.floats(0, 60),
        st.none() | st.sampled_from(["s1", "s2"]),
        st.none() | st.integers(0, 9),
        st.floats(-1e6, 1e9),
        st.sampled_from(["user", "assistant", "tool", "web"]),
        st.booleans(),
        st.none() | st.floats(-1, 1),
    ),
    max_size=30,
    unique_by=lambda one: one.episode_id,
)


@given(pools, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(pool: list[Candidate], rng: random.Random) -> None:
    """A store may give candidates in any order; scores and order come out the same."""
    shuffled = list(pool)
    rng.shuffle(shuffled)
    assert rank(shuffled, NOW) == rank(pool, NOW)


@given(pools)
def test_contributions_add_up_to_the_score(pool: list[Candidate]) -> None:
    """Every candidate comes back once, best first, and its reasons are all that its score is made of."""
    ranked = rank(pool, NOW)
    assert sorted(one.candidate for one in ranked) == sorted(pool)
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
    for one in ranked:
        assert sum(reason.contribution for reason in one.reasons) == pytest.approx(one.score, abs=1e-9)
        assert all(reason.contribution == reason.value * reason.weight for reason in one.reasons)


@given(pools, st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.floats(0, 1), max_size=30))
def test_what_was_never_of_use_sinks_and_moves_nobody_else(pool: list[Candidate], unused: dict[str, float]) -> None:
    """Scores of episodes that nothing was reported of stay to the bit, and so does their order; others only fall, by
    at most the weight, and the term is visible.
    """
    current = [one._replace(superseded=False) for one in pool]
    before = rank(current, NOW)
    after = {one.candidate.episode_id: one for one in rank(current, NOW, unused=unused)}
    for one in before:
        name = one.candidate.episode_id
        sunk = one.score - after[name].score
        if unused.get(name):
            assert sunk == pytest.approx(unused[name] * DEFAULT.unused, abs=1e-9)
            assert after[name].terms == (*one.terms, ("unused", unused[name], -DEFAULT.unused))
        else:
            assert after[name] == one
    others = [one.candidate.episode_id for one in before if not unused.get(one.candidate.episode_id)]
    assert [name for name in after if name in others] == others


@given(pools)
def test_a_store_without_reports_ranks_as_if_there_were_none(pool: list[Candidate]) -> None:
    """No reports, reports of other episodes, and reports that weigh nothing: scores, terms and order are the same."""
    for unused in (None, {}, {"elsewhere": 1.0}, dict.fromkeys([one.episode_id for one in pool], 0.0)):
        assert rank(pool, NOW, unused=unused) == rank(pool, NOW)
    all_of_them = dict.fromkeys([one.episode_id for one in pool], 1.0)
    assert rank(pool, NOW, Weights(unused=0.0), unused=all_of_them) == rank(pool, NOW, Weights(unused=0.0))


def test_of_two_equals_the_one_that_was_of_use_comes_first() -> None:
    """Never being of use decides between near equals, and not against a plain better match."""
    near, far = candidate("a", 0.6, 6.0), candidate("b", 0.59, 6.0)
    assert [one.candidate.episode_id for one in rank([near, far], NOW, unused={"a": 0.9})] == ["b", "a"]
    worse = candidate("b", 0.4, 2.0)
    assert [one.candidate.episode_id for one in rank([near, worse], NOW, unused={"a": 1.0})] == ["a", "b"]


@given(pools, st.data())
def test_a_superseded_episode_ends_below_its_successor(pool: list[Candidate], data: st.DataObject) -> None:
    """However well it matches and however long the chain, an old statement stays below its successor."""
    names = [one.episode_id for one in pool] or ["none"]
    successors = {one.episode_id: data.draw(st.sampled_from(names)) for one in pool if one.superseded}
    unused = {name: data.draw(st.floats(0, 1)) for name in names}
    order = [one.candidate.episode_id for one in rank(pool, NOW, DEFAULT, successors, unused=unused)]
    for old, new in successors.items():
        if not _circular(old, successors):
            assert order.index(new) < order.index(old)


def _circular(start: str, successors: dict[str, str]) -> bool:
    seen, at = {start}, successors[start]
    while at in successors and at not in seen:
        seen.add(at)
        at = successors[at]
    return at in seen


def test_without_known_successors_superseded_episodes_end_last() -> None:
    """What replaced them may be any of the others, so they stand below all of those."""
    pool = [
        candidate("old", 0.9, 9.0, superseded=True),
        candidate("new", 0.1, 0.0, trust="web"),
        candidate("far", 0.0, 0.0),
    ]
    assert ids(pool)[-1] == "old"


def test_a_superseded_episode_keeps_its_place_where_its_successor_does_not_answer() -> None:
    """Whoever asks for superseded episodes finds them by how well they match."""
    pool = [candidate("old", 0.9, 9.0, superseded=True), candidate("other", 0.2, 1.0)]
    assert ids(pool, old="elsewhere") == ["old", "other"]
    assert ids([*pool, candidate("new", 0.1, 0.0)], old="new") == ["other", "new", "old"]


def test_meaning_and_words_both_count() -> None:
    """An episode that is best on both sides comes first, one that is best on neither last."""
    pool = [
        candidate("both", 0.8, 9.0),
        candidate("meaning", 0.8, 0.0),
        candidate("words", 0.1, 9.0),
        candidate("no", 0.1, 0.0),
    ]
    order = ids(pool)
    assert (order[0], order[-1]) == ("both", "no")


def test_what_an_episode_is_about_counts_more_than_a_passing_mention() -> None:
    """Of two episodes with equally good windows, the one whose summary answers comes first."""
    assert ids([candidate("a", 0.6, opening=0.2), candidate("b", 0.6, opening=0.6)]) == ["b", "a"]
    assert rank([candidate("a", 0.6)], NOW)[0].score == rank([candidate("a", 0.6, opening=0.6)], NOW)[0].score


def test_a_missing_side_gives_its_weight_to_the_other() -> None:
    """Without a lexical side, or before vectors exist, the order is that of the side that is there."""
    assert ids([candidate("a", 0.2, None), candidate("b", 0.9, None)]) == ["b", "a"]
    assert ids([candidate("a", None, 1.0), candidate("b", None, 4.0)]) == ["b", "a"]
    best = rank([candidate("a", None, 4.0)], NOW)[0].reasons
    assert {reason.term: reason.weight for reason in best}["lexical"] == pytest.approx(1.0)


@pytest.mark.parametrize("position", [6, 8])
def test_an_episode_is_lifted_by_the_neighbours_in_its_session(position: int) -> None:
    """Of two equal episodes, the one right before or after a hit comes first; other sessions lift nothing."""
    hit = candidate("hit", 0.9, 9.0, "s", 7)
    beside, apart = candidate("z-beside", 0.3, 0.0, "s", position), candidate("a-apart", 0.3, 0.0, "t", 8)
    weights = Weights(neighbours=0.2)
    assert ids([hit, beside, apart], weights) == ["hit", "z-beside", "a-apart"]
    assert ids([hit, beside, apart], Weights(neighbours=0.0)) == ["hit", "a-apart", "z-beside"]


def test_the_users_own_words_come_before_what_was_answered() -> None:
    """Of two equal episodes the user's comes first."""
    assert ids([candidate("a", trust="assistant"), candidate("b", trust="user")]) == ["b", "a"]


def test_recency_breaks_ties_and_no_more() -> None:
    """The newer of two equal episodes comes first, but a better match beats any age."""
    day = 86_400.0
    assert ids([candidate("a", age=100 * day), candidate("b", age=0)]) == ["b", "a"]
    assert ids([candidate("a", 0.55, age=3000 * day), candidate("b", 0.5, age=0)]) == ["a", "b"]


def test_relevance_is_of_one_candidate_on_fixed_scales() -> None:
    """It takes the best candidate's cosine and share of the reachable BM25, whatever else is in the pool."""
    strong = candidate("strong", 0.6, 10.0)
    assert relevance([strong], 20.0) == pytest.approx(0.6 * 0.65 + 0.5 * 0.35)
    assert relevance([strong, candidate("weak", 0.1, 0.0)], 20.0) == relevance([strong], 20.0)
    assert relevance([candidate("meaning", 0.6, 0.0), candidate("words", 0.0, 10.0)], 20.0) < relevance([strong], 20.0)


@given(pools, st.sampled_from([None, 0.0]) | st.floats(0.01, 100))
def test_relevance_lies_between_nothing_and_all(pool: list[Candidate], ceiling: float | None) -> None:
    """Whatever a store gives, the floor's scale holds."""
    assert 0.0 <= relevance(pool, ceiling) <= 1.0


def test_the_floor_parts_the_unrelated_from_the_answer() -> None:
    """What shares little lies below the shipped floor, a plain answer above it; with one side alone too."""
    assert relevance([], 20.0) < DEFAULT_FLOOR
    assert relevance([candidate("a", 0.2, 1.0)], 20.0) < DEFAULT_FLOOR < relevance([candidate("a", 0.6, 8.0)], 20.0)
    assert relevance([candidate("a", 0.2, None)]) < DEFAULT_FLOOR < relevance([candidate("a", 0.6, None)])
    assert relevance([candidate("a", None, 1.0)], 20.0) < DEFAULT_FLOOR < relevance([candidate("a", None, 8.0)], 20.0)


def test_ranking_costs_little() -> None:
    """Four hundred candidates are ranked and judged in less time than it takes to copy each of them twenty times."""
    rng = random.Random(1)
    pool = [
        candidate(f"e{at}", rng.random(), 9 * rng.random(), f"s{at % 20}", at, 1e6 * rng.random()) for at in range(400)
    ]

    def copy_all() -> None:
        for _ in range(20):
            [one._replace(superseded=True) for one in pool]

    def rank_all() -> None:
        rank(pool, NOW)
        relevance(pool, 20.0)

    costs: dict[Callable[[], None], list[float]] = {copy_all: [], rank_all: []}
    for _ in range(20):
        for work, taken in costs.items():
            began = time.process_time()
            work()
            taken.append(time.process_time() - began)
    assert min(costs[rank_all]) < min(costs[copy_all])


@given(pools, st.lists(st.floats(0, 1), max_size=10))
def test_a_second_judge_adds_a_visible_term(pool: list[Candidate], values: list[float]) -> None:
    """Its opinion moves the first ones, nobody is lost, contributions add up, and superseded episodes stay last."""
    ranked = rank(pool, NOW)
    again = reranked(ranked, values[: len(ranked)], 5.0)
    assert sorted(one.candidate for one in again) == sorted(pool)
    assert [one.score for one in again] == sorted((one.score for one in again), reverse=True)
    for one in again:
        assert sum(reason.contribution for reason in one.reasons) == pytest.approx(one.score, abs=1e-9)
    flags = [one.candidate.superseded for one in again]
    assert flags == sorted(flags)


def test_a_second_judge_decides_among_the_first() -> None:
    """With a weight above all other terms its order is the order."""
    ranked = rank([candidate("a", 0.9), candidate("b", 0.5), candidate("c", 0.1)], NOW)
    assert [one.candidate.episode_id for one in reranked(ranked, [0.1, 0.9], 5.0)] == ["b", "a", "c"]
