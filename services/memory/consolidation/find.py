"""Finding near-duplicates in a store: what is compared with what, in memory that does not grow with the store.

One project at a time: first the openings of all that is current, then all windows of those whose openings are alike.
The arithmetic is in `similar`, on a thread of its own; what is made of a group is in `run`.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from anamnesis.contracts.consolidate import ConsolidateRequest
from anamnesis.contracts.embedding import EmbeddingModel
from anamnesis.contracts.episodes import Episode
from services.memory.consolidation import similar
from services.memory.consolidation.made import is_made, names_made
from services.memory.stores.base import Filter, Openings, Store, Vectors

MIRRORED, LEFT_BEHIND = "on:", "deleted"
"""Tags of what stands for a file, there or not: whoever reads the file renews it, and supersedes it itself."""
MOST_PARTS = 200
"""Episodes that one may be made from."""
_OPENINGS = 256 << 20  # bytes of openings that are compared with one another; of more, those of the newest
_COMPARED = 1_000  # episodes whose windows are compared with one another
_READ = 500  # episodes read at a time, of which little is kept

Apart = Sequence[frozenset[str]]
"""What an undoing parted: episodes of different ones of these are not put together again."""
T = TypeVar("T")


class Traits(NamedTuple):
    """What is kept of an episode while it is compared."""

    episode_id: str
    time: datetime
    origin: str | None
    """Its session, or the document that it is a part of."""
    content_hash: str
    made_from: tuple[str, ...]

    @property
    def parts(self) -> list[str]:
        """What one that was made was made from in the end: without those that were made themselves."""
        return [name for name in self.made_from if not names_made(name)]


class Group(NamedTuple):
    """Near-duplicates, by time."""

    members: tuple[Traits, ...]
    similarity: float
    """The least of any two."""

    @property
    def kind(self) -> Literal["session", "sources"]:
        origins = {one.origin for one in self.members}
        return "session" if len(origins) == 1 and None not in origins else "sources"

    @property
    def contents(self) -> dict[str, str]:
        """Id -> the hash of the text that was compared."""
        return {one.episode_id: one.content_hash for one in self.members}


class Run:
    """How far a run is, and when it must end."""

    def __init__(self, seconds: float, stop: threading.Event) -> None:
        self._until = time.monotonic() + seconds
        self._stop = stop
        self.complete = True
        self.examined = 0

    def spent(self) -> bool:
        return self._stop.is_set() or time.monotonic() > self._until

    def end(self) -> None:
        """Nobody waits for it any more: what its thread is at ends too."""
        self._until = 0.0


class _Near(NamedTuple):
    """Whose openings are alike."""

    names: list[str]
    fresh: NDArray[np.bool_] | None
    """(n); none = all."""
    pairs: similar.Pairs


@dataclass(frozen=True)
class Finder:
    store: Store
    thread: Executor

    async def groups(
        self, project: str, model: EmbeddingModel, asked: ConsolidateRequest, apart: Sequence[Apart], run: Run
    ) -> AsyncIterator[Group]:
        """The near-duplicates of a project, in an order that depends on nothing but what is stored."""
        near = await self._near(project, model, asked, run)
        traits = await self._traits(near)
        pairs = await self._think(lambda: near.pairs.only(_worth(near.pairs, traits, asked)))
        for part in await self._think(lambda: similar.components(len(near.names), pairs)):
            known = sorted((traits[at] for at in part.tolist()), key=lambda one: (one.time, one.episode_id))
            fresh = None if near.fresh is None else {near.names[at] for at in part.tolist() if near.fresh[at]}
            for items in _slices(known):
                run.complete &= len(items) == len(known) and not run.spent()
                if run.spent():
                    return
                for group in await self._linked(items, model.name, asked, apart, run):
                    if fresh is None or any(one.episode_id in fresh for one in group.members):
                        yield group

    async def _near(self, project: str, model: EmbeddingModel, asked: ConsolidateRequest, run: Run) -> _Near:
        where = Filter(project=project, include_superseded=False)
        found = await self.store.openings(model.name, where, _OPENINGS // (4 * model.dimension))
        names = found.episode_ids
        run.examined += len(names)
        run.complete &= len(names) >= found.total
        fresh = None if asked.since is None else await self._fresh(where, asked.since, names)
        openings = await self._as_told(found, model.name)
        least = min(asked.within_session, asked.across_sources)
        pairs = await self._think(lambda: similar.pairs(openings, least, fresh, run.spent))
        run.complete &= pairs.complete
        return _Near(names, fresh, pairs)

    async def _fresh(self, where: Filter, since: datetime, names: Sequence[str]) -> NDArray[np.bool_]:
        """(n): which were ingested at or after a moment."""
        late: set[str] = set()
        async for batch in self.store.scan(where):
            late.update(one.episode_id for one in batch if one.ingested_at >= since)
        return np.array([name in late for name in names], dtype=np.bool_)

    async def _as_told(self, found: Openings, model: str) -> Vectors:
        """(n d): one that was made is looked at as the one that tells it, without the line that was added."""
        openings = found.vectors
        made_before = [at for at, name in enumerate(found.episode_ids) if names_made(name)]
        for some in _some(made_before, _READ):
            known = await self.store.get([found.episode_ids[at] for at in some])
            tellers = {name: one.source.uuid for name, one in known.items() if is_made(one) and one.source.uuid}
            vectors = await self.store.vectors(model, list(set(tellers.values())))
            for at in some:
                windows = vectors.get(tellers.get(found.episode_ids[at], ""))
                if windows is not None:
                    openings[at] = windows[0]
        return openings

    async def _traits(self, near: _Near) -> dict[int, Traits]:
        """Of those whose openings are alike and that may be consolidated, by place."""
        traits: dict[int, Traits] = {}
        places = np.unique(np.concatenate((near.pairs.left, near.pairs.right))).tolist()
        for some in _some(places, _READ):
            stored = await self.store.get([near.names[at] for at in some])
            for at in some:
                one = stored.get(near.names[at])
                if one is not None and _is_free(one):
                    traits[at] = _traits_of(one)
        return traits

    async def _linked(
        self, items: Sequence[Traits], model: str, asked: ConsolidateRequest, apart: Sequence[Apart], run: Run
    ) -> list[Group]:
        """Groups of these, by all of their windows."""
        # One that was made is as near to another as the farthest of its parts is: so no chain grows over the nights.
        names = list(dict.fromkeys(name for one in items for name in (one.episode_id, *one.parts)))
        vectors: dict[str, Vectors] = {}
        for some in _some(names, _READ):
            vectors |= await self.store.vectors(model, some)
        there = [one for one in items if one.episode_id in vectors]
        if len(there) < 2:
            return []

        def link() -> list[Group] | None:
            known = [[vectors[name] for name in one.parts if name in vectors] for one in there]
            windows = [parts or [vectors[one.episode_id]] for one, parts in zip(there, known, strict=True)]
            alike = similar.alike(windows, run.spent)
            if alike is None:
                return None
            sizes = [1 + len(one.made_from) for one in there]
            return [
                Group(tuple(there[at] for at in group), float(min(1.0, alike[np.ix_(group, group)].min())))
                for group in similar.groups(alike, _least(there, asked, apart), sizes, MOST_PARTS)
            ]

        groups = await self._think(link)
        run.complete &= groups is not None
        return groups or []

    async def _think(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)


def _is_free(one: Episode) -> bool:
    """Current, and nobody else's to supersede."""
    mirrors = any(tag == LEFT_BEHIND or tag.startswith(MIRRORED) for tag in one.tags)
    return one.superseded_by is None and not mirrors


