"""The connection to MongoDB: one client, a deadline on everything, and errors in the platform's words.

Nothing of a failed operation but its code goes into an error: the driver's own messages repeat documents.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import pymongo
from bson import CodecOptions
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from anamnesis.kit.errors import AnamnesisError, StorageFull, TooLarge, Unavailable
from services.memory.stores.mongo_documents import Stored

READ_SECONDS, WRITE_SECONDS, LONG_SECONDS = 2.5, 5.0, 60.0
"""Deadlines: of a read, of a write (retried until then), of work over a whole collection."""
DUPLICATE_KEY = 11000
_AUTHENTICATION = {13, 18, 8000}
_NO_ROOM = {14031}
_TOO_LARGE = {10334, 17419, 17420}
"""A document over 16 MB, as it came or as an update made it."""
_PASSING = {50, 91, 189, 262, 11600, 11602, 10107, 13435, 13436}
"""Deadlines, shutdowns and elections: another try makes sense."""
_NO_LARGER = "MongoDB keeps no document over 16 MB"
_DURABLE = WriteConcern(w="majority", j=True)

T = TypeVar("T")


class Link:
    """An open client and its database."""

    def __init__(self, uri: str, database: str) -> None:
        try:
            self._client: AsyncMongoClient[Stored] = AsyncMongoClient(
                uri,
                appname="anamnesis-memory",
                connectTimeoutMS=2_000,
                serverSelectionTimeoutMS=2_000,
                retryReads=True,
                retryWrites=True,
                tz_aware=True,
            )
            self.database = self._client.get_database(
                database,
                codec_options=CodecOptions(tz_aware=True),
                write_concern=_DURABLE,
                read_concern=ReadConcern("majority"),
            )
        except (ConfigurationError, InvalidURI, ValueError):
            raise Unavailable("the MongoDB URI cannot be understood; check ANAMNESIS_MONGODB_URI") from None

    def collection(self, name: str) -> AsyncCollection[Stored]:
        return self.database.get_collection(name)

    async def close(self) -> None:
        await self._client.close()

    @asynccontextmanager
    async def short(self) -> AsyncIterator[None]:
        """The deadline of one write, within which it is tried again."""
        with within(WRITE_SECONDS):
            yield

    @asynccontextmanager
    async def long(self, seconds: float = LONG_SECONDS) -> AsyncIterator[None]:
        """A deadline for work over a whole collection, which begins only where the server is there: a deadline is
        also how long the driver looks for one.
        """
        with within(READ_SECONDS):
            await self.database.command("ping")
        with within(seconds):
            yield

    async def transaction(self, work: Callable[[AsyncClientSession], Awaitable[T]]) -> T:
        """Run `work` in a transaction, again when the server asks for it, until the deadline around it.

        A commit whose answer is lost is asked for again by itself: the server knows what it has committed.
        """
        async with self._client.start_session() as session:
            return await session.with_transaction(work, read_concern=ReadConcern("snapshot"), write_concern=_DURABLE)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """A deadline on all operations inside.

    Raises `Unavailable`, `StorageFull`, `TooLarge`, or `AnamnesisError` where we erred.
    """
    try:
        with pymongo.timeout(seconds):
            yield
    except (PyMongoError, DocumentTooLarge) as error:
        raise translated(error) from None


def is_duplicate(error: PyMongoError) -> bool:
    """A unique index was in the way."""
    if isinstance(error, BulkWriteError):
        return any(one.get("code") == DUPLICATE_KEY for one in (error.details or {}).get("writeErrors", []))
    return isinstance(error, DuplicateKeyError)


def translated(error: PyMongoError | DocumentTooLarge) -> AnamnesisError:
    if isinstance(error, DocumentTooLarge):  # what the driver says before it asks the server; not one of its errors
        return TooLarge(_NO_LARGER)
    if isinstance(error, ExecutionTimeout | ConnectionFailure | WaitQueueTimeoutError) or error.timeout:
        return Unavailable("MongoDB does not answer in time; is it running?")
    if isinstance(error, ConfigurationError):  # what a member says of sessions while it starts
        return Unavailable("MongoDB is starting, or is no replica set, which transactions need; try again")
    code = _code(error)
    if code in _NO_ROOM:
        return StorageFull("MongoDB has no room on its disk; free some and try again")
    if code in _TOO_LARGE:
        return TooLarge(_NO_LARGER)
    if code in _AUTHENTICATION:
        return Unavailable("MongoDB refuses the user or lacks a right; check ANAMNESIS_MONGODB_URI")
    if code in _PASSING or error.has_error_label("TransientTransactionError"):
        return Unavailable("MongoDB is restarting or busy; try again")
    return AnamnesisError(f"MongoDB refused an operation ({type(error).__name__}, code {code})")


def _code(error: PyMongoError) -> int | None:
    if isinstance(error, BulkWriteError):
        details = error.details or {}
        found = [*details.get("writeErrors", []), *details.get("writeConcernErrors", [])]
        return next((int(one["code"]) for one in found if "code" in one), None)
    return error.code if isinstance(error, OperationFailure) else None
