"""Passes over the episodes that wait for a model: at night, on request, and every few minutes while one answers.

Asking is bounded in every way: requests a minute, tries of a request, episodes between two nights, and passes in which
a model may fail at the same exchange. A summary is written over the very text that it was made of, or not at all.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from anamnesis.contracts.base import now
from anamnesis.contracts.episodes import Episode, EpisodePage, EpisodePatch
from anamnesis.contracts.summaries import PENDING, Summarising, SummaryStatus
from anamnesis.kit.client import Query, ServiceClient
from anamnesis.kit.errors import AnamnesisError, BadRequest, Conflict, Invalid, NotFound, TooLarge
from anamnesis.kit.logs import logger, where
from services.ingest.lease import Lease
from services.ingest.summaries.asking import flaw, waits
from services.ingest.summaries.cache import Cache, Known, opened, seal
from services.ingest.summaries.marking import GIVE_UP
from services.ingest.summaries.writers import Writer, name_of

FAILED = "summary:failed"
"""Tag of an episode that a model was asked about in vain; the extractive summary stays."""
EVERY = 300.0  # seconds between two looks whether something waits
LONGEST_PAUSE = 3_600.0  # seconds after which a model that did not answer is tried again at the latest
PAGE = 20  # episodes read at once; each may be long
WITHIN = 30.0  # seconds for an answer of memory
WRITE = 180.0  # seconds for writing a summary; it is embedded before memory answers
_PAUSE = 2.0  # seconds before a request is tried again; twice as many before each further try
_HOPELESS = 3
"""Requests that were refused in a pass without one that was answered: then it is not the exchanges."""
THEIRS = (BadRequest, Invalid, TooLarge)
"""What a request itself may be at fault for; everything else is the backend's."""


@dataclass
class _Pass:
    by: Summarising
    left: int
    """Episodes that may still be asked about."""
    written: int = 0
    cached: int = 0
    failed: int = 0
    asked: int = 0
    answered: int = 0
    """Requests that a model answered."""
    refused: int = 0
    error: str | None = None
    finished_at: datetime | None = None