def _traits_of(one: Episode) -> Traits:
    origin = one.source.session or one.source.path or one.source.url
    return Traits(one.episode_id, one.timestamp, origin, one.content_hash, one.consolidated_from)


def _worth(pairs: similar.Pairs, traits: Mapping[int, Traits], asked: ConsolidateRequest) -> NDArray[np.bool_]:
    """(p): which pairs have openings that are near enough for where the two come from."""
    codes: dict[str, int] = {}
    places = max(traits, default=-1) + 1
    origin = np.full(places + 1, -2, dtype=np.int64)
    """By place: a number an origin, another below -2 for each that has none, -2 for what is left alone."""
    for number, (at, one) in enumerate(traits.items()):
        origin[at] = -3 - number if one.origin is None else codes.setdefault(one.origin, len(codes))
    left, right = origin[np.minimum(pairs.left, places)], origin[np.minimum(pairs.right, places)]
    least = np.where(left == right, asked.within_session, asked.across_sources)
    near: NDArray[np.bool_] = (left != -2) & (right != -2) & (pairs.cosine >= least - similar.SLACK)
    return near


def _least(items: Sequence[Traits], asked: ConsolidateRequest, apart: Sequence[Apart]) -> NDArray[np.float32]:
    """(i i): how alike two must be; more than anything can be for those that an undoing keeps apart."""
    codes: dict[str, int] = {}
    origin = np.array(
        [-1 - at if one.origin is None else codes.setdefault(one.origin, len(codes)) for at, one in enumerate(items)]
    )
    least = np.where(origin[:, None] == origin, asked.within_session, asked.across_sources).astype(np.float32)
    own = [{one.episode_id, *one.made_from} for one in items]
    for parted in apart:
        inside = [[at for at, names in enumerate(own) if not part.isdisjoint(names)] for part in parted]
        for number, some in enumerate(inside):
            others = [at for part in inside[:number] for at in part]
            least[np.ix_(some, others)] = least[np.ix_(others, some)] = np.inf
    return least


def _slices(items: Sequence[Traits]) -> Iterator[Sequence[Traits]]:
    """In parts whose windows may be in memory together, with those of what they were made from."""
    start = size = 0
    for at, one in enumerate(items):
        own = 1 + len(one.parts)
        if at > start and size + own > _COMPARED:
            yield items[start:at]
            start, size = at, 0
        size += own
    yield items[start:]


def _some(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
