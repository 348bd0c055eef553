"""What each write does inside its transaction on MongoDB.

An episode, its vectors of all models and the blocklist change together or not at all, so a kill -9 between any
two statements leaves what was there before. Functions here may run more than once; only the last run counts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeVar, cast

from pymongo import UpdateMany, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection

from anamnesis.contracts.episodes import Amended, Amendment
from anamnesis.kit.errors import Conflict, NotFound
from services.memory.stores import amending, mongo_state
from services.memory.stores import mongo_documents as documents
from services.memory.stores.base import BLOCKLIST, IN_A_CIRCLE, USEFULNESS, Inserted, Joining, Record, Removal, Vectors
from services.memory.stores.mongo_documents import Stored

MOST_BYTES = 16_000_000
"""Text and vectors of one transaction; larger batches are written in several, each whole."""

_WINDOW = 500
"""Bytes of a window's document beside its vector, about."""

Session = AsyncClientSession
T = TypeVar("T")


@dataclass(frozen=True)
class Places:
    """The collections that a write touches."""

    episodes: AsyncCollection[Stored]
    state: AsyncCollection[Stored]
    windows: Mapping[str, AsyncCollection[Stored]]
    """By model."""


def batches(items: Iterable[T], weight: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in order, in lists that fit a transaction."""
    batch: list[T] = []
    size = 0
    for item in items:
        own = weight(item)
        if batch and size + own > MOST_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += own
    if batch:
        yield batch


def weight(record: Record) -> int:
    """About how many bytes a record brings to a transaction."""
    episode = record.episode
    text = 3 * (len(episode.summary) + len(episode.raw_exchange or ""))  # the text, and its terms
    return text + (0 if record.vectors is None else weight_of_vectors(record.vectors))


def weight_of_vectors(vectors: Vectors) -> int:
    return vectors.nbytes + _WINDOW * len(vectors)


async def insert(places: Places, batch: Sequence[Record], session: Session) -> list[Inserted]:
    """Add those that nothing stands in the way of."""
    ids = [record.episode.episode_id for record in batch]
    taken = {
        cast(str, found["_id"])
        async for found in places.episodes.find({"_id": {"$in": ids}}, {"_id": 1}, session=session)
    }
    contents = await holders(places, [_content(record) for record in batch], session)
    results: list[Inserted] = []
    fresh: list[Record] = []
    for record in batch:
        episode_id = record.episode.episode_id
        if episode_id in taken:
            results.append(Inserted(False, episode_id))
        elif (other := contents.get(_content(record))) is not None:
            results.append(Inserted(False, other))
        else:
            taken.add(episode_id)
            contents[_content(record)] = episode_id
            fresh.append(record)
            results.append(Inserted(True))
    if fresh:
        rows = [documents.of_record(record, _models(record)) for record in fresh]
        await places.episodes.insert_many(rows, session=session)
        await _add_windows(places, fresh, rows, session)
    return results


async def replace(places: Places, batch: Sequence[Record], session: Session) -> dict[str, bool]:
    """Write anew those that exist; returns their ids, and whether each is superseded.

    Of several records with one id the last one counts.
    """
    latest = {record.episode.episode_id: record for record in batch}
    shown = {"superseded": 1}
    found = {
        cast(str, one["_id"]): cast(bool, one["superseded"])
        async for one in places.episodes.find({"_id": {"$in": list(latest)}}, shown, session=session)
    }
    records = [record for episode_id, record in latest.items() if episode_id in found]
    if not records:
        return found
    taken = await holders(places, [_content(record) for record in records], session, besides=list(found))
    rows: list[Stored] = []
    for record in records:
        row = documents.content(record, _models(record))
        row["sole"] = _content(record) not in taken
        taken.setdefault(_content(record), record.episode.episode_id)
        rows.append(row)
    # First nobody holds a content for itself, then each takes its new one: two that swap theirs must not collide.
    await places.episodes.update_many({"_id": {"$in": list(found)}}, {"$set": {"sole": False}}, session=session)
    updates = [UpdateOne({"_id": row["episode_id"]}, {"$set": row}) for row in rows]
    await places.episodes.bulk_write(updates, session=session)
    await drop_windows(places, list(found), session)
    marked = [{**row, "superseded": found[cast(str, row["episode_id"])]} for row in rows]
    await _add_windows(places, records, marked, session)
    return found


class Amending(NamedTuple):
    """What amendments did."""

    results: list[Amended]
    retagged: list[str]
    """Episodes with other tags now."""


async def amend(places: Places, amendments: Sequence[Amendment], session: Session) -> Amending:
    """Change tags and places, in the episodes and in the filter field of their windows, in order."""
    ids = list({one.episode_id for one in amendments})
    present = {
        cast(str, found["_id"]): tuple(cast(list[str], found["tags"]))
        async for found in places.episodes.find({"_id": {"$in": ids}}, {"tags": 1}, session=session)
    }
    tags = dict(present)
    updates: list[UpdateOne] = []
    results: list[Amended] = []
    for one in amendments:
        if one.episode_id not in tags:
            results.append(Amended(episode_id=one.episode_id, found=False))
            continue
        tags[one.episode_id] = amended = amending.tags(tags[one.episode_id], one)
        fields = {f"source.{name}": value for name, value in amending.source(one).items()}
        updates.append(UpdateOne({"_id": one.episode_id}, {"$set": {"tags": list(amended), **fields}}))
        results.append(Amended(episode_id=one.episode_id, found=True, tags=amended))
    if updates:
        await places.episodes.bulk_write(updates, session=session)
    alike: dict[tuple[str, ...], list[str]] = {}
    for episode_id, amended in tags.items():
        if amended != present[episode_id]:
            alike.setdefault(amended, []).append(episode_id)
    if alike:
        retag = [UpdateMany({"episode_id": {"$in": of}}, {"$set": {"tags": list(one)}}) for one, of in alike.items()]
        for windows in places.windows.values():
            await windows.bulk_write(retag, session=session)
    return Amending(results, [episode_id for of in alike.values() for episode_id in of])


async def join(places: Places, joining: Joining, session: Session) -> bool:
    """Add the record, and mark its members as superseded by it, where all of them are as they were."""
    query: Stored = {"_id": {"$in": list(joining.members)}, "superseded": False}
    found = {
        cast(str, one["_id"]): cast(str, one["content_hash"])
        async for one in places.episodes.find(query, {"content_hash": 1}, session=session)
    }
    if found != joining.members or not (await insert(places, [joining.record], session))[0].created:
        return False
    await mark(places, list(joining.members), joining.record.episode.episode_id, session)
    return True


async def remove(places: Places, removal: Removal, session: Session) -> tuple[int, int, list[str]]:
    """How many episodes and how many vectors went, and the ids that are no longer superseded."""
    ids = list(removal.episode_ids)
    freed = await superseded_by(places, ids, session)
    await mark(places, freed, None, session)
    gone = (await places.episodes.delete_many({"_id": {"$in": ids}}, session=session)).deleted_count
    windows = await drop_windows(places, ids, session)
    await mongo_state.remove(places.state, USEFULNESS, ids, session)
    if removal.block:
        await mongo_state.write_many(places.state, BLOCKLIST, removal.block, session)
    return gone, windows, freed


async def superseded_by(places: Places, ids: Sequence[str], session: Session) -> list[str]:
    """Ids of others that are superseded by one of these."""
    query: Stored = {"superseded": True, "superseded_by": {"$in": list(ids)}, "_id": {"$nin": list(ids)}}
    return [cast(str, one["_id"]) async for one in places.episodes.find(query, {"_id": 1}, session=session)]


async def supersede(places: Places, ids: Sequence[str], by: str | None, session: Session) -> list[str]:
    """Ids of those that changed."""
    if by is not None:
        # One at a time: two that each see no circle could close one together.
        await mongo_state.write_many(places.state, "locks", {"supersede": {}}, session)
        await _no_circle(places, set(ids), by, session)
    query: Stored = {"_id": {"$in": list(ids)}, "superseded_by": {"$ne": by}}
    changed = [cast(str, one["_id"]) async for one in places.episodes.find(query, {"_id": 1}, session=session)]
    await mark(places, changed, by, session)
    return changed


async def _no_circle(places: Places, ids: set[str], by: str, session: Session) -> None:
    """Follow what supersedes `by`. Raises `NotFound` when there is no such episode, `Conflict` when one is of `ids`."""
    seen: set[str] = set()
    at: str | None = by
    while at is not None and at not in seen:
        found = await places.episodes.find_one({"_id": at}, {"superseded_by": 1}, session=session)
        if found is None:
            break
        if at in ids:
            raise Conflict(IN_A_CIRCLE, {"episode_ids": [at]})
        seen.add(at)
        at = cast(str | None, found["superseded_by"])
    if not seen:
        raise NotFound(f"there is no episode {by}")


async def mark(places: Places, ids: Sequence[str], by: str | None, session: Session) -> None:
    """Set who supersedes these, in the episodes and in the filter field of their windows."""
    if not ids:
        return
    flag: Stored = {"superseded": by is not None}
    change: Stored = {"$set": {"superseded_by": by, **flag}}
    await places.episodes.update_many({"_id": {"$in": list(ids)}}, change, session=session)
    for windows in places.windows.values():
        await windows.update_many({"episode_id": {"$in": list(ids)}}, {"$set": flag}, session=session)


async def embed(
    places: Places, model: str, items: Mapping[str, tuple[str, Vectors]], session: Session
) -> dict[str, Stored]:
    """Write vectors of one model; returns the episodes that were still as they were embedded."""
    shown = {**dict.fromkeys(documents.FILTER_FIELDS, 1), "content_hash": 1, "terms_text": 1}
    found = {
        cast(str, one["_id"]): one
        async for one in places.episodes.find({"_id": {"$in": list(items)}}, shown, session=session)
        if one["content_hash"] == items[cast(str, one["_id"])][0]
    }
    if not found:
        return found
    ids = list(found)
    await places.windows[model].delete_many({"episode_id": {"$in": ids}}, session=session)
    rows = [row for episode_id, one in found.items() for row in documents.windows(one, items[episode_id][1])]
    if rows:
        await places.windows[model].insert_many(rows, session=session)
    # Touching the episode makes a replacement of its text, committed meanwhile, a conflict: then this runs again.
    change: Stored = {"$addToSet": {"models": model}}
    await places.episodes.update_many({"_id": {"$in": ids}}, change, session=session)
    return found


async def drop_windows(places: Places, ids: Sequence[str], session: Session) -> int:
    """Remove the vectors of episodes, of all models; returns how many."""
    gone = 0
    for windows in places.windows.values():
        gone += (await windows.delete_many({"episode_id": {"$in": list(ids)}}, session=session)).deleted_count
    return gone


async def holders(
    places: Places, contents: Iterable[tuple[str, str]], session: Session | None, besides: Sequence[str] = ()
) -> dict[tuple[str, str], str]:
    """(project, content hash) -> the oldest episode that has it, but for `besides`."""
    hashes: dict[str, list[str]] = {}
    for project, content_hash in contents:
        hashes.setdefault(project, []).append(content_hash)
    if not hashes:
        return {}
    either = [{"project": project, "content_hash": {"$in": found}} for project, found in hashes.items()]
    query: Stored = {"$or": either}
    if besides:
        query["_id"] = {"$nin": list(besides)}
    shown = dict.fromkeys(("project", "content_hash", "ingested_at"), 1)
    found = await places.episodes.find(query, shown, session=session).to_list()
    held: dict[tuple[str, str], str] = {}
    for one in sorted(found, key=lambda one: (cast(datetime, one["ingested_at"]), cast(str, one["_id"]))):
        held.setdefault((cast(str, one["project"]), cast(str, one["content_hash"])), cast(str, one["_id"]))
    return held


async def _add_windows(places: Places, records: Sequence[Record], rows: Sequence[Stored], session: Session) -> None:
    by_model: dict[str, list[Stored]] = {}
    for record, row in zip(records, rows, strict=True):
        if record.vectors is not None:
            model = cast(str, record.episode.embedding_model)
            by_model.setdefault(model, []).extend(documents.windows(row, record.vectors))
    for model, found in by_model.items():
        if found:
            await places.windows[model].insert_many(found, session=session)


def _content(record: Record) -> tuple[str, str]:
    return record.episode.project, record.episode.content_hash


def _models(record: Record) -> list[str]:
    return [] if record.vectors is None else [cast(str, record.episode.embedding_model)]
