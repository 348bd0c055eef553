"""State documents in SQLite: small JSON values by kind and key, each with a version."""

import json
import sqlite3
from collections.abc import Mapping, Sequence

from anamnesis.contracts.base import JsonObject
from services.memory.stores.base import SCAN_BYTES, Document, Edit
from services.memory.stores.prefix import end_of


def read(connection: sqlite3.Connection, kind: str, key: str) -> Document | None:
    row = connection.execute(
        "SELECT key, value, version FROM documents WHERE kind = ? AND key = ?", (kind, key)
    ).fetchone()
    return None if row is None else _document(row)


def read_many(connection: sqlite3.Connection, kind: str, keys: Sequence[str]) -> list[Document]:
    """Those that exist, in order of key."""
    found = connection.execute(
        "SELECT key, value, version FROM documents WHERE kind = ? AND key IN (SELECT value FROM json_each(?)) "
        "ORDER BY key",
        (kind, json.dumps(list(keys))),
    )
    return [_document(row) for row in found]


def write(
    connection: sqlite3.Connection, kind: str, key: str, value: JsonObject, expect: int | None = None
) -> int | None:
    """Write, if the version is the expected one (0 = there is none; none = any); the new version, or none."""
    if expect is not None:
        present = connection.execute("SELECT version FROM documents WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        if (0 if present is None else present[0]) != expect:
            return None
    row = connection.execute(
        "INSERT INTO documents VALUES (?, ?, 1, ?) "
        "ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value, version = version + 1 RETURNING version",
        (kind, key, json.dumps(value).encode()),
    ).fetchone()
    return int(row[0])


def write_many(connection: sqlite3.Connection, kind: str, values: Mapping[str, JsonObject]) -> None:
    for key, value in values.items():
        write(connection, kind, key, value)


def edit(connection: sqlite3.Connection, edits: Sequence[Edit]) -> bool:
    """Write and delete all of these, or nothing where one has not the version that is expected."""
    for one in edits:
        if one.expect is not None:
            row = connection.execute(
                "SELECT version FROM documents WHERE kind = ? AND key = ?", (one.kind, one.key)
            ).fetchone()
            if (0 if row is None else row[0]) != one.expect:
                return False
    for one in edits:
        if one.value is None:
            delete(connection, one.kind, one.key)
        else:
            write(connection, one.kind, one.key, one.value)
    return True


def list_(
    connection: sqlite3.Connection,
    kind: str,
    prefix: str,
    after: str | None = None,
    skip: int = 0,
    limit: int | None = None,
    reverse: bool = False,
) -> list[Document]:
    """Those whose key begins with `prefix`, in order of key; see `base.Store.list`."""
    where, values = _range(kind, prefix)
    if after is not None:
        where += " AND key < :after" if reverse else " AND key > :after"
    cursor = connection.execute(
        f"SELECT key, value, version FROM documents WHERE {where} ORDER BY key {'DESC' if reverse else 'ASC'} "  # noqa: S608
        "LIMIT :limit OFFSET :skip",
        {**values, "after": after, "limit": -1 if limit is None else limit, "skip": skip},
    )
    found: list[Document] = []
    size = 0
    for row in cursor:
        found.append(_document(row))
        size += len(row[1])
        if limit is not None and size >= SCAN_BYTES:
            break
    cursor.close()
    return found


def count_all(connection: sqlite3.Connection, kind: str, prefix: str) -> int:
    """How many have a key that begins with `prefix`."""
    where, values = _range(kind, prefix)
    return int(connection.execute(f"SELECT count(*) FROM documents WHERE {where}", values).fetchone()[0])  # noqa: S608


def count(connection: sqlite3.Connection, kind: str, keys: Sequence[str]) -> int:
    """How many of these there are."""
    found = connection.execute(
        "SELECT count(*) FROM documents WHERE kind = ? AND key IN (SELECT value FROM json_each(?))",
        (kind, json.dumps(list(keys))),
    )
    return int(found.fetchone()[0])


def delete(connection: sqlite3.Connection, kind: str, key: str) -> bool:
    return connection.execute("DELETE FROM documents WHERE kind = ? AND key = ?", (kind, key)).rowcount > 0


def remove(connection: sqlite3.Connection, kind: str, keys: Sequence[str]) -> None:
    connection.execute(
        "DELETE FROM documents WHERE kind = ? AND key IN (SELECT value FROM json_each(?))",
        (kind, json.dumps(list(keys))),
    )


def _range(kind: str, prefix: str) -> tuple[str, dict[str, str | int | None]]:
    """The condition that finds the keys which begin with `prefix` in the index, and its values."""
    end = end_of(prefix)
    where = "kind = :kind AND key >= :prefix" + (" AND key < :end" if end is not None else "")
    return where, {"kind": kind, "prefix": prefix, "end": end}


def _document(row: tuple[str, bytes, int]) -> Document:
    key, value, version = row
    return Document(key, json.loads(value), version)