class _Down(Exception):
    """The backend does not answer; there is no use in asking on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Passes:
    """Runs passes, one at a time, also where several instances of the service run."""

    def __init__(
        self,
        memory: ServiceClient,
        cache: Cache,
        lease: Lease,
        by: Callable[[], Summarising],
        writer_of: Callable[[Summarising], Writer],
        every: float = EVERY,
        pause: float = _PAUSE,
    ) -> None:
        """`by` says who writes at the moment; `every` and `pause` in seconds."""
        self._memory = memory
        self._cache = cache
        self._lease = lease
        self._by = by
        self._writer_of = writer_of
        self._every = every
        self._pause = pause
        self._one = asyncio.Lock()
        self._loop: asyncio.Task[None] | None = None
        self._asked_for: asyncio.Task[None] | None = None
        self._last: _Pass | None = None
        self._since_night = 0
        """Episodes that were asked about since the last night."""
        self._next_request = 0.0
        self._works_with: str | None = None
        """The model that last answered a request."""

    def open(self) -> None:
        self._loop = asyncio.create_task(self._keep_looking(), name="summaries")

    async def close(self) -> None:
        tasks = [task for task in (self._loop, self._asked_for) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def status(self) -> SummaryStatus:
        """Raises what the client raises."""
        last = self._last or _Pass(self._by(), 0)
        return SummaryStatus(
            backend=self._by().backend,
            pending=(await self._page(0, 1)).total,
            running=self._one.locked(),
            written=last.written,
            cached=last.cached,
            failed=last.failed,
            last_error=last.error,
            finished_at=last.finished_at,
        )

    def begin(self) -> None:
        """Begin a pass in the background, unless one is under way. Raises `BadRequest` where no model is set."""
        if self._by().backend == "extractive":
            raise BadRequest("no model writes summaries; choose one at PUT /api/jsonl/config (summaries.backend)")
        if not self._one.locked() and (self._asked_for is None or self._asked_for.done()):
            self._asked_for = asyncio.create_task(self._safely(self.night), name="summaries on request")

    async def night(self) -> str:
        """A whole pass; what came of it in a few words. A backend that is away is no failure: what waits, waits on."""
        self._since_night = 0
        return await self._pass()

    async def _keep_looking(self) -> None:
        pause = self._every
        while True:
            await asyncio.sleep(pause)
            if self._by().backend == "extractive":
                pause = self._every
                continue
            await self._safely(self._pass)
            down = self._last is not None and self._last.error is not None
            pause = min(pause * 2, max(LONGEST_PAUSE, self._every)) if down else self._every

    async def _safely(self, work: Callable[[], Awaitable[str]]) -> None:
        try:
            await work()
        except AnamnesisError as error:
            self._fail(error.message)
            logger().warning("summaries_wait", reason=error.code)
        except Exception as error:  # noqa: BLE001 -- the edge of a background task: nobody else would see it
            self._fail("something went wrong; the log of the ingest service names the place")
            logger().error("summaries_failed", error=where(error))

    def _fail(self, reason: str) -> None:
        if self._last is not None:
            self._last.error = reason

    async def _pass(self) -> str:
        by = self._by()
        if by.backend == "extractive":
            return "no model is asked"
        async with self._one:
            if not await self._lease.take():
                return "another instance is at it"
            this = self._last = _Pass(by, left=max(0, by.per_night - self._since_night))
            try:
                await self._go_through(this)
            except _Down as down:
                this.error = down.reason
            finally:
                this.finished_at = now()
                self._since_night += this.asked
                await self._lease.release()
        told = f"{this.written} by {by.backend}, {this.cached} known before, {this.failed} failed"
        logger().info("summaries", written=this.written, cached=this.cached, failed=this.failed, asked=this.asked)
        return f"{told}; the rest waits: {this.error}" if this.error else told

    async def _go_through(self, this: _Pass) -> None:
        """Page by page; what loses its tag leaves the pages, so only what stays is passed over."""
        seen: set[str] = set()
        skip = 0
        while this.left > 0:
            page = await self._page(skip, PAGE)
            if not page.episodes:
                return
            fresh = [one for one in page.episodes if one.episode_id not in seen]
            seen.update(one.episode_id for one in fresh)
            settled = await self._settle(fresh, this)
            skip += len(page.episodes) - settled
            if not await self._lease.take():
                raise _Down("another instance of the service has taken over")

    async def _settle(self, episodes: Sequence[Episode], this: _Pass) -> int:
        """Deal with some; how many of them do not wait any more."""
        settled = 0
        open_: list[Episode] = []
        waiting = [one for one in episodes if waits(one)]
        for one in episodes:
            if one not in waiting:
                settled += await self._untag(one)
        known = await self._cache.read(this.by, {one.raw_exchange or "" for one in waiting})
        for one in waiting:
            of_it = known.get(one.raw_exchange or "", Known())
            summary = opened(of_it, one.raw_exchange or "")
            if summary is not None:
                done = await self._apply(one, summary)
                this.cached += done
                settled += done
            elif of_it.failed >= GIVE_UP:
                settled += await self._untag(one, FAILED)
            else:
                open_.append(one)
        for at in range(0, len(open_), this.by.together):
            some = open_[at : at + this.by.together][: this.left]
            if some:
                settled += await self._ask(some, known, this)
        return settled

    async def _ask(self, episodes: Sequence[Episode], known: Mapping[str, Known], this: _Pass) -> int:
        """Ask about some at once; where that cannot be asked, about each alone."""
        this.left -= len(episodes)
        this.asked += len(episodes)
        raws = [one.raw_exchange or "" for one in episodes]
        try:
            texts = await self._request(raws, this)
        except THEIRS as error:
            this.refused += 1
            if not this.answered and this.refused >= _HOPELESS:
                raise _Down(error.message) from None
            if len(episodes) > 1:
                this.left += len(episodes)
                this.asked -= len(episodes)
                return sum([await self._ask([one], known, this) for one in episodes])
            if self._works_with != name_of(this.by):
                this.error = error.message
                return 0  # perhaps it takes nothing at all: that is not to be held against the exchange
            texts = [None]
        found = {
            raw: text for raw, text in zip(raws, texts, strict=True) if text is not None and flaw(text, raw) is None
        }
        missing = [raw for raw in raws if raw not in found]
        failed = {raw: Known(failed=known.get(raw, Known()).failed + 1) for raw in missing}
        # Before it is written to episodes: what has been paid for is not asked for again after a crash.
        await self._cache.write(this.by, {raw: seal(text, raw) for raw, text in found.items()} | failed)
        settled = 0
        for one, raw in zip(episodes, raws, strict=True):
            if raw in found:
                done = await self._apply(one, found[raw])
                this.written += done
                settled += done
            else:
                this.failed += 1
                if failed[raw].failed >= GIVE_UP:
                    settled += await self._untag(one, FAILED)
        return settled

    async def _request(self, raws: Sequence[str], this: _Pass) -> list[str | None]:
        """Ask, not more often than allowed. Raises `_Down` when the tries are used up, and `THEIRS`."""
        writer = self._writer_of(this.by)
        pause = self._pause
        for left in reversed(range(this.by.tries)):
            await self._keep_pace(this.by)
            try:
                texts = await writer.write(raws)
            except THEIRS:
                raise
            except AnamnesisError as error:
                if not left:
                    raise _Down(error.message) from None
                await asyncio.sleep(pause)
                pause *= 2
            else:
                this.answered += 1
                self._works_with = name_of(this.by)
                return texts
        raise AssertionError("there is at least one try")

    async def _keep_pace(self, by: Summarising) -> None:
        moment = time.monotonic()
        at = max(moment, self._next_request)
        self._next_request = at + 60.0 / by.per_minute
        while at > (moment := time.monotonic()):
            await asyncio.sleep(min(at - moment, 30.0))
            await self._lease.take()  # others must see that this one is at it

    async def _apply(self, episode: Episode, summary: str) -> int:
        """Write a summary over the text that it was made of; 1 where the episode does not wait any more."""
        try:
            present = await self._memory.get(f"/api/episodes/{episode.episode_id}", Episode, deadline=WITHIN)
            if present.content_hash != episode.content_hash:
                return 0  # it has grown, or somebody has written: whatever it is now is looked at next time
            patch = EpisodePatch(summary=summary, tags=_without(present.tags))
            await self._patch(present, patch)
        except NotFound:
            return 1
        except Conflict:
            return await self._settle_conflict(episode)
        return 1

    async def _settle_conflict(self, episode: Episode) -> int:
        """It has changed meanwhile, or says by its new summary what another one says already, or what was deleted."""
        try:
            present = await self._memory.get(f"/api/episodes/{episode.episode_id}", Episode, deadline=WITHIN)
        except NotFound:
            return 1
        return await self._untag(present) if present.content_hash == episode.content_hash else 0

    async def _untag(self, episode: Episode, *instead: str) -> int:
        """Let it wait no more; 1 where that was done."""
        try:
            await self._patch(episode, EpisodePatch(tags=(*_without(episode.tags), *instead)))
        except (NotFound, Conflict) as error:
            return int(isinstance(error, NotFound))
        return 1

    async def _patch(self, present: Episode, patch: EpisodePatch) -> None:
        path, query = f"/api/episodes/{present.episode_id}", {"content_hash": present.content_hash}
        await self._memory.request("PATCH", path, Episode, body=patch, query=query, deadline=WRITE)

    async def _page(self, skip: int, limit: int) -> EpisodePage:
        query: Query = {"tag": PENDING, "skip": skip, "limit": limit}
        return await self._memory.get("/api/episodes", EpisodePage, query=query, deadline=WITHIN)


def _without(tags: Sequence[str]) -> tuple[str, ...]:
    return tuple(tag for tag in tags if tag not in (PENDING, FAILED))
