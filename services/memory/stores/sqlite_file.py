"""One SQLite database file: its lock, its settings, the connections that read and the thread that writes.

Everything here blocks; `sqlite.SqliteStore` calls it from its event loop through `read`, `compute` and `write`,
which return futures.
"""

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from anamnesis.kit.errors import AnamnesisError, Unavailable
from services.memory.stores.index import Change
from services.memory.stores.migrations import migrate
from services.memory.stores.writer import Job, Writer, translated

T = TypeVar("T")

_BUSY = 5000
"""Milliseconds to wait for a lock that another program holds on the database (a backup, a shell)."""
_LOCK_WAIT = 5.0
"""Seconds to wait for a former process that is about to end."""
_WAITING_WRITES = 1024
_PAGES_UNTIL_CHECKPOINT = 4000
_LOG_LIMIT = 64 * 2**20
"""Bytes that the write-ahead log may keep on disk after a checkpoint."""


class SqliteFile:
    """Opened, used and closed by one process; can be opened again after `close`."""

    def __init__(
        self,
        path: Path,
        apply: Callable[[Sequence[Change]], None],
        *,
        readers: int,
        linger: float,
        max_bytes: int | None,
    ) -> None:
        self.path = path
        self._apply = apply
        self._readers = readers
        self._linger = linger
        self._max_bytes = max_bytes
        self._lock: int | None = None
        self._writer: Writer | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []

    # Life -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Raises Unavailable when the file is in use, not ours, newer than this program, or cannot be made."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = self._locked()
            # Made here because SQLite would make it readable by others; the log takes its mode from it.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            self._unlock()
            raise Unavailable(f"the database cannot be opened at {self.path}: {error.strerror}") from error
        connection: sqlite3.Connection | None = None
        try:
            connection = self._connect()
            migrate(connection)
        except (sqlite3.Error, AnamnesisError) as error:
            if connection is not None:
                connection.close()
            self._unlock()
            raise (translated(error) if isinstance(error, sqlite3.Error) else error) from None
        self._writer = Writer(connection, self._apply, self._linger, _WAITING_WRITES)
        self._writer.start()
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(self._readers, thread_name_prefix="sqlite-reader")

    def close(self, timeout: float) -> None:
        """Commit what was accepted, empty the log into the database, give the lock back."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        if self._writer is not None:
            self._writer.stop(timeout)
            self._writer = None
        self._unlock()

    def _locked(self) -> int:
        descriptor = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + _LOCK_WAIT
        while True:
            try:
                # A POSIX lock ends with the process, however it ends, and forked workers do not inherit it.
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    os.close(descriptor)
                    raise Unavailable(f"another process has the database {self.path} open") from None
                time.sleep(0.05)
            else:
                return descriptor

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _connect(self) -> sqlite3.Connection:
        # Connections are opened on one thread and closed on another; each is used by one at a time.
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=_BUSY / 1000, cached_statements=256
        )
        try:
            for pragma in (
                "journal_mode = WAL",
                "synchronous = FULL",
                "foreign_keys = ON",
                "secure_delete = ON",
                "temp_store = MEMORY",
                f"wal_autocheckpoint = {_PAGES_UNTIL_CHECKPOINT}",
                f"journal_size_limit = {_LOG_LIMIT}",
            ):
                connection.execute(f"PRAGMA {pragma}")
            if self._max_bytes is not None:
                size = int(connection.execute("PRAGMA page_size").fetchone()[0])
                connection.execute(f"PRAGMA max_page_count = {max(1, self._max_bytes // size)}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    # Use --------------------------------------------------------------------------------------

    @property
    def trouble(self) -> str | None:
        """Why nothing can be read or written now; none = all is well."""
        if self._writer is None:
            return "the store is not open"
        if self._writer.failed is not None:
            return self._writer.failed
        return None if self._writer.alive else "the writer has ended"

    def size(self) -> int:
        """Bytes on disk, the log included."""
        return sum(
            path.stat().st_size for path in (self.path, self.path.with_name(self.path.name + "-wal")) if path.exists()
        )

    def write(self, job: Job[T], lazy: bool = False, erase: bool = False) -> "Future[T]":
        """Queue a job for the writer. Raises queue.Full when too many wait, Unavailable when not open."""
        if self._writer is None:
            raise Unavailable("the store is not open")
        return self._writer.submit(job, lazy, erase)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        """Run a function on a reading connection, in one transaction: it sees one moment."""
        return self.compute(lambda: self._reading(work))

    def compute(self, work: Callable[[], T]) -> "Future[T]":
        """Run a function on a reading thread."""
        if self._pool is None:
            raise Unavailable("the store is not open")
        return self._pool.submit(work)

    def _reading(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._connect()
                connection.execute("PRAGMA query_only = ON")
                self._connections.append(connection)
                self._local.connection = connection
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise translated(error) from None
