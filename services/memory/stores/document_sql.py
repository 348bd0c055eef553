"""State documents in SQLite: small JSON values by kind and key, each with a version."""

import json
import sqlite3
from collections.abc import Mapping, Sequence

from anamnesis.contracts.base import JsonObject
from services.memory.stores.base import Document


def read(connection: sqlite3.Connection, kind: str, key: str) -> Document | None:
    row = connection.execute(
        "SELECT key, value, version FROM documents WHERE kind = ? AND key = ?", (kind, key)
    ).fetchone()
    return None if row is None else _document(row)


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


def list_(connection: sqlite3.Connection, kind: str, prefix: str) -> list[Document]:
    """Those whose key begins with `prefix`, in order of key."""
    found = connection.execute(
        "SELECT key, value, version FROM documents "
        "WHERE kind = :kind AND key >= :prefix AND substr(key, 1, length(:prefix)) = :prefix ORDER BY key",
        {"kind": kind, "prefix": prefix},
    )
    return [_document(row) for row in found]


def count(connection: sqlite3.Connection, kind: str, keys: Sequence[str]) -> int:
    """How many of these there are."""
    found = connection.execute(
        "SELECT count(*) FROM documents WHERE kind = ? AND key IN (SELECT value FROM json_each(?))",
        (kind, json.dumps(list(keys))),
    )
    return int(found.fetchone()[0])


def delete(connection: sqlite3.Connection, kind: str, key: str) -> bool:
    return connection.execute("DELETE FROM documents WHERE kind = ? AND key = ?", (kind, key)).rowcount > 0


def _document(row: tuple[str, bytes, int]) -> Document:
    key, value, version = row
    return Document(key, json.loads(value), version)
