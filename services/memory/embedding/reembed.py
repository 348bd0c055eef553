"""The move of a whole store to another embedding model, or the completion of the present one, while it serves.

New vectors are made beside the old ones; searches stay with the old model until the new set is
complete, and change over by one write. Every batch is a durable checkpoint, and what is missing is
asked of the store, so a crash loses at most the batch in work.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from pydantic import BaseModel

from anamnesis.contracts.base import JsonObject, now
from anamnesis.contracts.embedding import EmbeddingModel, ReembedState, ReembedStatus
from anamnesis.contracts.episodes import Episode
from anamnesis.kit.errors import AnamnesisError, Busy, Conflict, DeadlineExceeded, Unavailable
from anamnesis.kit.logs import logger, where
from services.memory.embedding.gate import Gate
from services.memory.search.text import passage
from services.memory.stores.base import Filter, Store, Vectors

KIND = "embedding"
"""Kind of the state documents of embedding."""
PLAN = "reembed"
ACTIVE = "active"

_LANES = 2
"""Batches at once: while one is being written, the other keeps the workers busy."""
_MORE_LANES = 6
"""So many more where batches are quick: from more short texts, more of like length go together."""
_QUICK_SECONDS = 2.0
_LARGEST = 250
"""Episodes in a batch at most, whatever the checkpoint: memory stays flat. It then saves more often than asked."""
_TRIES = 6
"""Failures in a row, with growing pauses, before a re-embedding is given up."""
_FIRST_PAUSE = 2.0
_STUCK = 5
"""Times that a lane may get the very same episodes before it says that they cannot be kept."""
_SWITCH_SECONDS = (10.0, 20.0, 40.0, 80.0, 120.0)
"""How long a switch waits for writers to finish, try after try."""
_GRACE_SECONDS = 10.0
"""How long searches that began with the old model still find its vectors."""
_RATE_SECONDS = 60.0
_CLOSE_SECONDS = 40.0
"""What a stop waits for the windows in work. Supervisors kill after 90 s and more, of which requests may take 20."""
_CANCEL_SECONDS = 5.0
_WRITE_SECONDS = 2.0
"""How long writers may write freely between two times of being shut out."""
_LOOK = 8
"""Batches after which it is looked whether writers bring in more than is embedded."""
_LONGEST_WAIT = 30.0
"""How long such writers are shut out at a time, at most."""


class BatchEncoder(Protocol):
    """One model, ready to embed."""

    @property
    def model(self) -> EmbeddingModel: ...

    async def embed(
        self, texts: Sequence[str], *, background: bool = False, stop: asyncio.Event | None = None
    ) -> list[Vectors]:
        """Once told to stop, what is left undone is left out: the vectors are those of the first texts."""

    async def close(self) -> None: ...


class Host(Protocol):
    """The service whose model is moved."""

    @property
    def active(self) -> EmbeddingModel: ...

    async def borrow(self, name: str) -> BatchEncoder:
        """An encoder of the active model (not to be closed) or, for another name, a new one in the background."""

    def adopt(self) -> None:
        """Search and write by the encoder that was borrowed, from this moment on."""

    async def settle(self) -> None:
        """After `adopt`: let the old encoder finish what it has, and close it."""


class Plan(BaseModel):
    """The state document of a re-embedding."""

    state: ReembedState = ReembedState.IDLE
    model: str | None = None
    checkpoint_every: int = 25
    started_at: datetime | None = None
    finished_at: datetime | None = None
    total: int = 0
    error: str | None = None
    drop: tuple[str, ...] = ()
    """Models whose vectors are no longer needed, until they are gone."""


class Reembedder:
    """At most one re-embedding at a time, in a task of its own."""

    def __init__(
        self,
        store: Store,
        host: Host,
        gate: Gate,
        grace: float = _GRACE_SECONDS,
        write_seconds: float = _WRITE_SECONDS,
    ) -> None:
        self._store = store
        self._host = host
        self._gate = gate
        self._grace = grace
        self._write_seconds = write_seconds
        self._plan = Plan()
        self._task: asyncio.Task[None] | None = None
        self._control = asyncio.Lock()
        self._stop = asyncio.Event()
        self._deciding = asyncio.Lock()
        """Held over a write that ends a move, or pauses it, and what follows from it: only one of both happens."""
        self._held: set[str] = set()
        self._claiming = asyncio.Lock()
        self._saved: deque[tuple[float, int]] = deque(maxlen=10_000)
        self._batches = 0
        self._embedded = 0

    async def open(self) -> None:
        """Read what was under way, and go on with it if nobody paused it."""
        document = await self._store.read(KIND, PLAN)
        if document is not None:
            self._plan = Plan.model_validate(document.value)
        if self._plan.state is ReembedState.RUNNING or self._plan.drop:
            self._begin()

    async def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """Stop; what is in work gets so many seconds to be embedded and saved. It goes on at the next `open`."""
        self._stop.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_CANCEL_SECONDS)
            self._task = None

    @property
    def busy(self) -> bool:
        """Something is being embedded, switched or removed."""
        return self._task is not None and not self._task.done()

    @property
    def _moves(self) -> bool:
        return self._plan.state is ReembedState.RUNNING and self.busy

    # Control ----------------------------------------------------------------------------------

    async def start(self, model: str, checkpoint_every: int) -> ReembedStatus:
        """Move to this model, or complete the active one. Asked again for the same, it goes on as it is.

        Raises `Conflict` while a move to another model is running.
        """
        async with self._control:
            plan = self._plan
            if self._moves:
                if plan.model != model:
                    raise Conflict(f"the store is being moved to {plan.model}: pause that first")
                return await self.status()
            await self._ended()
            left = set() if plan.state is ReembedState.IDLE else {plan.model}
            unneeded = (left | set(self._plan.drop)) - {model, self._host.active.name, None}
            await self._keep(
                Plan(
                    state=ReembedState.RUNNING,
                    model=model,
                    checkpoint_every=checkpoint_every,
                    started_at=now(),
                    total=await self._total(),
                    drop=tuple(sorted(name for name in unneeded if name)),
                )
            )
            self._begin()
            return await self.status()

    async def pause(self) -> ReembedStatus:
        """Stop after the batches in work, which are kept. Raises `Conflict` when nothing is running."""
        async with self._control:
            async with self._deciding:
                if self._plan.state is not ReembedState.RUNNING:
                    raise Conflict("no re-embedding is running")
                # Kept before it is done: where the store is away, the move goes on.
                await self._keep(self._plan.model_copy(update={"state": ReembedState.PAUSED}))
                self._stop.set()
            return await self.status()

    async def resume(self) -> ReembedStatus:
        """Go on where it stopped. Raises `Conflict` when nothing has stopped."""
        async with self._control:
            if self._moves or self._plan.state is ReembedState.IDLE:
                raise Conflict("no re-embedding is paused")
            await self._ended()
            await self._keep(self._plan.model_copy(update={"state": ReembedState.RUNNING, "error": None}))
            self._begin()
            return await self.status()

    async def status(self) -> ReembedStatus:
        """How far it is, counted in the store."""
        plan = self._plan
        rate = eta = None
        total = done = plan.total
        if plan.model is not None and plan.state is not ReembedState.IDLE:
            missing = await self._store.count_missing(plan.model)
            total = await self._total()
            done = max(0, total - missing)
            if plan.state is ReembedState.RUNNING and (rate := self._rate()):
                eta = missing / rate
        return ReembedStatus(
            state=plan.state,
            model=plan.model,
            done=done,
            total=total,
            started_at=plan.started_at,
            finished_at=plan.finished_at,
            episodes_per_second=rate,
            eta_seconds=eta,
            error=plan.error,
        )

    # The task ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._stop = asyncio.Event()
        self._saved.clear()
        self._held.clear()
        self._task = asyncio.create_task(self._run(), name="reembed")

    async def _ended(self) -> None:
        """Wait until a task that was told to stop has done so."""
        if self._task is not None:
            self._stop.set()
            await asyncio.wait([self._task], timeout=60)
            if not self._task.done():
                raise Busy("the last batch of the re-embedding is still being saved", retry_after=10)

    async def _run(self) -> None:
        try:
            if self._plan.state is ReembedState.RUNNING:
                await self._move()
            await self._tidy()
        except AnamnesisError as error:
            await self._fail(error.message)
        except Exception as error:  # noqa: BLE001 - the edge of this task: an unforeseen error must be told, not lost
            await self._fail(where(error))

    async def _fail(self, reason: str) -> None:
        logger().error("re-embedding failed", model=self._plan.model, reason=reason)
        async with self._deciding:
            if self._plan.state is not ReembedState.RUNNING:
                return
            self._plan = self._plan.model_copy(update={"state": ReembedState.FAILED, "error": reason})
            try:
                await self._keep(self._plan)
            except AnamnesisError as error:  # the store is away: at the next start it goes on by itself
                logger().error("re-embedding could not note its failure", reason=error.message)

    async def _move(self) -> None:
        model = self._plan.model
        assert model is not None
        moving = model != self._host.active.name
        encoder = await self._borrow(model)
        if encoder is None:
            return
        try:
            await self._patiently(encoder)
            if moving:
                await self._change_over(encoder)
            else:
                total = await self._total()
                async with self._deciding:
                    if not self._stop.is_set():
                        await self._keep(self._finished(total))
        finally:
            if moving and self._host.active.name != model:
                await encoder.close()

    async def _borrow(self, model: str) -> BatchEncoder | None:
        """The encoder, which may have to be downloaded and loaded first; none = told to stop meanwhile."""
        opening = asyncio.ensure_future(self._host.borrow(model))
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({opening, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                return opening.result()
            opening.cancel()
            await asyncio.wait({opening})
            return None
        finally:
            opening.cancel()
            stopped.cancel()

    async def _patiently(self, encoder: BatchEncoder) -> None:
        """Embed all that is missing; what passes by itself (a database that restarts) is waited for."""
        failures, seen = 0, 0
        while True:
            try:
                await self._store.prepare(encoder.model.name, encoder.model.dimension)
                await self._fill(encoder)
                return
            except (Unavailable, Busy, DeadlineExceeded) as error:
                failures, seen = (1, self._batches) if self._batches > seen else (failures + 1, seen)
                if failures >= _TRIES:
                    raise
                logger().warning("re-embedding waits", reason=error.message, tries=failures)
                await self._pause(min(30.0, _FIRST_PAUSE * 2 ** (failures - 1)))

    async def _fill(self, encoder: BatchEncoder) -> None:
        pacing = asyncio.create_task(self._hold_back(encoder.model.name), name="reembed-pace")
        try:
            async with asyncio.TaskGroup() as lanes:
                lanes.create_task(self._lane(encoder, lanes))
                for _ in range(_LANES - 1):
                    lanes.create_task(self._lane(encoder))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        finally:
            pacing.cancel()
            await asyncio.wait([pacing])

    async def _hold_back(self, model: str) -> None:
        """Shut writers out for moments, for as long as they bring in more than is embedded.

        The larger model is often the slower one: without this, many writers would leave the move without an end.
        Of each look come w, what they bring in a second while they may, and e, what is embedded a second. Letting
        them in for f seconds and shutting them out for h leaves e (f + h) - w f behind; h makes that a quarter of w f.
        """
        free, wait = self._write_seconds, 0.0
        began, written = time.monotonic(), 0.0  # of this look: its begin, and the seconds that writers could write
        looked, embedded, left = self._batches, self._embedded, await self._left(model)
        while not self._stop.is_set():
            await self._pause(free)
            written += free
            if wait:
                with contextlib.suppress(DeadlineExceeded):  # a writer took longer: the others have waited meanwhile
                    async with self._gate.alone(_LONGEST_WAIT):
                        await self._pause(wait)
            if self._batches - looked < _LOOK:
                continue
            if (now_left := await self._left(model)) is None or left is None:
                left = now_left
                continue
            before, left = left, now_left
            done = self._embedded - embedded
            e, w = done / (time.monotonic() - began), max(0, left - before + done) / written
            wait = min(_LONGEST_WAIT, free * (1.25 * w / e - 1)) if w > 0.8 * e else 0.0
            began, written, looked, embedded = time.monotonic(), 0.0, self._batches, self._embedded

    async def _left(self, model: str) -> int | None:
        """Episodes without vectors of the model; what hinders counting is for the lanes to report."""
        try:
            return await self._store.count_missing(model)
        except AnamnesisError:
            return None

    async def _lane(self, encoder: BatchEncoder, lanes: asyncio.TaskGroup | None = None) -> None:
        """One batch after another until few are left; opens more lanes in `lanes` if its first batch is quick."""
        last: list[str] = []
        same = 0
        while not self._stop.is_set():
            batch = await self._claim(encoder.model.name)
            ids = [one.episode_id for one in batch]
            same = same + 1 if ids == last else 0
            if same >= _STUCK:
                raise Conflict(f"{len(ids)} episodes do not keep the vectors they are given, {ids[0]} among them")
            if not batch:
                return
            began = time.monotonic()
            try:
                saved = await self._embed(encoder, batch, background=True)
            finally:
                self._held.difference_update(ids)
            if lanes is not None and time.monotonic() - began < _QUICK_SECONDS:
                for _ in range(_MORE_LANES):
                    lanes.create_task(self._lane(encoder))
            lanes = None
            last = ids
            self._saved.append((time.monotonic(), saved))
            self._batches += 1
            self._embedded += saved
            if len(batch) < self._size:
                return  # the end, but for what is being written just now: that is for the switch to look at

    async def _claim(self, model: str) -> list[Episode]:
        """The next episodes without vectors that no lane has in hand."""
        async with self._claiming:
            held = set(self._held)  # another lane may save its batch while we read what was missing before
            missing = await self._store.missing(model, self._size + len(held))
            batch = [one for one in missing if one.episode_id not in held][: self._size]
            self._held.update(one.episode_id for one in batch)
            return batch

    async def _embed(self, encoder: BatchEncoder, batch: Sequence[Episode], *, background: bool) -> int:
        """Vectors for a batch, or for its first episodes when told to stop meanwhile; gives how many.

        Saved in one durable write: the checkpoint.
        """
        texts = [passage(one.summary, one.raw_exchange) for one in batch]
        vectors = await encoder.embed(texts, background=background, stop=self._stop)
        items = {one.episode_id: (one.content_hash, own) for one, own in zip(batch, vectors, strict=False)}
        if items:
            await self._store.put_vectors(encoder.model.name, items)
        return len(items)

    # The switch -------------------------------------------------------------------------------

    async def _change_over(self, encoder: BatchEncoder) -> None:
        """Switch once nothing is missing, unless told to stop before that."""
        old = self._host.active.name
        for seconds in _SWITCH_SECONDS:
            if self._stop.is_set():
                return
            await self._store.activate(encoder.model.name)  # whatever takes long happens before writers are held up
            try:
                if await self._switch(encoder, seconds):
                    await self._host.settle()
                    return
            except (DeadlineExceeded, Unavailable, Busy) as error:
                logger().warning("embedding model not switched yet", reason=error.message)
            await self._store.activate(old)
            await self._patiently(encoder)
        if not self._stop.is_set():
            raise Unavailable("writers left no moment for the switch: resume when the store is less busy")

    async def _switch(self, encoder: BatchEncoder, seconds: float) -> bool:
        """With all writers out: embed the last few, see that nothing is missing, and change over in one write."""
        model = encoder.model.name
        few = min(_LARGEST, max(self._plan.checkpoint_every, int((self._rate() or 0.0) * seconds)))
        async with self._gate.alone(seconds):
            late = await self._store.missing(model, few + 1)
            if len(late) > few:
                return False
            if late:
                await self._embed(encoder, late, background=False)
            if await self._store.count_missing(model):
                return False
            finished = self._finished(await self._total(), drop=self._host.active.name)
            documents: dict[str, JsonObject] = {ACTIVE: {"model": model}, PLAN: finished.model_dump(mode="json")}
            async with self._deciding:
                if self._stop.is_set():
                    return False
                await self._store.write_many(KIND, documents)
                self._plan = finished
                self._host.adopt()
        logger().info("embedding model switched", model=model, episodes=finished.total)
        return True

    async def _tidy(self) -> None:
        """Remove vectors that are no longer needed, once searches that began with them are over."""
        if not self._plan.drop:
            return
        await self._pause(self._grace)
        for name in self._plan.drop:
            if self._stop.is_set():
                return
            if name != self._host.active.name and name != self._plan.model:
                await self._store.drop_vectors(name)
            rest = tuple(other for other in self._plan.drop if other != name)
            await self._keep(self._plan.model_copy(update={"drop": rest}))

    # Small things -----------------------------------------------------------------------------

    @property
    def _size(self) -> int:
        """Episodes in a batch."""
        return min(self._plan.checkpoint_every, _LARGEST)

    def _finished(self, total: int, drop: str | None = None) -> Plan:
        unneeded = {*self._plan.drop, *([drop] if drop else [])} - {self._plan.model}
        done = {"state": ReembedState.IDLE, "finished_at": now(), "error": None, "total": total}
        return self._plan.model_copy(update={**done, "drop": tuple(sorted(unneeded))})

    async def _keep(self, plan: Plan) -> None:
        await self._store.write(KIND, PLAN, plan.model_dump(mode="json"))
        self._plan = plan

    async def _total(self) -> int:
        return (await self._store.page(Filter(), 0, 1))[1]

    async def _pause(self, seconds: float) -> None:
        """Sleep, but wake when told to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return

    def _rate(self) -> float | None:
        """Episodes a second over the last minute; none before the second batch."""
        since = time.monotonic() - _RATE_SECONDS
        recent = [entry for entry in self._saved if entry[0] >= since]
        if len(recent) < 2:
            return None
        return sum(count for _, count in recent[1:]) / max(1e-6, time.monotonic() - recent[0][0])
