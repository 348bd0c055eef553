"""A run of consolidation: what becomes of near-duplicates, and how it is taken back.

What a dry run says and what a run does come from the same plan; the run adds the write, in which the store looks at
each member once more. The reasons are in `docs/decisions/0016-consolidation.md`.
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Protocol

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.consolidate import Consolidated, ConsolidateRequest, Consolidation
from anamnesis.contracts.embedding import EmbeddingModel
from anamnesis.contracts.episodes import Episode
from anamnesis.kit.errors import BadRequest, Busy, Conflict, NotFound, Unavailable
from services.memory.consolidation.find import Apart, Finder, Group, Run
from services.memory.consolidation.made import is_made, made
from services.memory.door import Door
from services.memory.removal import Remover
from services.memory.stores.base import Store

SECONDS = 240.0
"""How long a run goes on; then it says that it is not complete."""
APART = "apart"
"""The kind of state document that holds what was undone, by the id of the episode that was taken away."""
_TOGETHER = 64  # members whose texts are in memory at a time, about
_CLOSE = 10.0  # seconds that the end of the service waits for a run
_NICE = 10


class Models(Protocol):
    """The model that is searched with (see `embedding.service.Embedding`)."""

    @property
    def active(self) -> EmbeddingModel: ...


class Consolidator:
    """Consolidates a store, one run at a time. `close` ends the one that is under way."""

    def __init__(self, store: Store, door: Door, remover: Remover, models: Models, seconds: float = SECONDS) -> None:
        self._store = store
        self._door = door
        self._remover = remover
        self._models = models
        self._seconds = seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="consolidation", initializer=_stand_back)
        self._finder = Finder(store, self._thread)
        self._stop = threading.Event()
        self._one = asyncio.Lock()

    async def close(self) -> None:
        self._stop.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._one.acquire(), _CLOSE)
        self._thread.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        if self._stop.is_set():
            raise Unavailable("the service is stopping; consolidate again when it is back")
        if self._one.locked():
            raise Conflict("a consolidation is under way; try again when it is done")
        async with self._one:
            yield

    async def run(self, request: ConsolidateRequest) -> Consolidated:
        """Raises `Conflict` while another run is under way."""
        async with self._alone():
            run = Run(self._seconds, self._stop)
            try:
                groups = [one async for one in self._run(request, run)]
            finally:
                run.end()
            return Consolidated(
                dry_run=request.dry_run,
                examined=run.examined,
                groups=tuple(groups),
                superseded=sum(len(one.members) for one in groups),
                complete=run.complete,
            )

    async def _run(self, request: ConsolidateRequest, run: Run) -> AsyncIterator[Consolidation]:
        apart = [_parted(one.value) for one in await self._store.list(APART)]
        left = request.limit
        for project in await self._projects(request):
            batch: list[Group] = []
            if run.spent():
                run.complete = False
                return
            async for group in self._finder.groups(project, self._models.active, request, apart, run):
                if not left:
                    run.complete = False
                    return
                batch.append(group)
                if len(batch) == left or sum(len(one.members) for one in batch) >= _TOGETHER:
                    for done in await self._consolidated(batch, project, request.dry_run, run):
                        left -= 1
                        yield done
                    batch = []
            for done in await self._consolidated(batch, project, request.dry_run, run):
                left -= 1
                yield done

    async def _projects(self, request: ConsolidateRequest) -> list[str]:
        if request.project_filter is not None:
            return [request.project_filter]
        return [one.name for one in (await self._store.stats(self._models.active.name)).projects]

    async def _consolidated(
        self, groups: Sequence[Group], project: str, dry_run: bool, run: Run
    ) -> list[Consolidation]:
        """Those groups of which one can be made; a run has made it when this returns."""
        if not groups:
            return []
        if run.spent():
            run.complete = False
            return []
        wanted = {name for group in groups for one in group.members for name in (one.episode_id, *one.parts)}
        stored = await self._store.get(list(wanted))
        whole = [group for group in groups if all(_is_in(project, stored.get(name)) for name in group.contents)]

        def tell() -> list[Episode]:
            members = ([stored[one.episode_id] for one in group.members] for group in whole)
            return [made(one, _parts(one, stored)) for one in members]

        told = await asyncio.get_running_loop().run_in_executor(self._thread, tell)
        texts = [(one, group.contents) for one, group in zip(told, whole, strict=True)]
        try:
            done = await (self._door.could_join(texts) if dry_run else self._door.join(texts))
        except Busy:  # writers come first
            run.complete = False
            return []
        return [
            Consolidation(
                episode_id=None if dry_run else one.episode_id,
                members=tuple(group.contents),
                kind=group.kind,
                project=project,
                similarity=group.similarity,
                summary=one.summary,
            )
            for group, one, joined in zip(whole, told, done, strict=True)
            if joined
        ]

    # Undoing ----------------------------------------------------------------------------------

    async def undo(self, episode_ids: Sequence[str]) -> int:
        """Take made episodes away, which makes their members current again, and keep those apart from now on.

        Of what is asked all can be undone, or nothing is: raises `NotFound`, `BadRequest` for one that no consolidation
        made, and `Conflict` where something else hangs on one. Safe to repeat.
        """
        async with self._alone():
            known = await self._store.get(list(dict.fromkeys(episode_ids)))
            for name in episode_ids:
                if name in known:
                    await self._check(known[name], set(episode_ids))
                elif await self._store.read(APART, name) is None:
                    raise NotFound(f"there is no episode {name}", {"episode_ids": [name]})
            # One that was made from another goes before it: what it had superseded is current again then.
            order = sorted(known.values(), key=lambda one: len(one.consolidated_from), reverse=True)
            for one in order:
                members = await self._store.get(await self._store.superseded_by(one.episode_id))
                await self._store.write(APART, one.episode_id, _parting(list(members.values())))
                await self._remover.delete(one.episode_id, block=False)
            return len(order)

    async def _check(self, one: Episode, going: set[str]) -> None:
        name = one.episode_id
        if not is_made(one):
            raise BadRequest(f"{name} was not made by a consolidation", {"episode_ids": [name]})
        if one.superseded_by is not None and one.superseded_by not in going:
            raise Conflict(
                f"{name} is superseded by {one.superseded_by}; undo or unsupersede that first",
                {"episode_ids": [one.superseded_by]},
            )
        if later := [each for each in await self._store.derived(name) if each not in going]:
            raise Conflict(f"{later[0]} was made from {name}; undo that first", {"episode_ids": [*later]})
        if others := set(await self._store.superseded_by(name)) - set(one.consolidated_from):
            raise Conflict(
                f"{name} supersedes others that it was not made from, which would come back with it; "
                "let another episode supersede those first",
                {"episode_ids": [*sorted(others)]},
            )


def _stand_back() -> None:
    """Runs in the thread: searches and writers come first."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _is_in(project: str, one: Episode | None) -> bool:
    return one is not None and one.project == project


def _parts(members: Sequence[Episode], stored: Mapping[str, Episode]) -> list[Episode]:
    """What the members tell of: themselves, or what those that were made were made from, as far as it is left."""
    parts: dict[str, Episode] = {}
    for member in members:
        own = [stored[name] for name in member.consolidated_from if name in stored and not is_made(stored[name])]
        parts |= {one.episode_id: one for one in (own if is_made(member) and own else [member])}
    return list(parts.values())


def _parting(members: Sequence[Episode]) -> JsonObject:
    """What keeps these apart: each with what it was made from."""
    return {"parts": [[one.episode_id, *one.consolidated_from] for one in members]}


def _parted(value: JsonObject) -> Apart:
    parts = value.get("parts")
    return [frozenset(map(str, one)) for one in parts if isinstance(one, list)] if isinstance(parts, list) else []
