"""The schema of the SQLite store, as a list of steps that only ever grows at its end.

A database's `user_version` says how many steps it has taken. A step, once released, is never changed.
"""

import sqlite3
from collections.abc import Callable

from anamnesis.kit.errors import Unavailable

APPLICATION_ID = 0x416E616D
"""`Anam`: marks a file as ours."""


def _first(connection: sqlite3.Connection) -> None:
    for statement in (
        # What filters and the in-memory index read comes first in a row, the text last: SQLite then
        # leaves the text's pages alone when it is not asked for.
        """CREATE TABLE episodes (
            number INTEGER PRIMARY KEY,
            episode_id TEXT NOT NULL,
            project TEXT NOT NULL,
            instance TEXT NOT NULL,
            timestamp INTEGER NOT NULL,
            ingested_at INTEGER NOT NULL,
            content_hash TEXT NOT NULL,
            session TEXT,
            position INTEGER,
            trust TEXT NOT NULL,
            superseded_by TEXT,
            terms BLOB NOT NULL,
            body BLOB NOT NULL
        ) STRICT""",
        "CREATE UNIQUE INDEX episodes_by_id ON episodes (episode_id)",
        "CREATE INDEX episodes_by_content ON episodes (content_hash, project)",
        "CREATE INDEX episodes_by_time ON episodes (timestamp DESC, episode_id)",
        "CREATE INDEX episodes_by_project ON episodes (project, timestamp DESC, episode_id)",
        "CREATE INDEX episodes_by_instance ON episodes (instance, timestamp DESC, episode_id)",
        """CREATE INDEX episodes_by_successor ON episodes (superseded_by, number)
            WHERE superseded_by IS NOT NULL""",
        """CREATE TABLE tags (
            tag TEXT NOT NULL,
            number INTEGER NOT NULL REFERENCES episodes ON DELETE CASCADE,
            PRIMARY KEY (tag, number)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX tags_by_episode ON tags (number)",
        """CREATE TABLE origins (
            parent TEXT NOT NULL,
            number INTEGER NOT NULL REFERENCES episodes ON DELETE CASCADE,
            PRIMARY KEY (parent, number)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX origins_by_episode ON origins (number)",
        # Counters stand apart: changing one must not rewrite an episode's text.
        """CREATE TABLE hits (
            number INTEGER PRIMARY KEY REFERENCES episodes ON DELETE CASCADE,
            count INTEGER NOT NULL,
            last INTEGER
        ) STRICT""",
        "CREATE TABLE models (name TEXT PRIMARY KEY, dimension INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        """CREATE TABLE vectors (
            model TEXT NOT NULL REFERENCES models,
            number INTEGER NOT NULL REFERENCES episodes ON DELETE CASCADE,
            windows INTEGER NOT NULL,
            data BLOB NOT NULL,
            PRIMARY KEY (model, number)
        ) STRICT""",
        "CREATE INDEX vectors_by_episode ON vectors (number)",
        """CREATE TABLE documents (
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            version INTEGER NOT NULL,
            value BLOB NOT NULL,
            PRIMARY KEY (kind, key)
        ) STRICT, WITHOUT ROWID""",
    ):
        connection.execute(statement)


STEPS: tuple[Callable[[sqlite3.Connection], None], ...] = (_first,)


def migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that are missing, each whole or not at all.

    Raises Unavailable for a database that is not ours, or that a newer version has written.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    filled = connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is not None
    if owner != APPLICATION_ID and (filled or owner or version):
        raise Unavailable("the database file belongs to another program; give this store a path of its own")
    if version > len(STEPS):
        raise Unavailable(
            f"the database has schema version {version}, this program knows {len(STEPS)}: "
            "it was written by a newer version, which is needed to open it"
        )
    for number, step in enumerate(STEPS[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            step(connection)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except sqlite3.Error:
            connection.execute("ROLLBACK")
            raise
