"""Episodes in SQLite: every statement over them, as functions of a connection.

Writes note in `changes` what the in-memory index must follow. They run inside the writer's transaction and open
none of their own.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, cast

import orjson

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.episodes import Amended, Amendment, CountBy, Episode, EpisodeStats
from anamnesis.kit.errors import Conflict, NotFound
from services.memory.stores import amending, rows, vector_sql
from services.memory.stores.base import IN_A_CIRCLE, SCAN_BYTES, Filter, Inserted
from services.memory.stores.columns import milliseconds, moment
from services.memory.stores.index import Change, Drop, Mark, Put, Retag
from services.memory.stores.rows import Parameter, Prepared

_COLUMNS = (
    "episode_id",
    "project",
    "instance",
    "timestamp",
    "ingested_at",
    "content_hash",
    "session",
    "position",
    "trust",
    "superseded_by",
    "terms",
    "body",
)
_KEPT = ("episode_id", "ingested_at", "superseded_by")
"""Columns that a replacement leaves as they are."""

_INSERT = f"INSERT INTO episodes ({', '.join(_COLUMNS)}) VALUES ({', '.join(':' + name for name in _COLUMNS)})"  # noqa: S608
_REPLACE = (
    f"UPDATE episodes SET {', '.join(f'{name} = :{name}' for name in _COLUMNS if name not in _KEPT)} "  # noqa: S608
    "WHERE episode_id = :episode_id RETURNING number, superseded_by IS NOT NULL"
)


def insert(connection: sqlite3.Connection, changes: list[Change], items: Sequence[Prepared]) -> list[Inserted]:
    """Add those whose id and whose content in the project are new."""
    results: list[Inserted] = []
    for item in items:
        kept = item.episode
        standing = (
            connection.execute("SELECT episode_id FROM episodes WHERE episode_id = ?", (kept.episode_id,)).fetchone()
            or connection.execute(
                "SELECT episode_id FROM episodes WHERE content_hash = ? AND project = ? ORDER BY number LIMIT 1",
                (kept.content_hash, kept.project),
            ).fetchone()
        )
        if standing is not None:
            results.append(Inserted(created=False, duplicate_of=standing[0]))
            continue
        number = connection.execute(_INSERT, item.columns).lastrowid
        if number is None:
            raise sqlite3.InternalError("an insert gave no row number")
        if kept.retrieval_count or kept.last_retrieved is not None:
            last = None if kept.last_retrieved is None else milliseconds(kept.last_retrieved)
            connection.execute("INSERT INTO hits VALUES (?, ?, ?)", (number, kept.retrieval_count, last))
        _belongings(connection, changes, number, item, superseded=kept.superseded_by is not None)
        results.append(Inserted(created=True))
    return results


def replace(connection: sqlite3.Connection, changes: list[Change], items: Sequence[Prepared]) -> list[bool]:
    """Replace by id what a record brings; counters, successor and time of ingestion stay."""
    results: list[bool] = []
    for item in items:
        found = connection.execute(_REPLACE, item.columns).fetchall()
        results.append(bool(found))
        for number, superseded in found:
            for table in ("tags", "origins", "vectors"):
                connection.execute(f"DELETE FROM {table} WHERE number = ?", (number,))  # noqa: S608
            _belongings(connection, changes, number, item, superseded=bool(superseded))
    return results


def _belongings(
    connection: sqlite3.Connection, changes: list[Change], number: int, item: Prepared, superseded: bool
) -> None:
    """Tags, origins and vectors of an episode that has none."""
    kept = item.episode
    connection.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?)", [(tag, number) for tag in kept.tags])
    connection.executemany(
        "INSERT OR IGNORE INTO origins VALUES (?, ?)", [(parent, number) for parent in kept.consolidated_from]
    )
    vectors = {}
    if item.vectors is not None and kept.embedding_model is not None:
        vector_sql.keep(connection, changes, kept.embedding_model, number, item.vectors)
        vectors[kept.embedding_model] = item.vectors
    changes.append(Put(rows.index_row(number, item, superseded), vectors))


def amend(connection: sqlite3.Connection, changes: list[Change], amendments: Sequence[Amendment]) -> list[Amended]:
    """Change tags and places, in order. Raises `Invalid` for too many tags; the transaction then goes with it."""
    results: list[Amended] = []
    for one in amendments:
        row = connection.execute("SELECT number, body FROM episodes WHERE episode_id = ?", (one.episode_id,)).fetchone()
        if row is None:
            results.append(Amended(episode_id=one.episode_id, found=False))
            continue
        number, body = row
        fields: JsonObject = orjson.loads(body)
        former = tuple(cast(list[str], fields["tags"]))
        tags = amending.tags(former, one)
        source = cast(JsonObject, fields["source"])
        changed = {**source, **amending.source(one)}
        if changed != source or tags != former:
            fields |= {"source": changed, "tags": list(tags)}
            connection.execute("UPDATE episodes SET body = ? WHERE number = ?", (orjson.dumps(fields), number))
        if tags != former:
            connection.executemany(
                "DELETE FROM tags WHERE tag = ? AND number = ?", [(tag, number) for tag in former if tag not in tags]
            )
            connection.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?)", [(tag, number) for tag in tags])
            changes.append(Retag(number, former, tags))
        results.append(Amended(episode_id=one.episode_id, found=True, tags=tags))
    return results


def join(
    connection: sqlite3.Connection, changes: list[Change], items: Sequence[tuple[Prepared, Mapping[str, str]]]
) -> list[bool]:
    """Add each record, and mark its members as superseded by it, where all of them are as they were."""
    results: list[bool] = []
    for item, members in items:
        found = dict(
            connection.execute(
                "SELECT episode_id, content_hash FROM episodes "
                "WHERE episode_id IN (SELECT value FROM json_each(?)) AND superseded_by IS NULL",
                (rows.listed(list(members)),),
            ).fetchall()
        )
        done = found == members and insert(connection, changes, [item])[0].created
        if done:
            supersede(connection, changes, list(members), item.episode.episode_id)
        results.append(done)
    return results


def get(connection: sqlite3.Connection, episode_ids: Sequence[str], active: str | None) -> dict[str, Episode]:
    found = connection.execute(
        f"SELECT {rows.EPISODE} {rows.FROM} WHERE e.episode_id IN (SELECT value FROM json_each(:ids))",  # noqa: S608
        {"ids": rows.listed(episode_ids), "active": active},
    )
    return {episode.episode_id: episode for episode in map(rows.episode, found)}


def find_content(connection: sqlite3.Connection, hashes: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The oldest episode of each (project, content hash)."""
    found: dict[tuple[str, str], str] = {}
    for project, content in hashes:
        row = connection.execute(
            "SELECT episode_id FROM episodes WHERE content_hash = ? AND project = ? ORDER BY number LIMIT 1",
            (content, project),
        ).fetchone()
        if row is not None:
            found[project, content] = row[0]
    return found


