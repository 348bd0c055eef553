"""How episodes, vectors and filters look inside MongoDB, and the names of collections and indexes.

    episodes            one document an episode, `_id` = its id
    vectors_<model>     one document a window, with the episode's filter fields repeated
    models              the embedding models that have a collection, with their dimension
    state               settings, offsets, leases, keys, blocklist, chats
    lease               which memory service uses the database (see `mongo_lease`)

Pure functions; talking to the server belongs to `mongo`.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, cast

import numpy as np
from bson.binary import VECTOR_SUBTYPE, Binary, BinaryVectorDtype

from anamnesis.contracts.episodes import Episode
from anamnesis.contracts.insight import Bucket, TimelinePoint
from services.memory.stores.base import Filter, Record, Vector, Vectors

Stored = dict[str, object]
"""A document as the driver takes and gives it."""

EPISODES, MODELS, STATE, LEASE = "episodes", "models", "state", "lease"
VECTOR_INDEX = "windows"
TEXT_INDEX = "words"
EMBEDDING = "embedding"
FILTER_FIELDS = ("project", "instance", "tags", "timestamp", "superseded", "episode_id", "session", "position")
"""Repeated in every window, so that `$vectorSearch` can filter before it ranks."""
NOT_OF_EPISODE = ("_id", "superseded", "session", "position", "order", "models", "terms_text", "sole")
"""What an episode's document holds beside the episode."""
MOST_REPEATS = 255
"""A term that occurs more often counts as this often."""
_SEPARATOR = "#"
_FLOAT32 = BinaryVectorDtype.FLOAT32.value + b"\x00"
"""What a packed vector begins with: its type, and no padding bits."""
_FIRST_SECOND = 62_135_596_800
"""Seconds from the first moment of the calendar to 1970, so that times sort as digits."""


class Model(NamedTuple):
    """An embedding model that the store keeps vectors of."""

    name: str
    dimension: int
    collection: str


class Meta(NamedTuple):
    """What filters look at."""

    project: str
    instance: str
    tags: tuple[str, ...]
    timestamp: datetime
    superseded: bool


def collection_name(model: str) -> str:
    """Readable, and distinct for models whose names differ only in punctuation."""
    slug = re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_")[:60]
    return f"vectors_{slug}_{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def vector_index(dimension: int) -> Stored:
    """The definition of a model's `vectorSearch` index."""
    filters = [{"type": "filter", "path": path} for path in FILTER_FIELDS]
    vector = {"type": "vector", "path": EMBEDDING, "numDimensions": dimension, "similarity": "cosine"}
    return {"fields": [vector, *filters]}


def text_index() -> Stored:
    """The definition of the `search` index: our own terms, split at spaces, so that both stores agree on words."""
    words = {"type": "string", "analyzer": "lucene.whitespace", "searchAnalyzer": "lucene.whitespace"}
    tokens: Stored = {path: {"type": "token"} for path in ("episode_id", "project", "instance", "tags")}
    fields: Stored = {"terms_text": words, "timestamp": {"type": "date"}, "superseded": {"type": "boolean"}, **tokens}
    return {"mappings": {"dynamic": False, "fields": fields}}


def of_record(record: Record, models: Sequence[str]) -> Stored:
    """A whole new episode; `models` are those whose vectors come with it."""
    episode = record.episode
    return {
        "_id": episode.episode_id,
        "ingested_at": episode.ingested_at,
        "retrieval_count": episode.retrieval_count,
        "last_retrieved": episode.last_retrieved,
        "superseded_by": episode.superseded_by,
        "superseded": episode.superseded_by is not None,
        **content(record, models),
    }


def content(record: Record, models: Sequence[str]) -> Stored:
    """The fields that a replacement writes anew."""
    episode = record.episode
    return {
        "episode_id": episode.episode_id,
        "timestamp": episode.timestamp,
        "instance": episode.instance,
        "project": episode.project,
        "summary": episode.summary,
        "raw_exchange": episode.raw_exchange,
        "tags": list(episode.tags),
        "source": episode.source.model_dump(mode="json", exclude_none=True),
        "trust": str(episode.trust),
        "content_hash": episode.content_hash,
        "consolidated_from": list(episode.consolidated_from),
        "session": episode.source.session,
        "position": episode.source.position,
        "order": _order(episode),
        "models": list(models),
        "terms_text": _spelled(record.terms),
        "sole": True,
    }


def _order(episode: Episode) -> str:
    """An episode's place in its session as text: by position (none first), then by time, then by id."""
    place = -1 if episode.source.position is None else episode.source.position
    milliseconds = round((episode.timestamp.timestamp() + _FIRST_SECOND) * 1000)
    return f"{place + 1:016d}{milliseconds:015d}{episode.episode_id}"


def _spelled(terms: Mapping[str, int]) -> str:
    return " ".join(" ".join([term] * min(times, MOST_REPEATS)) for term, times in terms.items() if times > 0)


def counted(terms_text: str) -> dict[str, int]:
    """The terms of `terms_text` and how often each occurs."""
    counts: dict[str, int] = {}
    for term in terms_text.split():
        counts[term] = counts.get(term, 0) + 1
    return counts


