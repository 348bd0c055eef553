"""The one thread that writes to SQLite: what waits together is committed together, with one fsync.

Each job runs in a savepoint of its own, so one that fails takes no other with it. After the commit the changes
are handed on (to the in-memory index), and only then is anybody told that a write is done.
"""

import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from anamnesis.kit.errors import AnamnesisError, StorageFull, Unavailable
from services.memory.stores.index import Change

T = TypeVar("T")
Job = Callable[[sqlite3.Connection, list[Change]], T]
"""Writes, notes what it changed, and returns its result. It may be run again when its transaction is lost."""

_GROUP = 128
"""Jobs in one transaction at most."""
_ERASE_WAIT = 100
"""Milliseconds that emptying the log waits for readers."""
_ERASE_AGAIN = 1.0
"""Seconds after which a writer without work tries again to empty the log."""
_AWAY = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
}
"""Codes that speak of the file, its locks or the machine; all others are mistakes in a statement of ours."""


class _Task(Protocol):
    """An `Outcome`, whatever its result."""

    lazy: bool
    erase: bool
    changes: list[Change]
    error: Exception | None

    def claim(self) -> bool: ...
    def run(self, connection: sqlite3.Connection) -> None: ...
    def settle(self) -> None: ...


class Outcome(Generic[T]):
    """What a job gave: its result or its error, held until the commit."""

    def __init__(self, job: Job[T], lazy: bool, erase: bool) -> None:
        self.future: Future[T] = Future()
        self.lazy = lazy
        self.erase = erase
        self.changes: list[Change] = []
        self.error: Exception | None = None
        self._job = job
        self._result: list[T] = []

    def claim(self) -> bool:
        """False when nobody waits for it any more; from now on it cannot be cancelled."""
        return self.future.set_running_or_notify_cancel()

    def run(self, connection: sqlite3.Connection) -> None:
        """Run the job in a savepoint. A failed one is undone and remembered; raises _Lost when all is undone."""
        self.changes, self.error, self._result = [], None, []
        connection.execute("SAVEPOINT job")
        try:
            self._result.append(self._job(connection, self.changes))
        except Exception as error:  # the thread's edge: it is handed to whoever waits
            self.error, self.changes = error, []
            if not connection.in_transaction:
                raise _Lost from error
            connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")

    def settle(self) -> None:
        """Tell whoever waits."""
        if self.error is not None:
            self.future.set_exception(translated(self.error) if isinstance(self.error, sqlite3.Error) else self.error)
        else:
            self.future.set_result(self._result[0])


class _Lost(Exception):
    """SQLite rolled the whole transaction back by itself (no room, no memory, a failed write)."""


class Writer:
    """Owns the writing connection from `start` to `stop`."""

    def __init__(
        self, connection: sqlite3.Connection, apply: Callable[[Sequence[Change]], None], linger: float, limit: int
    ) -> None:
        self._connection = connection
        self._apply = apply
        self._linger = linger
        self._busy = int(connection.execute("PRAGMA busy_timeout").fetchone()[0])
        self._erase_due = False
        self._queue: queue.Queue[_Task | None] = queue.Queue(maxsize=limit)
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self.failed: str | None = None
        """Why nothing can be written or searched any more, until the store is opened again."""

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job[T], lazy: bool = False, erase: bool = False) -> Future[T]:
        """Queue a job; raises queue.Full at once when too many wait.

        A lazy one waits for others to share a commit. What one with `erase` has removed leaves the log as well.
        """
        outcome = Outcome(job, lazy, erase)
        self._queue.put_nowait(outcome)
        return outcome.future

    def stop(self, timeout: float) -> None:
        """Commit what waits and end the thread. Raises Unavailable if it does not end in time."""
        self._queue.put(None, timeout=timeout)
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise Unavailable(f"the writer did not finish within {timeout} seconds")
        self._connection.close()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and self.failed is None

    def _run(self) -> None:
        going = True
        while going:
            group, going = self._gather()
            group = [outcome for outcome in group if outcome.claim()]
            if group:
                self._write(group)
            elif self._erase_due:
                self._erase()

    def _gather(self) -> tuple[list[_Task], bool]:
        """What waits now; the first of it is waited for, and lazy jobs wait for others.

        Nothing, when nothing comes while the log is still to be emptied.
        """
        group: list[_Task] = []
        until: float | None = None
        while len(group) < _GROUP:
            try:
                if not group:
                    outcome = self._queue.get(timeout=_ERASE_AGAIN if self._erase_due else None)
                elif all(outcome.lazy for outcome in group) and until is not None:
                    outcome = self._queue.get(timeout=max(0.0, until - time.monotonic()))
                else:
                    outcome = self._queue.get_nowait()
            except queue.Empty:
                break
            if outcome is None:
                return group, False
            group.append(outcome)
            until = until or time.monotonic() + self._linger
        return group, True

    def _write(self, group: list[_Task]) -> None:
        try:
            lost = self._commit(group)
            if lost and len(group) > 1:
                # Somebody's write did not fit and took the others with it: give each a transaction of its own.
                for outcome in group:
                    self._commit([outcome])
            changes = [change for outcome in group if outcome.error is None for change in outcome.changes]
            self._apply(changes)
            self._erase_due |= any(outcome.erase and outcome.error is None for outcome in group)
        except Exception as error:  # noqa: BLE001 -- the thread's edge
            # What was committed is safe in the database, but the index may lack it: nothing may be read from it.
            self.failed = f"the in-memory index could not follow a write ({type(error).__name__}); open the store again"
            for outcome in group:
                outcome.error = Unavailable(self.failed)
        if self._erase_due:
            self._erase()
        for outcome in group:
            outcome.settle()

    def _erase(self) -> None:
        """Empty the log into the database, where removed rows are zeros. Readers may keep it from that: then later."""
        self._connection.execute(f"PRAGMA busy_timeout = {_ERASE_WAIT}")
        with contextlib.suppress(sqlite3.Error):
            busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            self._erase_due = bool(busy)
        self._connection.execute(f"PRAGMA busy_timeout = {self._busy}")

    def _commit(self, group: list[_Task]) -> bool:
        """One transaction; true when it was lost as a whole, with the reason as each job's error."""
        connection = self._connection
        try:
            if self.failed is not None:
                raise Unavailable(self.failed)
            connection.execute("BEGIN IMMEDIATE")
            for outcome in group:
                outcome.run(connection)
            connection.execute("COMMIT")
        except (sqlite3.Error, AnamnesisError, _Lost) as error:
            reason = error.__cause__ if isinstance(error, _Lost) else error
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            for outcome in group:
                outcome.error = reason if isinstance(reason, Exception) else error
                outcome.changes = []
            return True
        return False


def translated(error: sqlite3.Error) -> Exception:
    """What SQLite reports, as our error where it is the file's or the machine's state; a mistake of ours stays itself.

    Its messages name tables and files, never values.
    """
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF  # what is above says more of the same
    if primary == sqlite3.SQLITE_FULL:
        return StorageFull("there is no room left for the database; free some and try again")
    if primary in _AWAY:
        return Unavailable(f"the database refused: {error}")
    return error
