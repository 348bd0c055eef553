"""The door: the one way in for text. Redacts, names, hashes, refuses what was forgotten, embeds, stores.

Whoever writes (the API, an import, the ingest service) passes here, so no secret reaches the
store or the embedding model, and nothing that was deleted on purpose comes back.
"""

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from pydantic import JsonValue

from anamnesis.contracts.base import MAX_NAME, MAX_TAG, JsonObject, now
from anamnesis.contracts.episodes import (
    MAX_PLACE,
    MAX_RAW,
    MAX_SUMMARY,
    MAX_TAGS,
    Amended,
    Amendment,
    Episode,
    EpisodeCreate,
    EpisodePatch,
    EpisodeSource,
    WriteResult,
    WriteStatus,
)
from anamnesis.kit.errors import Conflict, NotFound
from anamnesis.redact import redact
from services.memory.blocklist import Blocks
from services.memory.held import Held
from services.memory.search.text import passage, terms
from services.memory.stores.base import Joining, Record, Store, Vectors

OnConflict = Literal["skip", "update"]
Count = Callable[[Mapping[str, int]], None]
DELETED = "this was deleted on purpose; lift it from the blocklist first"
_SLUG = re.compile(r"[^a-z0-9]+")


class PassageEmbedder(Protocol):
    """Turns the texts of episodes into vectors, by the model that is active when it is called."""

    def writing(self) -> AbstractAsyncContextManager[None]:
        """Held from embedding to storing, so that the model is not switched in between."""

    async def passages(self, texts: Sequence[str]) -> tuple[str, list[Vectors]]:
        """The model's name, and per text the (w d) unit vectors of its windows."""


Redacted = dict[str, str | EpisodeSource | tuple[str, ...] | None]
"""Fields of an episode, by name."""


class Text(NamedTuple):
    """Words on their way in that are no episode."""

    text: str
    most: int
    """Characters that are kept."""
    name: bool = False
    """A project or an instance, which is redacted as those of episodes are, so that they stay the same."""


class _Cleaned(NamedTuple):
    create: EpisodeCreate
    redactions: int