def holding(connection: sqlite3.Connection, hashes: Sequence[str]) -> list[str]:
    found = connection.execute(
        "SELECT episode_id FROM episodes WHERE content_hash IN (SELECT value FROM json_each(?)) ORDER BY episode_id",
        (rows.listed(hashes),),
    )
    return [name for (name,) in found]


def page(
    connection: sqlite3.Connection, where: Filter, skip: int, limit: int, active: str | None
) -> tuple[list[Episode], int]:
    condition, values = rows.condition(where)
    total = connection.execute(f"SELECT count(*) FROM episodes e WHERE {condition}", values).fetchone()[0]  # noqa: S608
    found = connection.execute(
        f"SELECT {rows.EPISODE} {rows.FROM} WHERE {condition} "
        "ORDER BY e.timestamp DESC, e.episode_id LIMIT :limit OFFSET :skip",
        {**values, "limit": limit, "skip": skip, "active": active},
    ).fetchall()
    return [rows.episode(row) for row in found], int(total)


def after(connection: sqlite3.Connection, where: Filter, last: str, limit: int, active: str | None) -> list[Episode]:
    """The next ones in order of id, up to so many or so much text."""
    condition, values = rows.condition(where)
    # The index is named because a filter's own index would have to be sorted anew for every batch.
    found = connection.execute(
        f"SELECT {rows.EPISODE} FROM episodes e INDEXED BY episodes_by_id "  # noqa: S608
        f"LEFT JOIN hits h ON h.number = e.number WHERE e.episode_id > :last AND {condition} "
        "ORDER BY e.episode_id LIMIT :limit",
        {**values, "last": last, "limit": limit, "active": active},
    )
    taken: list[Episode] = []
    size = 0
    for row in found:
        taken.append(rows.episode(row))
        size += rows.size(row)
        if size >= SCAN_BYTES:
            break
    found.close()
    return taken


