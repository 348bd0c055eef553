"""Maps of the store, kept for a while: drawn at once from principal components, refined in the background.

One map is computed at a time and one refined at a time; whoever comes meanwhile waits, or gets what there is. New
episodes show within seconds: in a refined picture they are put beside those that they are like until it is drawn
anew, so that a picture that people are looking at does not jump.
"""

import asyncio
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anamnesis.contracts.base import now
from anamnesis.contracts.insight import EpisodeMap
from anamnesis.kit.errors import AnamnesisError, Busy
from anamnesis.kit.logs import logger
from services.memory.picture import refine
from services.memory.picture.projection import Places, beside_neighbours, components, scaled
from services.memory.stores.base import Filter, Openings, Store

FRESH = 10.0  # seconds for which a map is given again without a look at the store
AGAIN = 900.0  # seconds between two refinements of a map that has changed a little
KNOWN = 0.7
"""Share of the episodes that must be in a refined picture for the others to be put beside them."""
WAIT = 60.0  # seconds for another map to be done
_KEPT = 8  # maps

Refine = Callable[[NDArray[np.float64]], Awaitable[Places]]


class Asked(NamedTuple):
    """Which map."""

    model: str
    project: str | None
    instance: str | None
    limit: int


@dataclass(frozen=True)
class _Refined:
    places: dict[str, tuple[float, float]]
    fingerprint: bytes
    at: float


@dataclass
class _Kept:
    picture: EpisodeMap
    at: float
    refined: _Refined | None = None
    failed: float | None = None
    """When refining it failed last."""


class _Drawn(NamedTuple):
    """What the thread has made of the vectors."""

    places: Places
    method: Literal["pca", "tsne"]
    fingerprint: bytes
    components: NDArray[np.float64]


class Maps:
    """Draws maps of a store. `close` ends what is being refined."""

    def __init__(self, store: Store, refined: Refine = refine.refined, fresh: float = FRESH) -> None:
        self._store = store
        self._refined = refined
        self._fresh = fresh
        self._kept: OrderedDict[Asked, _Kept] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="map")
        self._one = asyncio.Lock()
        self._refining: tuple[Asked, asyncio.Task[None]] | None = None

    async def get(self, asked: Asked) -> EpisodeMap:
        """Raises `Busy` when others' maps take too long."""
        try:
            await asyncio.wait_for(self._one.acquire(), WAIT)
        except TimeoutError:
            raise Busy("other maps are being drawn; try again in a moment") from None
        try:
            kept = self._kept.get(asked)
            if kept is None or time.monotonic() - kept.at >= self._fresh:
                kept = await self._draw(asked, kept)
        finally:
            self._one.release()
        return kept.picture.model_copy(update={"refining": self._is_refining(asked)})

    async def close(self) -> None:
        if self._refining is not None:
            self._refining[1].cancel()
            await asyncio.wait({self._refining[1]})
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _draw(self, asked: Asked, before: _Kept | None) -> _Kept:
        where = Filter(project=asked.project, instance=asked.instance)
        found = await self._store.openings(asked.model, where, asked.limit)
        refined = before.refined if before is not None else None
        drawn = await asyncio.get_running_loop().run_in_executor(self._thread, _drawn, found, refined)
        picture = await asyncio.get_running_loop().run_in_executor(self._thread, _picture, asked.model, found, drawn)
        kept = _Kept(picture, time.monotonic(), refined, before.failed if before is not None else None)
        present = self._kept.get(asked)
        if present is not None and present.refined is not refined:  # while this one was drawn
            kept.refined, kept.at = present.refined, -math.inf
        self._kept[asked] = kept
        self._kept.move_to_end(asked)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        if self._refining is None and _worth_refining(kept, drawn):
            work = self._refine(asked, kept, found.episode_ids, drawn)
            self._refining = (asked, asyncio.create_task(work, name="refine-map"))
        return kept

    def _is_refining(self, asked: Asked) -> bool:
        return self._refining is not None and self._refining[0] == asked

    async def _refine(self, asked: Asked, kept: _Kept, episode_ids: list[str], drawn: _Drawn) -> None:
        """What is learned goes to the map that is kept now, which may be another one than `kept`."""
        try:
            places = await self._refined(drawn.components)
        except AnamnesisError as error:
            logger().warning("a map stays unrefined", reason=error.message, episodes=len(episode_ids))
            self._kept.get(asked, kept).failed = time.monotonic()
        else:
            spots = dict(zip(episode_ids, map(tuple, places.tolist()), strict=True))
            present = self._kept.get(asked, kept)
            present.refined = _Refined(spots, drawn.fingerprint, time.monotonic())
            present.at = -math.inf  # the next one who asks gets it
        finally:
            self._refining = None


def _worth_refining(kept: _Kept, drawn: _Drawn) -> bool:
    if not refine.LEAST <= len(drawn.places) <= refine.MOST:
        return False
    if kept.failed is not None and time.monotonic() - kept.failed < AGAIN:
        return False
    refined = kept.refined
    if refined is None or drawn.method == "pca":
        return True
    return refined.fingerprint != drawn.fingerprint and time.monotonic() - refined.at > AGAIN


def _drawn(found: Openings, refined: _Refined | None) -> _Drawn:
    """Runs in the thread."""
    digest = hashlib.sha256("\0".join(found.episode_ids).encode())
    digest.update(np.ascontiguousarray(found.vectors).data)
    first = components(found.vectors, refine.COMPONENTS)
    if refined is not None:
        spots = [refined.places.get(episode_id) for episode_id in found.episode_ids]
        known = np.array([spot is not None for spot in spots])
        if len(spots) and known.mean() >= KNOWN:
            places = np.array([spot or (0.0, 0.0) for spot in spots])
            return _Drawn(beside_neighbours(found.vectors, places, known), "tsne", digest.digest(), first)
    return _Drawn(first[:, :2], "pca", digest.digest(), first)


def _picture(model: str, found: Openings, drawn: _Drawn) -> EpisodeMap:
    """Runs in the thread."""
    projects = sorted(set(found.projects))
    numbers = {project: number for number, project in enumerate(projects)}
    x, y = np.round(scaled(drawn.places), 4).T.tolist()
    return EpisodeMap.model_construct(
        model=model,
        method=drawn.method,
        refining=False,
        made_at=now(),
        total=found.total,
        projects=tuple(projects),
        episode_id=tuple(found.episode_ids),
        x=tuple(x),
        y=tuple(y),
        project=tuple(numbers[project] for project in found.projects),
    )