@dataclass(frozen=True)
class Door:
    """Writes episodes. All its methods are safe to repeat."""

    store: Store
    blocks: Blocks
    embedder: PassageEmbedder
    workers: Executor
    """Where redaction and hashing of large batches run, away from the event loop."""
    entropy: bool = False
    count_redactions: Count = lambda counts: None
    held: Held = field(default_factory=Held)
    """Ids that are being written: what is read, embedded for seconds and then replaced must not change meanwhile."""

    async def write(self, batch: Sequence[EpisodeCreate], on_conflict: OnConflict = "skip") -> list[WriteResult]:
        """Write new episodes; one result each, in order. Durable when it returns."""
        cleaned = await asyncio.get_running_loop().run_in_executor(self.workers, self._clean, batch)
        results = await self.restore([create_to_episode(one.create) for one in cleaned], on_conflict)
        return [
            result.model_copy(update={"redactions": one.redactions})
            for result, one in zip(results, cleaned, strict=True)
        ]

    async def restore(self, episodes: Sequence[Episode], on_conflict: OnConflict = "skip") -> list[WriteResult]:
        """Write whole episodes whose text has been cleaned already; one result each, in order.

        An update replaces text, source and trust, and adds its tags; what a person may have changed by hand
        (tags, project, instance, time) stays. Of several versions of one id the last one counts.
        """
        async with self.held.hold({one.episode_id for one in episodes}):
            return await self._restore(episodes, on_conflict)

    async def _restore(self, episodes: Sequence[Episode], on_conflict: OnConflict) -> list[WriteResult]:
        await self.blocks.settle(self.store)
        last = {one.episode_id: index for index, one in enumerate(episodes)}
        known = await self.store.get([one.episode_id for one in episodes])
        # As each would be stored: an episode that a person has moved grows in the project that it is in now.
        wanted = [
            _grown(known[one.episode_id], one) if on_conflict == "update" and one.episode_id in known else one
            for one in episodes
        ]
        holders = await self.store.find_content([_content(one) for one in wanted])
        results: dict[int, WriteResult] = {}
        fresh: dict[int, Episode] = {}
        changed: dict[int, Episode] = {}
        for index, (given, one) in enumerate(zip(episodes, wanted, strict=True)):
            twin = holders.get(_content(one))
            if self.blocks.holds(one.episode_id, one.content_hash, given.consolidated_from):
                results[index] = WriteResult(episode_id=one.episode_id, status=WriteStatus.BLOCKED)
            elif on_conflict == "update" and last[one.episode_id] != index:
                results[index] = _duplicate(one.episode_id, one.episode_id)
            elif twin is not None or (one.episode_id in known and on_conflict == "skip"):
                results[index] = _duplicate(one.episode_id, twin or one.episode_id)
            else:
                (changed if one.episode_id in known else fresh)[index] = one
                if on_conflict == "update":  # a store keeps new ones apart, but lets a replacement hold any text
                    holders[_content(one)] = one.episode_id
        if fresh or changed:
            async with self.embedder.writing():
                await self._store_all(fresh, changed, results)
        return [results[index] for index in range(len(episodes))]

    async def _store_all(
        self, fresh: Mapping[int, Episode], changed: Mapping[int, Episode], results: dict[int, WriteResult]
    ) -> None:
        """Embed and store new and changed episodes; their results by place."""
        embedded = await self._records([*fresh.values(), *changed.values()])
        records = dict(zip([*fresh, *changed], embedded, strict=True))
        for index, record in records.items():
            # Embedding takes long: what was forgotten meanwhile must not come back either.
            made_from = record.episode.consolidated_from if index in fresh else ()
            if self.blocks.holds(record.episode.episode_id, record.episode.content_hash, made_from):
                results[index] = WriteResult(episode_id=record.episode.episode_id, status=WriteStatus.BLOCKED)
        fresh = {index: one for index, one in fresh.items() if index not in results}
        changed = {index: one for index, one in changed.items() if index not in results}
        if fresh:
            inserted = await self.store.insert([records[index] for index in fresh])
            for (index, one), outcome in zip(fresh.items(), inserted, strict=True):
                results[index] = (
                    WriteResult(episode_id=one.episode_id, status=WriteStatus.CREATED)
                    if outcome.created
                    else _duplicate(one.episode_id, outcome.duplicate_of or one.episode_id)
                )
        if changed:
            await self._part([one.episode for one in (records[index] for index in changed)])
            replaced = await self.store.replace([records[index] for index in changed])
            for (index, one), done in zip(changed.items(), replaced, strict=True):
                status = WriteStatus.UPDATED if done else WriteStatus.DUPLICATE
                results[index] = WriteResult(episode_id=one.episode_id, status=status)

    async def amend(self, amendments: Sequence[Amendment]) -> list[Amended]:
        """Change tags and places, which become part of an episode: redacted as those of new ones are."""

        def all_of_them() -> list[Amendment]:
            counts: Counter[str] = Counter()
            cleaned = [self._amendment(one, counts) for one in amendments]
            self.count_redactions(counts)
            return cleaned

        cleaned = await asyncio.get_running_loop().run_in_executor(self.workers, all_of_them)
        # A writer that has read the tags, and embeds for seconds before it writes them, must not take this back.
        async with self.held.hold({one.episode_id for one in cleaned}):
            return await self.store.amend(cleaned)

    def _amendment(self, one: Amendment, counts: Counter[str]) -> Amendment:
        def without_secrets(text: str, most: int) -> str:
            done = redact(text, entropy=self.entropy)
            counts.update(done.counts)
            return done.text[:most]

        def tags(given: Sequence[str]) -> tuple[str, ...]:
            return tuple(dict.fromkeys(without_secrets(tag, MAX_TAG) or "(private)" for tag in given))

        return one.model_copy(
            update={
                "add_tags": tags(one.add_tags),
                "remove_tags": tags(one.remove_tags),
                "path": None if one.path is None else without_secrets(one.path, MAX_PLACE),
            }
        )

    async def join(self, made: Sequence[tuple[Episode, Mapping[str, str]]]) -> list[bool]:
        """Write episodes that come in the place of others (id -> the content hash that it must still have).

        Each is made of texts that have been cleaned already. False where it is blocked, where it exists, or where one
        of the others has changed; then nothing of it is done.
        """
        async with self.held.hold({name for one, members in made for name in (one.episode_id, *members)}):
            await self.blocks.settle(self.store)
            async with self.embedder.writing():
                records = await self._records([one for one, _ in made])
                # Embedding takes long: what was forgotten meanwhile must not come back either.
                allowed = [not self._is_blocked(one) for one, _ in made]
                joinings = [
                    Joining(record, members)
                    for record, (_, members), free in zip(records, made, allowed, strict=True)
                    if free
                ]
                done = iter(await self.store.join(joinings))
        return [free and next(done) for free in allowed]

    async def could_join(self, made: Sequence[tuple[Episode, Mapping[str, str]]]) -> list[bool]:
        """What `join` would answer now."""
        await self.blocks.settle(self.store)
        present = await self.store.get([name for one, members in made for name in (one.episode_id, *members)])
        twins = await self.store.find_content([_content(one) for one, _ in made])
        return [
            not (self._is_blocked(one) or one.episode_id in present or _content(one) in twins)
            and all(
                name in present and present[name].content_hash == content and present[name].superseded_by is None
                for name, content in members.items()
            )
            for one, members in made
        ]

    def _is_blocked(self, one: Episode) -> bool:
        return self.blocks.holds(one.episode_id, one.content_hash, one.consolidated_from)

    async def clean(self, episodes: Sequence[Episode]) -> list[Episode]:
        """Whole episodes as the door would store them: redacted and hashed again."""

        def all_of_them() -> list[Episode]:
            counts: Counter[str] = Counter()
            cleaned = [one.model_copy(update=self._redacted(one, counts)) for one in episodes]
            self.count_redactions(counts)
            return [
                one.model_copy(update={"content_hash": content_hash(one.summary, one.raw_exchange)}) for one in cleaned
            ]

        return await asyncio.get_running_loop().run_in_executor(self.workers, all_of_them)

    async def clean_texts(self, texts: Sequence[Text]) -> list[str]:
        """Texts without secrets and without what cannot be stored, in order; a private one says so."""

        def all_of_them() -> list[str]:
            counts: Counter[str] = Counter()
            cleaned = []
            for text, most, name in texts:
                done = redact(_storable(text), entropy=self.entropy and not name)
                counts.update(done.counts)
                cleaned.append(done.text[:most].strip() or ("(private)" if text.strip() else ""))
            self.count_redactions(counts)
            return cleaned

        return await asyncio.get_running_loop().run_in_executor(self.workers, all_of_them)

    async def clean_json(self, value: JsonObject) -> JsonObject:
        """A document without secrets, in its names and its texts. Never by entropy: ids look random."""
        counts: Counter[str] = Counter()

        def cleaned(one: JsonValue) -> JsonValue:
            match one:
                case str():
                    done = redact(one)
                    counts.update(done.counts)
                    return done.text if done.text or not one else "(private)"
                case list():
                    return [cleaned(each) for each in one]
                case dict():
                    return {str(cleaned(name)): cleaned(each) for name, each in one.items()}
                case _:
                    return one

        def all_of_it() -> JsonObject:
            return {str(cleaned(name)): cleaned(each) for name, each in value.items()}

        done = await asyncio.get_running_loop().run_in_executor(self.workers, all_of_it)
        self.count_redactions(counts)
        return done

    async def patch(self, episode_id: str, patch: EpisodePatch, expected: str | None = None) -> Episode:
        """Change fields of one episode. Raises `NotFound`, or `Conflict` when its twin exists or was forgotten, or when
        its content hash is not the `expected` one."""
        async with self.held.hold({episode_id}):
            return await self._patch(episode_id, patch, expected)

    async def _patch(self, episode_id: str, patch: EpisodePatch, expected: str | None) -> Episode:
        present = (await self.store.get([episode_id])).get(episode_id)
        if present is None:
            raise NotFound(f"there is no episode {episode_id}")
        if expected is not None and present.content_hash != expected:
            raise Conflict("the episode has changed meanwhile; read it again", {"content_hash": present.content_hash})
        given = patch.model_dump(exclude_none=True)
        [changed] = await self.clean([Episode.model_validate({**present.model_dump(), **given})])
        if changed == present:
            return present
        await self.blocks.settle(self.store)
        self._refuse_forgotten(present, changed)
        twin = (await self.store.find_content([(changed.project, changed.content_hash)])).values()
        if any(other != episode_id for other in twin):
            raise Conflict("another episode of that project has the same content", {"episode_id": next(iter(twin))})
        async with self.embedder.writing():
            [record] = await self._records([changed])
            self._refuse_forgotten(present, changed)  # embedding takes long: it may have been forgotten meanwhile
            parted = False
            if (changed.content_hash, changed.project) != (present.content_hash, present.project):
                parted = await self._part([record.episode])
            done = await self.store.replace([record])
        if not done[0]:
            raise NotFound(f"there is no episode {episode_id}")
        return record.episode.model_copy(update={"superseded_by": None}) if parted else record.episode

    async def _part(self, changed: Sequence[Episode]) -> bool:
        """Make those current that an episode made from their former texts supersedes: it does not tell the new ones.

        Before they are written: a crash in between leaves two where one would do, and loses nothing.
        """
        replaced = [one for one in changed if one.superseded_by is not None]
        if not replaced:
            return False
        successors = await self.store.get(list({one.superseded_by for one in replaced if one.superseded_by}))
        alone = [
            one.episode_id
            for one in replaced
            if (by := successors.get(one.superseded_by or "")) is not None and one.episode_id in by.consolidated_from
        ]
        return bool(alone) and await self.store.supersede(alone, None) > 0

    def _refuse_forgotten(self, present: Episode, changed: Episode) -> None:
        """Other fields of an episode may change though its own text was deleted elsewhere."""
        if changed.content_hash != present.content_hash and self.blocks.holds_content(changed.content_hash):
            detail: JsonObject = {"episode_id": present.episode_id, "status": WriteStatus.BLOCKED.value}
            raise Conflict(DELETED, detail)

    async def _records(self, episodes: Sequence[Episode]) -> list[Record]:
        if not episodes:
            return []
        texts = [passage(one.summary, one.raw_exchange) for one in episodes]
        loop = asyncio.get_running_loop()
        counting = loop.run_in_executor(self.workers, lambda: [terms(text) for text in texts])
        model, vectors = await self.embedder.passages(texts)
        return [
            Record(one.model_copy(update={"embedding_model": model}), own, counted)
            for one, own, counted in zip(episodes, vectors, await counting, strict=True)
        ]

    def _clean(self, batch: Sequence[EpisodeCreate]) -> list[_Cleaned]:
        cleaned = []
        for one in batch:
            counts: Counter[str] = Counter()
            update = self._redacted(one, counts)
            cleaned.append(_Cleaned(one.model_copy(update=update), counts.total()))
            self.count_redactions(counts)
        return cleaned

    def _redacted(self, one: Episode | EpisodeCreate, counts: Counter[str]) -> Redacted:
        """The fields that hold text, without secrets. A summary that was private as a whole says so."""

        def without_secrets(text: str | None, most: int) -> str | None:
            if not text:
                return text
            done = redact(text, entropy=self.entropy)
            counts.update(done.counts)
            return done.text[:most]  # a mark may be longer than the secret that it stands for

        def name_without_secrets(name: str) -> str:
            # Never by entropy: an id looks random, and what carries it belongs together.
            done = redact(name)
            counts.update(done.counts)
            return done.text[:MAX_NAME].strip() or "(private)"

        fields: Redacted = {
            "instance": name_without_secrets(one.instance),
            "project": name_without_secrets(one.project),
            "summary": (without_secrets(one.summary, MAX_SUMMARY) or "").strip() or "(private)",
            "raw_exchange": without_secrets(one.raw_exchange, MAX_RAW),
            "tags": tuple(dict.fromkeys(without_secrets(tag, MAX_TAG) or "(private)" for tag in one.tags)),
        }
        if one.source is not None:
            source = one.source
            places = {"url": source.url, "path": source.path, "section": source.section}
            names = {
                "kind": source.kind,
                "session": source.session,
                "uuid": source.uuid,
                "parent": source.parent,
                "last_uuid": source.last_uuid,
            }
            fields["source"] = source.model_copy(
                update={name: without_secrets(place, MAX_PLACE) for name, place in places.items()}
                | {name: name_without_secrets(value) for name, value in names.items() if value}
            )
        return fields


