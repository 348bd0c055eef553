"""Vectors in SQLite: one blob (w d) an episode and model, and the dimension that a model is held to."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence

from anamnesis.kit.errors import Invalid
from services.memory.stores import rows
from services.memory.stores.base import Vectors
from services.memory.stores.index import Change, Embed, Reset


def dimension(connection: sqlite3.Connection, model: str) -> int | None:
    """The width of the model's vectors; none = the model is unknown."""
    row = connection.execute("SELECT dimension FROM models WHERE name = ?", (model,)).fetchone()
    return None if row is None else int(row[0])


def prepare(connection: sqlite3.Connection, changes: list[Change], model: str, wanted: int) -> None:
    """Hold a model to a dimension. Raises Invalid when it has vectors of another one."""
    known = dimension(connection, model)
    if known == wanted:
        return
    if known is not None and count(connection, model):
        raise Invalid(f"the vectors of {model} have {known} dimensions, not {wanted}; drop them first")
    connection.execute("INSERT OR REPLACE INTO models VALUES (?, ?)", (model, wanted))
    if known is not None:
        changes.append(Reset(model))


def keep(connection: sqlite3.Connection, changes: list[Change], model: str, number: int, vectors: Vectors) -> None:
    """Put an episode's vectors in the place of those it may have by this model."""
    prepare(connection, changes, model, vectors.shape[1])
    connection.execute(
        "INSERT OR REPLACE INTO vectors (model, number, windows, data) VALUES (?, ?, ?, ?)",
        (model, number, len(vectors), vectors.tobytes()),
    )


def put(
    connection: sqlite3.Connection, changes: list[Change], model: str, items: Mapping[str, tuple[str, Vectors]]
) -> None:
    """Keep the vectors of those episodes whose content is still what the vectors were made from."""
    for name, (content, vectors) in items.items():
        row = connection.execute(
            "SELECT number FROM episodes WHERE episode_id = ? AND content_hash = ?", (name, content)
        ).fetchone()
        if row is not None:
            keep(connection, changes, model, row[0], vectors)
            changes.append(Embed(row[0], model, vectors))


def get(connection: sqlite3.Connection, model: str, episode_ids: Sequence[str]) -> dict[str, Vectors]:
    found = connection.execute(
        "SELECT e.episode_id, v.windows, v.data FROM episodes e JOIN vectors v ON v.model = ? AND v.number = e.number "
        "WHERE e.episode_id IN (SELECT value FROM json_each(?))",
        (model, rows.listed(episode_ids)),
    )
    return {name: rows.vectors_of(windows, data) for name, windows, data in found}


def count(connection: sqlite3.Connection, model: str) -> int:
    """Windows, over all episodes."""
    found = connection.execute("SELECT coalesce(sum(windows), 0) FROM vectors WHERE model = ?", (model,)).fetchone()
    return int(found[0])


def each(connection: sqlite3.Connection, model: str, batch: int) -> Iterator[list[tuple[int, Vectors]]]:
    """(number, vectors) of every episode that has some, in batches."""
    cursor = connection.execute("SELECT number, windows, data FROM vectors WHERE model = ? ORDER BY number", (model,))
    while found := cursor.fetchmany(batch):
        yield [(number, rows.vectors_of(windows, data)) for number, windows, data in found]


def count_missing(connection: sqlite3.Connection, model: str) -> int:
    """Episodes without vectors of the model."""
    found = connection.execute(
        "SELECT (SELECT count(*) FROM episodes) - (SELECT count(*) FROM vectors WHERE model = ?)", (model,)
    ).fetchone()
    return int(found[0])


def drop(connection: sqlite3.Connection, changes: list[Change], model: str, limit: int) -> tuple[int, bool]:
    """Remove the vectors of up to `limit` episodes: how many vectors went, and whether some are left."""
    gone = connection.execute(
        "DELETE FROM vectors WHERE rowid IN (SELECT rowid FROM vectors WHERE model = ? LIMIT ?) RETURNING windows",
        (model, limit),
    ).fetchall()
    if len(gone) < limit:
        connection.execute("DELETE FROM models WHERE name = ?", (model,))
        changes.append(Reset(model))
    return sum(windows for (windows,) in gone), len(gone) == limit
