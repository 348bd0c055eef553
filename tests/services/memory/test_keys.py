"""The first key: made, given, replaced, and never lost in between."""

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from anamnesis.contracts.base import JsonObject
from anamnesis.kit.auth import key_hash
from anamnesis.kit.errors import Unavailable
from services.memory.keys import StoredKeys, ensure_first_key
from services.memory.stores.sqlite import SqliteStore

GIVEN = SecretStr("anm_given-to-the-service")


class Stoppable(SqliteStore):
    """Ends at a call as if the process did."""

    stop_at: str | None = None

    async def write(self, kind: str, key: str, value: JsonObject, expect: int | None = None) -> int | None:
        if self.stop_at == "write":
            raise Unavailable("stopped")
        return await super().write(kind, key, value, expect)

    async def delete(self, kind: str, key: str) -> bool:
        if self.stop_at == "delete":
            raise Unavailable("stopped")
        return await super().delete(kind, key)


async def _open_to(store: SqliteStore, *keys: str) -> list[bool]:
    known = StoredKeys(store)
    return [await known.identify(key_hash(key)) is not None for key in keys]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Stoppable]:
    opened = Stoppable(tmp_path / "keys.db")
    await opened.open()
    yield opened
    await opened.close()


async def test_a_given_key_takes_the_place_of_the_made_one(store: SqliteStore, tmp_path: Path) -> None:
    """The made key opens no more, and the file offers the given one to the command."""
    made = await ensure_first_key(store, None, tmp_path)
    assert made is not None
    assert (tmp_path / "api.key").read_text() == made + "\n"
    for _ in range(2):
        assert await ensure_first_key(store, GIVEN, tmp_path) is None
        assert (tmp_path / "api.key").read_text() == GIVEN.get_secret_value() + "\n"
        assert stat.S_IMODE((tmp_path / "api.key").stat().st_mode) == 0o600
    assert await _open_to(store, made, GIVEN.get_secret_value()) == [False, True]


@pytest.mark.parametrize("stopped_at", ["write", "delete"])
async def test_an_interrupted_replacement_is_finished_by_the_next_start(
    store: Stoppable, tmp_path: Path, stopped_at: str
) -> None:
    """Wherever it stopped, the former key is worth nothing afterwards, and the file holds the given one."""
    made = await ensure_first_key(store, None, tmp_path)
    assert made is not None

    store.stop_at = stopped_at
    with pytest.raises(Unavailable):
        await ensure_first_key(store, GIVEN, tmp_path)
    assert await _open_to(store, made) == [True]
    store.stop_at = None
    await ensure_first_key(store, GIVEN, tmp_path)
    assert await _open_to(store, made, GIVEN.get_secret_value()) == [False, True]
    assert (tmp_path / "api.key").read_text() == GIVEN.get_secret_value() + "\n"


async def test_another_store_of_the_same_directory_takes_the_key_that_is_there(
    store: SqliteStore, tmp_path: Path
) -> None:
    """Whoever changes stores and back goes on with one key; a file that holds none is written anew."""
    made = await ensure_first_key(store, None, tmp_path)
    assert made is not None
    other = SqliteStore(tmp_path / "other.db")
    await other.open()
    assert await ensure_first_key(other, None, tmp_path) == made
    assert await _open_to(store, made) == await _open_to(other, made) == [True]
    await other.close()
    third = SqliteStore(tmp_path / "third.db")
    await third.open()
    (tmp_path / "api.key").write_text("short\n")
    fresh = await ensure_first_key(third, None, tmp_path)
    assert fresh not in (None, made, "short")
    assert (tmp_path / "api.key").read_text() == f"{fresh}\n"
    await third.close()


async def test_no_key_is_kept_that_nobody_was_told(tmp_path: Path) -> None:
    """When its file cannot be written no key is stored, so that the next start makes one that is known."""
    store = SqliteStore(tmp_path / "keys.db")
    await store.open()
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match="taken"):
        await ensure_first_key(store, None, tmp_path / "taken")
    assert await store.list("keys") == []
    await store.close()