def content_hash(summary: str, raw_exchange: str | None) -> str:
    """SHA-256 (hex) of what an episode says, as stored."""
    digest = hashlib.sha256(summary.encode())
    digest.update(b"\x00")
    digest.update((raw_exchange or "").encode())
    return digest.hexdigest()


def _storable(text: str) -> str:
    """Without NUL and lone surrogates, which models do write and databases do not take."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _content(one: Episode) -> tuple[str, str]:
    return one.project, one.content_hash


def create_to_episode(create: EpisodeCreate) -> Episode:
    """A new episode as it will be stored: id and time made where none came."""
    moment = now()
    timestamp = create.timestamp or moment
    digest = content_hash(create.summary, create.raw_exchange)
    made = f"ep_{timestamp:%Y%m%d}_{_slug(create.instance)}_{_slug(create.project)}_{digest[:12]}"
    return Episode(
        episode_id=create.episode_id or made,
        timestamp=timestamp,
        ingested_at=moment,
        instance=create.instance,
        project=create.project,
        summary=create.summary,
        raw_exchange=create.raw_exchange,
        tags=create.tags,
        source=create.source or EpisodeSource(kind="api"),
        trust=create.trust,
        content_hash=digest,
    )


def _grown(present: Episode, newer: Episode) -> Episode:
    """The episode that exists, with the text of its newer version."""
    return present.model_copy(
        update={
            "summary": newer.summary,
            "raw_exchange": newer.raw_exchange,
            "content_hash": newer.content_hash,
            "source": newer.source,
            "trust": newer.trust,
            "tags": tuple(dict.fromkeys((*present.tags, *newer.tags)))[:MAX_TAGS],
        }
    )


def _slug(text: str) -> str:
    return _SLUG.sub("-", text.lower()).strip("-")[:24] or "x"


def _duplicate(episode_id: str, of: str) -> WriteResult:
    return WriteResult(episode_id=episode_id, status=WriteStatus.DUPLICATE, duplicate_of=of)
