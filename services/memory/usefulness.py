"""Which episodes were of use to those they were put before: counts an episode, and what follows for ranking.

The documents in the store are the truth; the counts here answer a search without a read. A report is durable when it
is answered; reports that come together share one write. A store in which nothing was reported ranks as if this were
not there.
"""

import asyncio
import contextlib
import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from anamnesis.contracts.base import now
from anamnesis.contracts.usefulness import EpisodeUsefulness, EpisodeVerdict, UsefulnessSummary, Verdict
from anamnesis.kit.errors import Busy, Unavailable
from services.memory.stores.base import USEFULNESS, Store

MAX_KNOWN = 100_000  # episodes whose counts are held; beyond it those that were reported longest ago do not sink
MAX_WAITING = 10_000  # verdicts that may wait for a store
NEVER_USED = 50  # episodes that a summary names
FROM = 3  # times that an episode was in vain before it sinks
HALF = 5.0  # times more after which it has sunk half as far as it can
_LOAD = 1_000  # documents read at a time
_LOOK_UP = 100  # episodes read at a time, only to see that they exist


class Counts(NamedTuple):
    """What was reported of an episode."""

    injected: int = 0
    used: int = 0
    helpful: int = 0
    unhelpful: int = 0
    last: datetime | None = None

    def plus(self, verdict: Verdict, at: datetime) -> "Counts":
        return Counts(
            self.injected + (verdict in (Verdict.USED, Verdict.UNUSED)),
            self.used + (verdict is Verdict.USED),
            self.helpful + (verdict is Verdict.HELPFUL),
            self.unhelpful + (verdict is Verdict.UNHELPFUL),
            at,
        )

    @property
    def in_vain(self) -> int:
        """How often it was put forward for nothing, somebody's word against it as two times; 0 once it was of use."""
        return 0 if self.used or self.helpful else self.injected + 2 * self.unhelpful

    @property
    def unused(self) -> float:
        """How far it sinks, 0..1: nothing at first, then ever more slowly."""
        over = self.in_vain - FROM + 1
        return 0.0 if over <= 0 else over / (over + HALF)


@dataclass(eq=False)
class _Report:
    verdicts: Sequence[EpisodeVerdict]
    counted: "asyncio.Future[int]"


