"""Episodes as rows of the SQLite store: packing, unpacking, and filters as SQL.

What is filtered or sorted by has a column; the rest of an episode is one JSON body.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import orjson

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.episodes import Episode
from anamnesis.kit.errors import Invalid
from services.memory.stores import postings
from services.memory.stores.base import Filter, Record, Vectors
from services.memory.stores.columns import Row, milliseconds, moment

Parameter = str | int | bytes | float | None

EPISODE = """
    e.number, e.episode_id, e.project, e.instance, e.timestamp, e.ingested_at, e.content_hash, e.trust,
    e.superseded_by, e.body, h.count, h.last,
    (SELECT v.model FROM vectors v WHERE v.number = e.number ORDER BY v.model = :active DESC, v.model LIMIT 1)
"""
"""Columns that `episode` reads; bind `active` to the model that is searched with."""

FROM = "FROM episodes e LEFT JOIN hits h ON h.number = e.number"

INDEXED = """
    e.number, e.episode_id, e.project, e.instance, e.timestamp, e.session, e.position, e.trust,
    e.superseded_by IS NOT NULL, e.terms
"""
"""Columns that `indexed` reads, with the tags beside them."""


class Prepared(NamedTuple):
    """A record whose packing is done: what the writer thread needs, and nothing to compute."""

    episode: Episode
    columns: Mapping[str, Parameter]
    terms: bytes
    vectors: Vectors | None


def prepared(record: Record) -> Prepared:
    """Pack a record. Raises Invalid for vectors that cannot be kept."""
    episode = record.episode
    vectors = None
    if record.vectors is not None:
        if episode.embedding_model is None:
            raise Invalid("vectors came without the name of their embedding model")
        vectors = checked(record.vectors)
    terms = postings.pack(record.terms)
    body = {
        "summary": episode.summary,
        "raw_exchange": episode.raw_exchange,
        "tags": list(episode.tags),
        "source": episode.source.model_dump(mode="json", exclude_none=True),
        "consolidated_from": list(episode.consolidated_from),
    }
    columns: dict[str, Parameter] = {
        "episode_id": episode.episode_id,
        "project": episode.project,
        "instance": episode.instance,
        "timestamp": milliseconds(episode.timestamp),
        "ingested_at": milliseconds(episode.ingested_at),
        "content_hash": episode.content_hash,
        "session": episode.source.session,
        "position": episode.source.position,
        "trust": episode.trust.value,
        "superseded_by": episode.superseded_by,
        "terms": terms,
        "body": orjson.dumps(body),
    }
    return Prepared(episode, columns, terms, vectors)


def checked(vectors: Vectors) -> Vectors:
    """(w d) in float32, contiguous. Raises Invalid when there is nothing in it or it holds what is no number."""
    packed = np.ascontiguousarray(vectors, dtype="<f4")
    if packed.ndim != 2 or not packed.size:
        raise Invalid(f"vectors must be a table of windows by dimensions, not of shape {packed.shape}")
    if not np.isfinite(packed).all():
        raise Invalid("vectors must be finite")
    return packed


def vectors_of(windows: int, data: bytes) -> Vectors:
    """The (w d) of a stored blob; a view of the blob, read-only."""
    return np.frombuffer(data, dtype="<f4").reshape(windows, -1)


def episode(row: tuple[Parameter, ...]) -> Episode:
    """The episode of a row of EPISODE columns."""
    _, name, project, instance, time, ingested, content, trust, successor, body, hits, last, model = row
    fields: JsonObject = orjson.loads(_blob(body))
    return Episode.model_validate(
        {
            **fields,
            "episode_id": name,
            "project": project,
            "instance": instance,
            "timestamp": moment(_integer(time)),
            "ingested_at": moment(_integer(ingested)),
            "content_hash": content,
            "trust": trust,
            "superseded_by": successor,
            "embedding_model": model,
            "retrieval_count": hits or 0,
            "last_retrieved": None if last is None else moment(_integer(last)),
        }
    )


def size(row: tuple[Parameter, ...]) -> int:
    """Bytes of the text in a row of EPISODE columns."""
    return len(_blob(row[9]))


def _integer(value: Parameter) -> int:
    if not isinstance(value, int):
        raise TypeError("an integer column holds something else")
    return value


def _blob(value: Parameter) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("a blob column holds something else")
    return value


def index_row(number: int, item: Prepared, superseded: bool) -> Row:
    """A record as the in-memory index sees it."""
    kept = item.episode
    return Row(
        number=number,
        episode_id=kept.episode_id,
        project=kept.project,
        instance=kept.instance,
        time=milliseconds(kept.timestamp),
        session=kept.source.session,
        position=kept.source.position,
        trust=kept.trust.value,
        superseded=superseded,
        terms=item.terms,
        tags=kept.tags,
    )


def index_rows(connection: sqlite3.Connection, batch: int) -> Iterator[list[Row]]:
    """Every episode as the in-memory index sees it, in order of number."""
    tags: dict[int, list[str]] = {}
    for number, tag in connection.execute("SELECT number, tag FROM tags"):
        tags.setdefault(number, []).append(tag)
    cursor = connection.execute(f"SELECT {INDEXED} FROM episodes e ORDER BY e.number")  # noqa: S608
    while rows := cursor.fetchmany(batch):
        yield [
            Row(
                number=number,
                episode_id=name,
                project=project,
                instance=instance,
                time=time,
                session=session,
                position=position,
                trust=trust,
                superseded=bool(superseded),
                terms=terms,
                tags=tuple(tags.get(number, ())),
            )
            for number, name, project, instance, time, session, position, trust, superseded, terms in rows
        ]


def condition(where: Filter) -> tuple[str, dict[str, Parameter]]:
    """A filter as SQL over `episodes e`, and its parameters."""
    parts = ["TRUE"]
    values: dict[str, Parameter] = {}
    if where.project is not None:
        parts.append("e.project = :project")
        values["project"] = where.project
    if where.instance is not None:
        parts.append("e.instance = :instance")
        values["instance"] = where.instance
    if where.since is not None:
        parts.append("e.timestamp >= :since")
        values["since"] = milliseconds(where.since)
    if where.until is not None:
        parts.append("e.timestamp < :until")
        values["until"] = milliseconds(where.until)
    if not where.include_superseded:
        parts.append("e.superseded_by IS NULL")
    for place, tag in enumerate(where.tags):
        parts.append(f"EXISTS (SELECT 1 FROM tags t WHERE t.tag = :tag{place} AND t.number = e.number)")  # noqa: S608
        values[f"tag{place}"] = tag
    return " AND ".join(parts), values


def listed(values: Sequence[str] | Sequence[int]) -> str:
    """Values as the one parameter of `IN (SELECT value FROM json_each(?))`: any number of them."""
    return orjson.dumps(list(values)).decode()
