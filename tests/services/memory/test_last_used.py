"""When keys were last used: written now and then, through faults, and never for a key that is gone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.keys import KeyCreate, KeyRecord, Scope
from anamnesis.kit.auth import key_hash
from anamnesis.kit.errors import Unavailable
from services.memory.keys import StoredKeys
from services.memory.last_used import KIND, LastUsed
from services.memory.stores.base import Document
from services.memory.stores.sqlite import SqliteStore


class Counting(SqliteStore):
    """Counts writes, refuses some, and lets something happen between a read and a write."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.writes = 0
        self.away = 0
        self.after_read: Callable[[], Awaitable[None]] | None = None
        self.written = asyncio.Event()

    async def read(self, kind: str, key: str) -> Document | None:
        found = await super().read(kind, key)
        if self.after_read is not None:
            await self.after_read()
        return found

    async def write(self, kind: str, key: str, value: JsonObject, expect: int | None = None) -> int | None:
        if expect is not None and self.away:
            self.away -= 1
            raise Unavailable("the store is away")
        self.writes += 1
        version = await super().write(kind, key, value, expect)
        self.written.set()
        return version


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Counting]:
    opened = Counting(tmp_path / "uses.db")
    await opened.open()
    yield opened
    await opened.close()


async def _made(store: Counting) -> str:
    """A key; its hash."""
    made = await StoredKeys(store, LastUsed(store)).create(KeyCreate(name="laptop", scope=Scope.ADMIN))
    store.writes = 0
    store.written.clear()
    return key_hash(made.key)


async def _record(store: Counting, hash: str) -> KeyRecord:
    document = await store.read(KIND, hash)
    assert document is not None
    return KeyRecord.model_validate(document.value)


async def test_a_busy_key_is_written_once_a_minute(store: Counting) -> None:
    """A hundred uses in a row are one write."""
    hash = await _made(store)
    uses = LastUsed(store)
    for _ in range(100):
        uses.note(hash)
        await asyncio.sleep(0)
    await uses.close()
    assert store.writes == 1
    assert (await _record(store, hash)).last_used is not None


async def test_a_later_use_is_written_again(store: Counting) -> None:
    """Once the time between two notes has passed, the newer moment takes the place of the older one."""
    hash = await _made(store)
    uses = LastUsed(store, every=0.0)
    uses.note(hash)
    await asyncio.wait_for(store.written.wait(), 10)
    first = (await _record(store, hash)).last_used
    await asyncio.sleep(0.01)
    uses.note(hash)
    await uses.close()
    second = (await _record(store, hash)).last_used
    assert first is not None
    assert second is not None
    assert second > first


async def test_a_store_that_is_away_loses_nothing(store: Counting) -> None:
    """A use is written when the store is back."""
    hash = await _made(store)
    store.away = 2
    uses = LastUsed(store, retry=0.01)
    uses.note(hash)
    await asyncio.wait_for(store.written.wait(), 10)
    await uses.close()
    assert store.away == 0
    assert (await _record(store, hash)).last_used is not None


async def test_the_end_does_not_wait_for_a_store_that_is_away(store: Counting) -> None:
    """Closing tries once more and gives up."""
    hash = await _made(store)
    store.away = 1_000
    uses = LastUsed(store, retry=3_600.0)
    uses.note(hash)
    await asyncio.wait_for(uses.close(), 10)


async def test_a_key_that_is_revoked_meanwhile_does_not_come_back(store: Counting) -> None:
    """A key that goes between the read and the write of a use stays gone."""
    hash = await _made(store)
    uses = LastUsed(store)

    async def delete_it() -> None:
        store.after_read = None
        await store.delete(KIND, hash)

    store.after_read = delete_it
    uses.note(hash)
    await uses.close()
    assert store.after_read is None
    assert await store.read(KIND, hash) is None
