"""What is pushed, on its way: exchanges that a model has summarised before get that summary, others are marked.

So an exchange that is read again ends as the episode that it was, and nothing waits for a model.
"""

from collections.abc import Callable, Mapping, Sequence

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.episodes import BatchResult, EpisodeBatch, EpisodeCreate
from anamnesis.contracts.summaries import PENDING, Summarising
from anamnesis.destination import Destination
from anamnesis.kit.errors import AnamnesisError
from services.ingest.summaries.asking import profits
from services.ingest.summaries.cache import Cache, Known, opened

GIVE_UP = 3
"""Passes in which a model may fail at an exchange before the extractive summary stays."""


class Marking:
    """A destination before another."""

    def __init__(self, inner: Destination, cache: Cache, by: Callable[[], Summarising]) -> None:
        self._inner = inner
        self._cache = cache
        self._by = by

    @property
    def away(self) -> bool:
        return self._inner.away

    async def load_offsets(self) -> Mapping[str, JsonObject]:
        return await self._inner.load_offsets()

    async def save_offsets(self, marks: Mapping[str, JsonObject]) -> None:
        await self._inner.save_offsets(marks)

    async def remove_offsets(self, keys: Sequence[str]) -> None:
        await self._inner.remove_offsets(keys)

    async def push(self, batch: EpisodeBatch) -> BatchResult:
        by = self._by()
        if by.backend == "extractive":
            return await self._inner.push(batch)
        exchanges = {one.raw_exchange for one in batch.episodes if _profits(one) and one.raw_exchange is not None}
        try:
            known = await self._cache.read(by, exchanges)
        except AnamnesisError:
            known = {}  # the next pass looks again; until then the extractive summary serves
        episodes = tuple(_summarised(one, known) if _profits(one) else one for one in batch.episodes)
        return await self._inner.push(batch.model_copy(update={"episodes": episodes}))


def _profits(one: EpisodeCreate) -> bool:
    return one.source is not None and profits(one.source.kind, one.trust, one.raw_exchange)


def _summarised(one: EpisodeCreate, all_known: Mapping[str, Known]) -> EpisodeCreate:
    raw = one.raw_exchange or ""
    known = all_known.get(raw, Known())
    summary = opened(known, raw)
    if summary is not None:
        return one.model_copy(update={"summary": summary})
    if known.failed >= GIVE_UP:
        return one
    return one.model_copy(update={"tags": (*one.tags, PENDING)})
