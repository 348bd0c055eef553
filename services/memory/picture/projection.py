"""From vectors to the plane: principal components, a place for newcomers, and one scale for all pictures.

Pure functions, deterministic: the same vectors give the same picture.

Legend: n episodes, d width of a vector, c components.
"""

import numpy as np
from numpy.typing import NDArray

from services.memory.stores.base import Vectors

Places = NDArray[np.float64]
"""(n 2): where each episode lies."""

FAR = 2.0
"""Points that lie further out than this many times the 95th percentile are drawn at the edge."""
_NEIGHBOURS = 3
_BLOCK = 512
"""Newcomers that are placed at a time: memory stays flat."""


def components(vectors: Vectors, count: int) -> NDArray[np.float64]:
    """(n d) -> (n c): the first principal components, the widest first, at most so many.

    A component's sign is a free choice: the largest of its loadings is positive.
    """
    if not len(vectors):
        return np.zeros((0, count))
    centred = vectors - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    axes = axes[:, ::-1][:, :count]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    projected: NDArray[np.float64] = centred.astype(np.float64) @ axes
    return np.pad(projected, ((0, 0), (0, count - projected.shape[1])))


def beside_neighbours(vectors: Vectors, places: Places, known: NDArray[np.bool_]) -> Places:
    """(n d), (n 2), (n) -> (n 2): those that have no place yet go between the known ones nearest to them.

    At least one is known.
    """
    placed = places.copy()
    landmarks, spots = vectors[known], places[known]
    count = min(_NEIGHBOURS, len(landmarks))
    newcomers = np.flatnonzero(~known)
    for at in range(0, len(newcomers), _BLOCK):
        some = newcomers[at : at + _BLOCK]
        cosines = vectors[some] @ landmarks.T
        nearest = np.argpartition(cosines, cosines.shape[1] - count, axis=1)[:, -count:]
        weights = np.maximum(np.take_along_axis(cosines, nearest, axis=1), 1e-3).astype(np.float64) ** 4
        weights /= weights.sum(axis=1, keepdims=True)
        placed[some] = np.einsum("nk,nkp->np", weights, spots[nearest])
    return placed


def scaled(places: Places) -> Places:
    """(n 2) -> (n 2) in -1..1: around the middle, both axes by one scale, so that distances keep their meaning."""
    if not len(places):
        return places
    centred = places - (places.min(axis=0) + places.max(axis=0)) / 2
    reach = np.abs(centred).max(axis=1)
    widest = float(reach.max())
    scale = min(widest, FAR * float(np.quantile(reach, 0.95)) or widest)
    return np.clip(centred / scale, -1.0, 1.0) if scale > 0 else np.zeros_like(centred)