def remove(connection: sqlite3.Connection, changes: list[Change], episode_ids: Sequence[str]) -> tuple[int, int]:
    """Remove episodes and all that hangs on them; what they had superseded is current again."""
    ids = rows.listed(episode_ids)
    numbers = [
        number
        for (number,) in connection.execute(
            "SELECT number FROM episodes WHERE episode_id IN (SELECT value FROM json_each(?))", (ids,)
        )
    ]
    listed = rows.listed(numbers)
    vectors = connection.execute(
        "SELECT coalesce(sum(windows), 0) FROM vectors WHERE number IN (SELECT value FROM json_each(?))", (listed,)
    ).fetchone()[0]
    revived = connection.execute(
        "UPDATE episodes SET superseded_by = NULL WHERE superseded_by IN (SELECT value FROM json_each(?)) "
        "RETURNING number",
        (ids,),
    ).fetchall()
    connection.execute("DELETE FROM episodes WHERE number IN (SELECT value FROM json_each(?))", (listed,))
    changes.extend(Mark(number, superseded=False) for (number,) in revived)
    changes.extend(Drop(number) for number in numbers)
    return len(numbers), int(vectors)


class Left(NamedTuple):
    """How much there is of what was removed."""

    by_id: int
    by_content: int
    vectors: int


def left(connection: sqlite3.Connection, episode_ids: Sequence[str], hashes: Sequence[str]) -> Left:
    """What is left of them. Vectors without an episode count too: there must be none."""
    ids, contents = rows.listed(episode_ids), rows.listed(hashes)
    by_id = "SELECT number FROM episodes WHERE episode_id IN (SELECT value FROM json_each(:ids))"
    counts = connection.execute(
        f"""SELECT
            (SELECT count(*) FROM ({by_id})),
            (SELECT count(*) FROM episodes WHERE content_hash IN (SELECT value FROM json_each(:contents))),
            (SELECT coalesce(sum(windows), 0) FROM vectors
                WHERE number IN ({by_id}) OR number NOT IN (SELECT number FROM episodes))""",  # noqa: S608
        {"ids": ids, "contents": contents},
    ).fetchone()
    return Left(*counts)


def derived(connection: sqlite3.Connection, episode_id: str) -> list[str]:
    found = connection.execute(
        """WITH RECURSIVE derived (episode_id) AS (
            SELECT e.episode_id FROM origins o JOIN episodes e USING (number) WHERE o.parent = :id
            UNION
            SELECT e.episode_id FROM derived d JOIN origins o ON o.parent = d.episode_id JOIN episodes e USING (number)
        ) SELECT episode_id FROM derived WHERE episode_id != :id ORDER BY episode_id""",
        {"id": episode_id},
    )
    return [name for (name,) in found]


