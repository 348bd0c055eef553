"""A memory service in memory, with the door's rules; it can be told to fail."""

import hashlib
from collections.abc import Mapping, Sequence

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.episodes import BatchResult, EpisodeBatch, EpisodeCreate, WriteResult, WriteStatus
from anamnesis.kit.errors import Invalid, Unavailable


class Memory:
    """Keeps what it is given. `fail_push` and `lose_answer` count down failures before and after the write."""

    def __init__(self) -> None:
        self.episodes: dict[str, EpisodeCreate] = {}
        self.marks: dict[str, JsonObject] = {}
        self.batches: list[int] = []
        self.pushed: list[str] = []
        self.fail_push = 0
        self.lose_answer = 0
        self.fail_save = 0
        self.refuse: set[str] = set()
        self.away = False

    async def load_offsets(self) -> Mapping[str, JsonObject]:
        return dict(self.marks)

    async def save_offsets(self, marks: Mapping[str, JsonObject]) -> None:
        if self.fail_save:
            self.fail_save -= 1
            raise Unavailable("away")
        self.marks.update(marks)

    async def remove_offsets(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.marks.pop(key, None)

    async def push(self, batch: EpisodeBatch) -> BatchResult:
        if self.fail_push:
            self.fail_push -= 1
            raise Unavailable("away")
        ids = [one.episode_id or "" for one in batch.episodes]
        if not self.refuse.isdisjoint(ids):
            raise Invalid("there is one that does not fit")
        self.batches.append(len(ids))
        self.pushed += ids
        results = tuple(self._write(one, batch.on_conflict == "update") for one in batch.episodes)
        if self.lose_answer:
            self.lose_answer -= 1
            raise Unavailable("gone while answering")
        return BatchResult(results=results)

    def _write(self, one: EpisodeCreate, update: bool) -> WriteResult:
        name = one.episode_id or ""
        present = self.episodes.get(name)
        if present is not None and (not update or _digest(present) == _digest(one)):
            return WriteResult(episode_id=name, status=WriteStatus.DUPLICATE)
        self.episodes[name] = one
        return WriteResult(episode_id=name, status=WriteStatus.UPDATED if present else WriteStatus.CREATED)


def _digest(one: EpisodeCreate) -> str:
    return hashlib.sha256(f"{one.summary}\x00{one.raw_exchange}".encode()).hexdigest()