def to_episode(document: Mapping[str, object], active: str | None) -> Episode:
    """`active`: the model that is searched with, named where the episode has its vectors."""
    fields = {name: value for name, value in document.items() if name not in NOT_OF_EPISODE}
    models = cast(list[str], document["models"])
    fields["embedding_model"] = active if active in models else min(models, default=None)
    return Episode.model_validate(fields)


def size(episode: Episode) -> int:
    """About how many bytes of text an episode holds."""
    return len(episode.summary) + len(episode.raw_exchange or "")


def meta(document: Mapping[str, object]) -> Meta:
    return Meta(
        project=cast(str, document["project"]),
        instance=cast(str, document["instance"]),
        tags=tuple(cast(Sequence[str], document["tags"])),
        timestamp=cast(datetime, document["timestamp"]),
        superseded=cast(bool, document["superseded"]),
    )


def windows(document: Mapping[str, object], vectors: Vectors) -> list[Stored]:
    """The window documents of an episode; their ids change with its text, so an old hit never meets a new text."""
    shared = {name: document.get(name) for name in FILTER_FIELDS}
    stem = _SEPARATOR.join((cast(str, document["episode_id"]), cast(str, document["content_hash"])[:12]))
    return [
        {"_id": f"{stem}{_SEPARATOR}{number:04d}", "window": number, EMBEDDING: pack(vector), **shared}
        for number, vector in enumerate(vectors)
    ]


def pack(vector: Vector) -> Binary:
    """(d) as a BSON float32 vector: a third of the size of a list of doubles."""
    return Binary(_FLOAT32 + np.ascontiguousarray(vector, dtype="<f4").tobytes(), VECTOR_SUBTYPE)


def unpack(value: object) -> Vector:
    """(d)"""
    return np.frombuffer(cast(bytes, value), dtype="<f4", offset=2).astype(np.float32, copy=False)


def stacked(documents: Iterable[Mapping[str, object]]) -> dict[str, Vectors]:
    """Window documents in order of window -> (w d) by episode."""
    rows: dict[str, list[Vector]] = {}
    for document in documents:
        rows.setdefault(cast(str, document["episode_id"]), []).append(unpack(document[EMBEDDING]))
    return {episode_id: np.stack(vectors) for episode_id, vectors in rows.items()}


def matching(where: Filter) -> Stored:
    """A filter as a query over episodes or windows; `$vectorSearch` understands it as well."""
    clauses: list[Stored] = []
    if where.project is not None:
        clauses.append({"project": where.project})
    if where.instance is not None:
        clauses.append({"instance": where.instance})
    clauses.extend({"tags": tag} for tag in where.tags)
    if where.since is not None:
        clauses.append({"timestamp": {"$gte": where.since}})
    if where.until is not None:
        clauses.append({"timestamp": {"$lt": where.until}})
    if not where.include_superseded:
        clauses.append({"superseded": False})
    if len(clauses) < 2:
        return clauses[0] if clauses else {}
    return {"$and": clauses}


def timeline(where: Filter, bucket: Bucket, limit: int) -> list[Stored]:
    """The pipeline that counts episodes by bucket, project and instance."""
    start: Stored = {"date": "$timestamp", "unit": bucket.value, "timezone": "UTC"}
    if bucket is Bucket.WEEK:
        start["startOfWeek"] = "monday"
    key: Stored = {"start": {"$dateTrunc": start}, "project": "$project", "instance": "$instance"}
    return [
        {"$match": matching(where)},
        {"$group": {"_id": key, "episodes": {"$sum": 1}}},
        {"$sort": {"_id.start": 1, "_id.project": 1, "_id.instance": 1}},
        {"$limit": limit},
    ]


def to_point(document: Mapping[str, object]) -> TimelinePoint:
    key = cast(Mapping[str, object], document["_id"])
    return TimelinePoint(
        start=cast(datetime, key["start"]),
        project=cast(str, key["project"]),
        instance=cast(str, key["instance"]),
        episodes=cast(int, document["episodes"]),
    )


def matching_words(where: Filter) -> list[Stored]:
    """A filter as the clauses of a `$search` compound."""
    clauses: list[Stored] = []
    for path, value in (("project", where.project), ("instance", where.instance)):
        if value is not None:
            clauses.append({"equals": {"path": path, "value": value}})
    clauses.extend({"equals": {"path": "tags", "value": tag}} for tag in where.tags)
    bounds = {"gte": where.since, "lt": where.until}
    given = {name: moment for name, moment in bounds.items() if moment is not None}
    if given:
        clauses.append({"range": {"path": "timestamp", **given}})
    if not where.include_superseded:
        clauses.append({"equals": {"path": "superseded", "value": False}})
    return clauses


def matches(where: Filter, one: Meta) -> bool:
    """The same filter over values at hand."""
    return (
        (where.project is None or one.project == where.project)
        and (where.instance is None or one.instance == where.instance)
        and all(tag in one.tags for tag in where.tags)
        and (where.since is None or one.timestamp >= where.since)
        and (where.until is None or one.timestamp < where.until)
        and (where.include_superseded or not one.superseded)
    )


def seconds(moment: object) -> float:
    return cast(datetime, moment).astimezone(UTC).timestamp()
