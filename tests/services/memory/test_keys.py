"""The first key: made, given, replaced, and never lost in between."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from anamnesis.kit.auth import key_hash
from services.memory.keys import StoredKeys, ensure_first_key
from services.memory.stores.sqlite import SqliteStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "keys.db")
    await opened.open()
    yield opened
    await opened.close()


async def test_a_given_key_takes_the_place_of_the_made_one(store: SqliteStore, tmp_path: Path) -> None:
    """The made key opens no more, and no file goes on offering it to the command."""
    made = await ensure_first_key(store, None, tmp_path)
    assert made is not None
    assert (tmp_path / "api.key").read_text() == made + "\n"
    assert await ensure_first_key(store, SecretStr("anm_given"), tmp_path) is None
    assert not (tmp_path / "api.key").exists()
    keys = StoredKeys(store)
    assert await keys.identify(key_hash(made)) is None
    assert await keys.identify(key_hash("anm_given")) is not None


async def test_no_key_is_kept_that_nobody_was_told(tmp_path: Path) -> None:
    """When its file cannot be written no key is stored, so that the next start makes one that is known."""
    store = SqliteStore(tmp_path / "keys.db")
    await store.open()
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match="taken"):
        await ensure_first_key(store, None, tmp_path / "taken")
    assert await store.list("keys") == []
    await store.close()
