"""The embedded store: SQLite as the only truth, and exact search in memory beside it.

Owns the database file, its connections and threads, and keeps `index.MemoryIndex` in step with it: the index
follows a commit before the write returns, so whoever has been told of a write finds it. One process has a
database open at a time; others are refused. The statements are in `episode_sql`, `vector_sql`, `document_sql`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from queue import Full
from sqlite3 import Connection
from typing import TypeVar

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.episodes import Amended, Amendment, Episode, EpisodeStats, ForgetProof
from anamnesis.contracts.insight import Bucket, TimelinePoint
from anamnesis.kit.errors import Busy, Invalid, Unavailable
from services.memory.stores import document_sql, episode_sql, rows, vector_sql
from services.memory.stores.base import (
    BLOCKLIST,
    USEFULNESS,
    CandidateQuery,
    Candidates,
    Document,
    Edit,
    Filter,
    Inserted,
    Joining,
    Openings,
    Record,
    Removal,
    Vectors,
)
from services.memory.stores.index import Change, MemoryIndex, Put
from services.memory.stores.progress import Progress
from services.memory.stores.searches import Searches
from services.memory.stores.sqlite_file import SqliteFile
from services.memory.stores.writer import Job

T = TypeVar("T")

_LOAD = 2000
"""Rows read at a time while the index is built."""
_DROP = 1000
"""Episodes whose vectors are dropped in one transaction, so that other writes find their turn."""
_LOADING = 600.0
"""Seconds that reading the whole database into memory may take."""
_GRACE = 30.0
"""Seconds for which a model stays in memory after another became the active one."""


class SqliteStore:
    """A `Store` in one file. Threads: one writes, `readers` read, `search_threads` search."""

    def __init__(
        self,
        path: Path,
        *,
        readers: int = 2,
        search_threads: int = 1,
        timeout: float = 30.0,
        linger: float = 0.5,
        max_bytes: int | None = None,
    ) -> None:
        """`timeout`: seconds that any call may take. `linger`: seconds that `record_hits` waits to share a commit.

        `max_bytes`: what the database may grow to; none = the disk.
        """
        self._timeout = timeout
        self._file = SqliteFile(path, self._committed, readers=readers, linger=linger, max_bytes=max_bytes)
        self._searches = Searches(search_threads)
        self._index = MemoryIndex()
        self._progress = Progress()
        self._active: str | None = None
        self._activation = asyncio.Lock()
        self._release: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Lock the file, migrate, and build the index. Raises Unavailable when another process has it."""
        self._index = MemoryIndex()
        self._progress = Progress()
        self._active = None
        await asyncio.to_thread(self._file.open)
        self._searches.open()
        try:
            await self._read(self._build, _LOADING)
        except BaseException:
            await self.close()
            raise

    def _build(self, connection: Connection) -> None:
        for batch in rows.index_rows(connection, _LOAD):
            self._index.apply([Put(row, {}) for row in batch])

    async def close(self) -> None:
        """Finish what was accepted, then close everything; safe to call twice."""
        if self._release is not None:
            self._release.cancel()
        await self._searches.close()
        await asyncio.to_thread(self._file.close, self._timeout)

    async def ping(self) -> None:
        self._usable()
        await self._read(lambda connection: connection.execute("SELECT 1 FROM episodes LIMIT 1").fetchone())

    # Episodes ---------------------------------------------------------------------------------

    async def insert(self, records: Sequence[Record]) -> list[Inserted]:
        items = await self._compute(lambda: [rows.prepared(record) for record in records])
        return await self._write(lambda connection, changes: episode_sql.insert(connection, changes, items))

    async def replace(self, records: Sequence[Record]) -> list[bool]:
        items = await self._compute(lambda: [rows.prepared(record) for record in records])
        return await self._write(lambda connection, changes: episode_sql.replace(connection, changes, items))

    async def amend(self, amendments: Sequence[Amendment]) -> list[Amended]:
        return await self._write(lambda connection, changes: episode_sql.amend(connection, changes, amendments))

    async def join(self, joinings: Sequence[Joining]) -> list[bool]:
        items = await self._compute(lambda: [(rows.prepared(one.record), one.members) for one in joinings])
        return await self._write(lambda connection, changes: episode_sql.join(connection, changes, items))

    async def get(self, episode_ids: Sequence[str]) -> dict[str, Episode]:
        return await self._read(lambda connection: episode_sql.get(connection, episode_ids, self._active))

    async def find_content(self, hashes: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
        return await self._read(lambda connection: episode_sql.find_content(connection, hashes))

    async def holding(self, hashes: Sequence[str]) -> list[str]:
        return await self._read(lambda connection: episode_sql.holding(connection, hashes))

    async def page(self, where: Filter, skip: int, limit: int) -> tuple[list[Episode], int]:
        return await self._read(lambda connection: episode_sql.page(connection, where, skip, limit, self._active))

    async def scan(self, where: Filter, batch: int = 500) -> AsyncIterator[list[Episode]]:
        """Each batch is a read of its own: a slow reader holds nothing up, and what is written ahead of it is seen."""
        last = ""
        while found := await self._read(self._after(where, last, batch)):
            yield found
            last = found[-1].episode_id

    def _after(self, where: Filter, last: str, batch: int) -> Callable[[Connection], list[Episode]]:
        return lambda connection: episode_sql.after(connection, where, last, batch, self._active)

    async def vectors(self, model: str, episode_ids: Sequence[str]) -> dict[str, Vectors]:
        return await self._read(lambda connection: vector_sql.get(connection, model, episode_ids))

    async def remove(self, removal: Removal) -> tuple[int, int]:
        """As the protocol says; the bytes are overwritten in the file and leave the log with the next checkpoint."""

        def job(connection: Connection, changes: list[Change]) -> tuple[int, int]:
            removed = episode_sql.remove(connection, changes, removal.episode_ids)
            document_sql.remove(connection, USEFULNESS, removal.episode_ids)
            document_sql.write_many(connection, BLOCKLIST, removal.block)
            return removed

        return await self._write(job, erase=True)

    async def proof(self, episode_ids: Sequence[str], hashes: Sequence[str], blocked: Sequence[str]) -> ForgetProof:
        index = self._index

        def count(connection: Connection) -> ForgetProof:
            left = episode_sql.left(connection, episode_ids, hashes)
            return ForgetProof(
                by_id=left.by_id,
                by_content=left.by_content,
                vectors=left.vectors,
                index=index.count(episode_ids),
                blocklist=document_sql.count(connection, BLOCKLIST, blocked),
            )

        return await self._read(count)

    async def derived(self, episode_id: str) -> list[str]:
        return await self._read(lambda connection: episode_sql.derived(connection, episode_id))

    async def supersede(self, episode_ids: Sequence[str], by: str | None) -> int:
        return await self._write(
            lambda connection, changes: episode_sql.supersede(connection, changes, episode_ids, by)
        )

    async def superseded_by(self, episode_id: str) -> list[str]:
        return await self._read(lambda connection: episode_sql.superseded_by(connection, episode_id))

    async def record_hits(self, hits: Mapping[str, int], at: datetime) -> None:
        """Durable when it returns, like every write, but it waits up to `linger` seconds to share a commit.

        Do not await it while somebody waits for a search.
        """
        await self._write(lambda connection, _: episode_sql.record_hits(connection, hits, at), lazy=True)

    async def stats(self, model: str) -> EpisodeStats:
        return await self._read(lambda connection: episode_sql.stats(connection, model, self._file.size()))

    async def timeline(self, where: Filter, bucket: Bucket, limit: int) -> list[TimelinePoint]:
        self._usable()
        return await self._compute(lambda: self._index.timeline(where, bucket, limit))

    async def openings(self, model: str, where: Filter, limit: int) -> Openings:
        self._usable()
        if not self._index.ready(model):
            await self._load(model)
        return await self._compute(lambda: self._index.openings(model, where, limit))

    # Search -----------------------------------------------------------------------------------

    async def candidates(self, query: CandidateQuery) -> Candidates:
        """As the protocol says. A model that is not in memory yet is loaded first, which `activate` can do ahead."""
        self._usable()
        if not self._index.ready(query.model):
            await self._load(query.model)
        known = self._index.dimension(query.model)
        if known is not None and query.vector.shape != (known,):
            raise Invalid(f"the vectors of {query.model} have {known} dimensions, the question's {query.vector.shape}")
        return await self._within(self._searches.submit(self._index, query))

    # Re-embedding -----------------------------------------------------------------------------

    async def missing(self, model: str, limit: int) -> list[Episode]:
        begun = self._progress.begin(model)
        found = await self._read(
            lambda connection: episode_sql.missing(connection, model, begun.at_least, limit, self._active)
        )
        self._progress.reached(model, begun, found[0].episode_id if found else None)
        return found

    async def count_missing(self, model: str) -> int:
        return await self._read(lambda connection: vector_sql.count_missing(connection, model))

    async def put_vectors(self, model: str, items: Mapping[str, tuple[str, Vectors]]) -> None:
        packed = await self._compute(
            lambda: {name: (content, rows.checked(vectors)) for name, (content, vectors) in items.items()}
        )
        await self._write(lambda connection, changes: vector_sql.put(connection, changes, model, packed))

    async def prepare(self, model: str, dimension: int) -> None:
        """Raises Invalid when the model has vectors of another dimension."""
        await self._write(lambda connection, changes: vector_sql.prepare(connection, changes, model, dimension))

    async def activate(self, model: str) -> None:
        """Load the model's vectors beside those in memory, which leave a little later."""
        await self._load(model)
        self._active = model

    async def _load(self, model: str) -> None:
        async with self._activation:
            if self._index.ready(model):
                return
            known, windows = await self._read(
                lambda connection: (vector_sql.dimension(connection, model), vector_sql.count(connection, model))
            )
            if known is None:
                return
            # Writes reach the index from here on; the read that follows sees all that was written before.
            self._index.begin(model, known, windows)
            try:
                await self._read(lambda connection: self._fill(connection, model), _LOADING)
            except BaseException:
                self._index.release(model)
                raise
            self._index.finish(model)
            if self._release is not None:
                self._release.cancel()
            self._release = asyncio.get_running_loop().call_later(_GRACE, self._release_others)

    def _fill(self, connection: Connection, model: str) -> None:
        for batch in vector_sql.each(connection, model, _LOAD):
            self._index.fill(model, batch)

    def _release_others(self) -> None:
        for model in self._index.models():
            if self._active is not None and model != self._active and self._index.ready(model):
                self._index.release(model)

    async def drop_vectors(self, model: str) -> int:
        """In several transactions: an interrupted one has dropped a part, and is to be asked again."""
        total, left = 0, True
        while left:
            gone, left = await self._write(
                lambda connection, changes: vector_sql.drop(connection, changes, model, _DROP)
            )
            total += gone
        return total

    # State documents --------------------------------------------------------------------------

    async def read(self, kind: str, key: str) -> Document | None:
        return await self._read(lambda connection: document_sql.read(connection, kind, key))

    async def read_many(self, kind: str, keys: Sequence[str]) -> list[Document]:
        return await self._read(lambda connection: document_sql.read_many(connection, kind, keys))

    async def write(self, kind: str, key: str, value: JsonObject, expect: int | None = None) -> int | None:
        return await self._write(lambda connection, _: document_sql.write(connection, kind, key, value, expect))

    async def write_many(self, kind: str, values: Mapping[str, JsonObject]) -> None:
        await self._write(lambda connection, _: document_sql.write_many(connection, kind, values))

    async def edit(self, edits: Sequence[Edit]) -> bool:
        return await self._write(lambda connection, _: document_sql.edit(connection, edits))

    async def list(
        self,
        kind: str,
        prefix: str = "",
        *,
        after: str | None = None,
        skip: int = 0,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[Document]:
        return await self._read(
            lambda connection: document_sql.list_(connection, kind, prefix, after, skip, limit, reverse)
        )

    async def count(self, kind: str, prefix: str = "") -> int:
        return await self._read(lambda connection: document_sql.count_all(connection, kind, prefix))

    async def delete(self, kind: str, key: str) -> bool:
        return await self._write(lambda connection, _: document_sql.delete(connection, kind, key))

    # Threads ----------------------------------------------------------------------------------

    def _committed(self, changes: Sequence[Change]) -> None:
        """Runs on the writer's thread, between a commit and the news of it."""
        self._index.apply(changes)
        self._progress.committed(changes)

    def _usable(self) -> None:
        if (trouble := self._file.trouble) is not None:
            raise Unavailable(trouble)

    async def _read(self, work: Callable[[Connection], T], timeout: float | None = None) -> T:
        return await self._within(asyncio.wrap_future(self._file.read(work)), timeout)

    async def _compute(self, work: Callable[[], T]) -> T:
        return await self._within(asyncio.wrap_future(self._file.compute(work)))

    async def _write(self, job: Job[T], lazy: bool = False, erase: bool = False) -> T:
        try:
            future = self._file.write(job, lazy, erase)
        except Full:
            raise Busy("too many writes are waiting; try again in a moment") from None
        return await self._within(asyncio.wrap_future(future))

    async def _within(self, future: "asyncio.Future[T]", timeout: float | None = None) -> T:
        seconds = self._timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            raise Unavailable(f"the database did not answer within {seconds:g} seconds") from None