def supersede(connection: sqlite3.Connection, changes: list[Change], episode_ids: Sequence[str], by: str | None) -> int:
    if by is not None:
        successors = _successors(connection, by)
        if not successors:
            raise NotFound(f"there is no episode {by}")
        if circular := successors & set(episode_ids):
            raise Conflict(IN_A_CIRCLE, {"episode_ids": [*sorted(circular)]})
    numbers = connection.execute(
        "UPDATE episodes SET superseded_by = :by "
        "WHERE episode_id IN (SELECT value FROM json_each(:ids)) AND superseded_by IS NOT :by RETURNING number",
        {"by": by, "ids": rows.listed(episode_ids)},
    ).fetchall()
    changes.extend(Mark(number, superseded=by is not None) for (number,) in numbers)
    return len(numbers)


def superseded_by(connection: sqlite3.Connection, episode_id: str) -> list[str]:
    """Ids of those that this one supersedes, in order."""
    found = connection.execute("SELECT episode_id FROM episodes WHERE superseded_by = ? ORDER BY 1", (episode_id,))
    return [name for (name,) in found]


def _successors(connection: sqlite3.Connection, episode_id: str) -> set[str]:
    """An episode, what supersedes it, what supersedes that, and so on; nothing where there is no such episode."""
    found = connection.execute(
        """WITH RECURSIVE chain (episode_id, next) AS (
            SELECT episode_id, superseded_by FROM episodes WHERE episode_id = ?
            UNION
            SELECT e.episode_id, e.superseded_by FROM chain c JOIN episodes e ON e.episode_id = c.next
        ) SELECT episode_id FROM chain""",
        (episode_id,),
    )
    return {name for (name,) in found}


def record_hits(connection: sqlite3.Connection, hits: Mapping[str, int], at: datetime) -> None:
    connection.executemany(
        "INSERT INTO hits SELECT number, ?, ? FROM episodes WHERE episode_id = ? "
        "ON CONFLICT (number) DO UPDATE SET count = count + excluded.count, "
        "last = max(coalesce(last, excluded.last), excluded.last)",
        [(times, milliseconds(at), name) for name, times in hits.items()],
    )


def stats(connection: sqlite3.Connection, model: str, size: int) -> EpisodeStats:
    """Counts; `size` is the database's bytes on disk."""
    episodes, superseded, earliest, latest = connection.execute(
        "SELECT count(*), count(superseded_by), min(timestamp), max(timestamp) FROM episodes"
    ).fetchone()
    return EpisodeStats(
        episodes=episodes,
        superseded=superseded,
        without_vectors=vector_sql.count_missing(connection, model),
        projects=_counted(connection, "project"),
        instances=_counted(connection, "instance"),
        earliest=None if earliest is None else moment(earliest),
        latest=None if latest is None else moment(latest),
        bytes_on_disk=size,
    )


def _counted(connection: sqlite3.Connection, column: str) -> tuple[CountBy, ...]:
    found = connection.execute(
        f"SELECT {column}, count(*), max(timestamp) FROM episodes GROUP BY {column} ORDER BY {column}"  # noqa: S608
    )
    return tuple(CountBy(name=name, episodes=count, latest=moment(latest)) for name, count, latest in found)


def missing(connection: sqlite3.Connection, model: str, at_least: str, limit: int, active: str | None) -> list[Episode]:
    """In order of id, beginning with the id `at_least`."""
    values: dict[str, Parameter] = {"model": model, "at_least": at_least, "limit": limit, "active": active}
    found = connection.execute(
        f"SELECT {rows.EPISODE} {rows.FROM} WHERE e.episode_id >= :at_least AND NOT EXISTS "  # noqa: S608
        "(SELECT 1 FROM vectors v WHERE v.model = :model AND v.number = e.number) "
        "ORDER BY e.episode_id LIMIT :limit",
        values,
    ).fetchall()
    return [rows.episode(row) for row in found]
