"""Near-duplicates by their vectors, against plain loops."""

import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.memory.consolidation import similar
from services.memory.consolidation.similar import MOST_NEAR, SLACK
from services.memory.stores.base import Vectors
from tests.contract.records import make_vectors

seeds = st.integers(0, 2**32 - 1)


def _going() -> bool:
    return False


def _crowd(seed: int, n: int, width: int = 4) -> Vectors:
    """(n width) unit vectors, some of them close to each other."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((max(1, n // 4), width))
    vectors = centres[generator.integers(0, len(centres), n)] + 0.2 * generator.standard_normal((n, width))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@given(seed=seeds, n=st.integers(0, 40), least=st.floats(0.5, 1.0), some=st.none() | seeds)
@settings(deadline=None)
def test_pairs_are_those_of_two_loops(seed: int, n: int, least: float, some: int | None) -> None:
    """Every pair of at least the cosine comes once; with fresh ones, those that have one of them."""
    vectors = _crowd(seed, n)
    fresh = None if some is None else np.random.default_rng(some).random(n) < 0.3
    found = similar.pairs(vectors, least, fresh, _going)
    cosines = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    given_pairs = [frozenset(pair) for pair in zip(found.left.tolist(), found.right.tolist(), strict=True)]
    assert len(given_pairs) == len(set(given_pairs))
    asked = [pair for pair in combinations(range(n), 2) if fresh is None or fresh[list(pair)].any()]
    surely = {frozenset(pair) for pair in asked if cosines[pair] >= least}
    maybe = {frozenset(pair) for pair in asked if cosines[pair] >= least - 2 * SLACK}
    assert surely <= set(given_pairs) <= maybe
    assert found.complete
    for left, right, cosine in zip(found.left.tolist(), found.right.tolist(), found.cosine.tolist(), strict=True):
        assert cosine == pytest.approx(cosines[left, right], abs=1e-5)


def test_a_heap_of_copies_keeps_few_pairs() -> None:
    """Thousands of equal episodes keep a bounded number of pairs each, and are still tied together."""
    n = 3_000
    found = similar.pairs(np.repeat(make_vectors("same"), n, axis=0), 0.92, None, _going)
    assert np.bincount(found.left).max() == MOST_NEAR
    [whole] = similar.components(n, found)
    assert len(whole) == n


def test_comparing_ends_when_the_time_is_over() -> None:
    """What was found until then is given, and said not to be complete."""
    asked = iter([False, True])
    found = similar.pairs(np.repeat(make_vectors("same"), 6_000, axis=0), 0.92, None, lambda: next(asked))
    assert not found.complete
    assert 0 < len(found.left) < 6_000 * MOST_NEAR
    assert similar.alike([[make_vectors("a")], [make_vectors("b")]], lambda: True) is None


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
@settings(deadline=None)
def test_components_are_those_of_a_walk(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    """Whoever is tied together, by way of others too, is in one list; who is tied to nobody is in none."""
    n, edges = drawn
    ends = np.array(edges, dtype=np.int32).reshape(-1, 2)
    found = similar.components(n, similar.Pairs(ends[:, 0], ends[:, 1], np.ones(len(ends), np.float32), True))
    together = [{at} for at in range(n)]
    for one, other in edges:
        joined = together[one] | together[other]
        for at in joined:
            together[at] = joined
    assert {tuple(part.tolist()) for part in found} == {tuple(sorted(part)) for part in together if len(part) > 1}


def _alike(one: Vectors, other: Vectors) -> float:
    """What `similar` promises of two episodes, in plain loops."""
    cosines = one.astype(np.float64) @ other.astype(np.float64).T
    there = min(max(row) for row in cosines)
    back = min(max(column) for column in cosines.T)
    return float(min(there, back, cosines[0, 0]))


@given(seed=seeds, shape=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=6))
@settings(deadline=None)
def test_alike_is_the_least_alike_part(seed: int, shape: list[list[int]]) -> None:
    """Of two episodes the worst window, both ways, and the openings; of several episodes the worst two."""
    generator = np.random.default_rng(seed)
    items = [[_crowd(int(generator.integers(2**32)), w) for w in item] for item in shape]
    found = similar.alike(items, _going)
    assert found is not None
    np.testing.assert_array_equal(found, found.T)
    for one, other in combinations(range(len(items)), 2):
        wanted = min(_alike(a, b) for a in items[one] for b in items[other])
        assert found[one, other] == pytest.approx(wanted, abs=1e-5)


def test_a_long_text_is_not_like_a_short_one_that_it_holds() -> None:
    """Equal openings, and all of the short one in the long one: alike one way, and not alike."""
    opening, rest = make_vectors("opening"), make_vectors("the rest", 9)
    found = similar.alike([[opening], [np.concatenate((opening, rest))], [opening]], _going)
    assert found is not None
    assert found[0, 1] < 0.9
    assert found[0, 2] == pytest.approx(1.0, abs=1e-5)


def _random_alike(seed: int, m: int) -> NDArray[np.float32]:
    vectors = _crowd(seed, m)
    return np.asarray(vectors @ vectors.T, dtype=np.float32)


@given(seed=seeds, m=st.integers(1, 24), within=st.floats(0.5, 1.0), across=st.floats(0.5, 1.0), most=st.integers(1, 9))
@settings(deadline=None, max_examples=200)
def test_no_chain_of_neighbours_makes_a_group_of_strangers(
    seed: int, m: int, within: float, across: float, most: int
) -> None:
    """In a group each two are alike enough, nobody is in two groups, and no two groups left could be one."""
    alike = _random_alike(seed, m)
    origin = np.arange(m) % 3
    least = np.where(origin[:, None] == origin, within, across).astype(np.float32)
    found = similar.groups(alike, least, [1] * m, most)
    everyone = [item for group in found for item in group]
    assert len(everyone) == len(set(everyone))
    for group in found:
        assert 2 <= len(group) <= most
        assert group == sorted(group)
        for one, other in combinations(group, 2):
            assert alike[one, other] >= least[one, other] - SLACK
    left = [*found, *([item] for item in range(m) if item not in everyone)]
    for one_group, other_group in combinations(left, 2):
        apart = any(alike[a, b] < least[a, b] - SLACK for a in one_group for b in other_group)
        assert apart or len(one_group) + len(other_group) > most


def test_the_nearest_come_together_first() -> None:
    """Of a chain A ~ B ~ C whose ends are unlike, B goes to the nearer one."""
    alike = np.array([[1, 0.93, 0.85], [0.93, 1, 0.99], [0.85, 0.99, 1]], dtype=np.float32)
    least = np.full((3, 3), 0.92, dtype=np.float32)
    assert similar.groups(alike, least, [1, 1, 1], 9) == [[1, 2]]
    assert similar.groups(alike[:2, :2], least[:2, :2], [5, 5], 9) == []
    assert similar.groups(alike[:0, :0], least[:0, :0], [], 9) == []


@pytest.mark.slow
def test_comparing_stays_within_its_memory_and_its_time() -> None:
    """20,000 openings are compared in far less than a minute: what 50,000 may take is six times this."""
    vectors = np.random.default_rng(1).standard_normal((20_000, 384), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[1::100] = vectors[::100]
    began = time.process_time()
    found = similar.pairs(vectors, 0.92, None, _going)
    assert len(found.left) == 200
    assert time.process_time() - began < 60