class Usefulness:
    """Load it before use; `close` waits for the write under way."""

    def __init__(self, store: Store, most: int = MAX_KNOWN) -> None:
        self._store = store
        self._most = most
        self._known: dict[str, Counts] = {}
        """In the order of their last reports."""
        self._partial = False
        """Whether the store has counts that are not held."""
        self._totals = Counts()
        self._waiting: list[_Report] = []
        self._writing: asyncio.Task[None] | None = None
        self._removed: set[str] = set()
        """Removed while a write was under way."""

    async def load(self) -> None:
        """Read all counts. Those that do not fit are still part of the totals."""
        after: str | None = None
        while found := await self._store.list(USEFULNESS, after=after, limit=_LOAD):
            for document in found:
                self._keep(document.key, _counts(EpisodeUsefulness.model_validate(document.value)), Counts())
            after = found[-1].key

    async def close(self) -> None:
        if self._writing is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._writing

    # Reports ----------------------------------------------------------------------------------

    async def report(self, verdicts: Sequence[EpisodeVerdict]) -> int:
        """Count verdicts, each once more; durable when it returns how many were of episodes that there are.

        Raises what the store raises, and then nothing of it is counted here; `Busy` when too many wait.
        """
        if sum(len(one.verdicts) for one in self._waiting) + len(verdicts) > MAX_WAITING:
            raise Busy("too many reports of usefulness are waiting; send this again in a moment")
        report = _Report(verdicts, asyncio.get_running_loop().create_future())
        self._waiting.append(report)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all(), name="usefulness")
        return await report.counted

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await self._write(batch)
            except Exception as error:  # noqa: BLE001 - the task's edge: it is handed to those who wait
                for one in batch:
                    if not one.counted.done():
                        one.counted.set_exception(error)
            except BaseException:
                for one in [*batch, *self._waiting]:
                    if not one.counted.done():
                        one.counted.set_exception(Unavailable("the service is stopping; send this again"))
                raise

    async def _write(self, batch: Sequence[_Report]) -> None:
        self._removed.clear()
        before = await self._present({verdict.episode_id for one in batch for verdict in one.verdicts})
        after: dict[str, Counts] = {}
        moment = now()
        counted: list[int] = []
        for one in batch:
            known = [verdict for verdict in one.verdicts if verdict.episode_id in before]
            for episode_id, verdict in ((each.episode_id, each.verdict) for each in known):
                after[episode_id] = after.get(episode_id, before[episode_id]).plus(verdict, moment)
            counted.append(len(known))
        if after:
            values = {name: _shown(name, counts).model_dump(mode="json") for name, counts in after.items()}
            await self._store.write_many(USEFULNESS, values)
        for name, counts in after.items():
            if name in self._removed:  # it was written just after it had gone
                await self._store.delete(USEFULNESS, name)
            else:
                self._keep(name, counts, before[name])
        for one, number in zip(batch, counted, strict=True):
            if not one.counted.done():
                one.counted.set_result(number)

    async def _present(self, episode_ids: set[str]) -> dict[str, Counts]:
        """The counts of those that are episodes: reports may be late, or of what never was."""
        found = {name: self._known[name] for name in episode_ids if name in self._known}
        others = sorted(episode_ids - found.keys())
        for start in range(0, len(others), _LOOK_UP):
            for name in await self._store.get(others[start : start + _LOOK_UP]):
                document = await self._store.read(USEFULNESS, name) if self._partial else None
                value = None if document is None else EpisodeUsefulness.model_validate(document.value)
                found[name] = Counts() if value is None else _counts(value)
        return found

    def _keep(self, episode_id: str, new: Counts, old: Counts) -> None:
        self._known.pop(episode_id, None)
        self._known[episode_id] = new
        self._total(new, old)
        if len(self._known) > self._most:
            self._partial = True
            del self._known[next(iter(self._known))]

    def _total(self, new: Counts, old: Counts) -> None:
        total = self._totals
        self._totals = Counts(
            total.injected + new.injected - old.injected,
            total.used + new.used - old.used,
            total.helpful + new.helpful - old.helpful,
            total.unhelpful + new.unhelpful - old.unhelpful,
        )

    def removed(self, episode_ids: Iterable[str]) -> None:
        """Episodes that are gone; the store has removed their counts with them."""
        for name in episode_ids:
            if self._writing is not None and not self._writing.done():
                self._removed.add(name)
            counts = self._known.pop(name, None)
            if counts is not None:
                self._total(Counts(), counts)

    # What follows -----------------------------------------------------------------------------

    def unused(self, episode_ids: Iterable[str]) -> Mapping[str, float]:
        """How far episodes sink, 0..1; only those that do."""
        if not self._known:
            return {}
        found = ((name, self._known[name].unused) for name in episode_ids if name in self._known)
        return {name: value for name, value in found if value}

    async def summary(self) -> UsefulnessSummary:
        worst = await asyncio.to_thread(_worst, list(self._known.items()))
        total = self._totals
        return UsefulnessSummary(
            injected=total.injected,
            used=total.used,
            helpful=total.helpful,
            unhelpful=total.unhelpful,
            never_used=tuple(_shown(name, counts) for name, counts in worst),
        )


def _worst(known: Sequence[tuple[str, Counts]]) -> list[tuple[str, Counts]]:
    in_vain = ((name, counts) for name, counts in known if counts.in_vain)
    return heapq.nlargest(NEVER_USED, in_vain, key=lambda one: (one[1].in_vain, one[0]))


def _counts(one: EpisodeUsefulness) -> Counts:
    return Counts(one.injected, one.used, one.helpful, one.unhelpful, one.last)


def _shown(episode_id: str, one: Counts) -> EpisodeUsefulness:
    return EpisodeUsefulness(episode_id=episode_id, **one._asdict())
