"""From vectors to the plane."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.memory.picture.projection import beside_neighbours, components, scaled
from services.memory.stores.base import Vectors
from tests.contract.records import make_vectors


def reference(vectors: Vectors, count: int) -> NDArray[np.float64]:
    """Principal components by the singular values of the centred vectors, in double precision."""
    centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=True)
    lengths: NDArray[np.float64] = np.abs(centred @ axes[:count].T)
    return lengths


def test_components_are_those_of_the_reference() -> None:
    """The same as by singular values, but for signs, which are a free choice."""
    vectors = make_vectors("a", 40) * np.linspace(3, 1, 8, dtype=np.float32)
    np.testing.assert_allclose(np.abs(components(vectors, 4)), reference(vectors, 4), atol=1e-4)


@given(st.integers(0, 12), st.integers(1, 6))
@settings(deadline=None)
def test_any_number_of_episodes_has_a_picture(n: int, seed: int) -> None:
    """None, one, two, all alike: points within -1..1, finite, the same each time."""
    for vectors in (make_vectors(str(seed), n), np.ones((n, 8), dtype=np.float32)):
        places = scaled(components(vectors, 2))
        assert places.shape == (n, 2)
        assert np.isfinite(places).all()
        assert (np.abs(places) <= 1).all()
        np.testing.assert_array_equal(places, scaled(components(vectors.copy(), 2)))


def test_more_components_than_dimensions_are_zeros() -> None:
    """Vectors of 8 dimensions have 8 components; the others are nothing."""
    found = components(make_vectors("a", 30), 50)
    assert found.shape == (30, 50)
    assert not found[:, 8:].any()


def test_one_far_point_leaves_the_others_their_room() -> None:
    """A point far out is drawn at the edge, instead of pressing all others together."""
    places = np.vstack([np.random.default_rng(0).uniform(-1, 1, (200, 2)), [[1000.0, 0.0]]])
    drawn = scaled(places - np.array([500.0, 0.0]))
    assert (np.abs(drawn) <= 1).all()


def test_newcomers_go_beside_those_that_they_are_like() -> None:
    """A newcomer lies among those of its own subject; known ones stay where they were."""
    generator = np.random.default_rng(1)
    centres = np.eye(2, 8)
    vectors = (np.repeat(centres, 21, axis=0) + 0.05 * generator.standard_normal((42, 8))).astype(np.float32)
    places = np.repeat([[-1.0, 0.0], [1.0, 0.0]], 21, axis=0) + generator.uniform(-0.1, 0.1, (42, 2))
    known = np.arange(42) % 21 != 20
    placed = beside_neighbours(vectors, np.where(known[:, None], places, 0.0), known)
    np.testing.assert_array_equal(placed[known], places[known])
    assert placed[20, 0] < -0.8
    assert placed[41, 0] > 0.8
