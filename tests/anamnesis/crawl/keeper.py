"""A memory service in memory, with the rules of its door and of its store; it can be told to fail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.episodes import (
    MAX_TAGS,
    Amended,
    Amendment,
    BatchResult,
    EpisodeBatch,
    EpisodeCreate,
    EpisodeSource,
    WriteResult,
    WriteStatus,
)
from anamnesis.kit.errors import Conflict, Invalid, NotFound, Unavailable


@dataclass
class Memory:
    """What all machines write to."""

    episodes: dict[str, EpisodeCreate] = field(default_factory=dict)
    superseded: dict[str, str] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    marks: dict[str, dict[str, JsonObject]] = field(default_factory=dict)

    def current(self, tag: str = "") -> dict[str, EpisodeCreate]:
        """Episodes that are neither replaced nor marked as deleted, by id."""
        return {
            name: one
            for name, one in self.episodes.items()
            if name not in self.superseded and "deleted" not in one.tags and (not tag or tag in one.tags)
        }

    def texts(self, tag: str = "") -> set[str]:
        return {one.raw_exchange or "" for one in self.current(tag).values()}

    def delete(self, name: str) -> None:
        """As a person deletes an episode: what it had replaced is current again, and it does not come back."""
        del self.episodes[name]
        self.blocked.add(name)
        self.superseded = {one: by for one, by in self.superseded.items() if name not in (one, by)}


class Keeper:
    """One machine's way to a memory. `fault` makes the call with that number fail, before it did anything or after."""

    def __init__(self, memory: Memory, namespace: str = "a") -> None:
        self.memory = memory
        self.marks = memory.marks.setdefault(namespace, {})
        self.calls: list[str] = []
        self.sent = 0
        """Characters of episodes."""
        self.batches: list[int] = []
        self.fault: tuple[int, str] | None = None
        self.refuse: set[str] = set()
        """Words that no episode may hold."""
        self.away = False

    def _begin(self, name: str) -> None:
        self.calls.append(name)
        if self.fault is not None:
            self.fault = (self.fault[0] - 1, self.fault[1])
            if self.fault == (0, "before"):
                raise Unavailable("away")

    def _end(self) -> None:
        if self.fault == (0, "after"):
            raise Unavailable("gone while answering")

    async def load_offsets(self) -> Mapping[str, JsonObject]:
        self._begin("load")
        self._end()
        return dict(self.marks)

    async def save_offsets(self, marks: Mapping[str, JsonObject]) -> None:
        self._begin("save")
        self.marks.update(marks)
        self._end()

    async def remove_offsets(self, keys: Sequence[str]) -> None:
        self._begin("remove")
        for key in keys:
            self.marks.pop(key, None)
        self._end()

    async def push(self, batch: EpisodeBatch) -> BatchResult:
        self._begin("push")
        self.batches.append(len(batch.episodes))
        self.sent += sum(len(one.raw_exchange or "") for one in batch.episodes)
        if any(word in (one.raw_exchange or "") for one in batch.episodes for word in self.refuse):
            raise Invalid("there is one that does not fit")
        results = tuple(self._write(one, batch.on_conflict == "update") for one in batch.episodes)
        self._end()
        return BatchResult(results=results)

    def _write(self, one: EpisodeCreate, update: bool) -> WriteResult:
        name = one.episode_id or ""
        memory = self.memory
        present = memory.episodes.get(name)
        twins = (other for other, kept in memory.episodes.items() if _content(kept) == _content(one))
        twin = next(twins, None)
        if name in memory.blocked:
            return WriteResult(episode_id=name, status=WriteStatus.BLOCKED)
        if twin is not None or (present is not None and not update):
            return WriteResult(episode_id=name, status=WriteStatus.DUPLICATE, duplicate_of=twin or name)
        if present is not None:  # an update adds its tags; those that are there stay
            one = one.model_copy(update={"tags": tuple(dict.fromkeys((*present.tags, *one.tags)))})
        memory.episodes[name] = one
        return WriteResult(episode_id=name, status=WriteStatus.UPDATED if present else WriteStatus.CREATED)

    async def supersede(self, episode_ids: Sequence[str], by: str) -> None:
        self._begin("supersede")
        if any(one not in self.memory.episodes for one in (*episode_ids, by)):
            raise NotFound("there is no such episode")
        at: str | None = by
        while at is not None:
            if at in episode_ids:
                raise Conflict("in a circle")
            at = self.memory.superseded.get(at)
        self.memory.superseded.update(dict.fromkeys(episode_ids, by))
        self._end()

    async def unsupersede(self, episode_ids: Sequence[str]) -> None:
        if not episode_ids:
            return
        self._begin("unsupersede")
        for one in episode_ids:
            self.memory.superseded.pop(one, None)
        self._end()

    async def amend(self, amendments: Sequence[Amendment]) -> list[Amended]:
        if not amendments:
            return []
        self._begin("amend")
        after: dict[str, EpisodeCreate] = {}
        answers = []
        for change in amendments:
            one = after.get(change.episode_id) or self.memory.episodes.get(change.episode_id)
            if one is None:
                answers.append(Amended(episode_id=change.episode_id, found=False))
                continue
            tags = tuple(dict.fromkeys((*one.tags, *change.add_tags)))
            tags = tuple(tag for tag in tags if tag not in change.remove_tags)
            if len(tags) > MAX_TAGS:
                raise Invalid("too many tags")
            source = one.source or EpisodeSource(kind="file")
            place = {name: value for name in ("path", "line", "last_line") if (value := getattr(change, name))}
            after[change.episode_id] = one.model_copy(update={"tags": tags, "source": source.model_copy(update=place)})
            answers.append(Amended(episode_id=change.episode_id, found=True, tags=tags))
        self.memory.episodes.update(after)
        self._end()
        return answers


def _content(one: EpisodeCreate) -> tuple[str, str, str | None]:
    return one.project, one.summary, one.raw_exchange
