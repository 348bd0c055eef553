"""Keys in the store: the first is made, given, replaced and never lost in between; others come, expire and go."""

import stat
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from anamnesis.contracts.base import JsonObject, now
from anamnesis.contracts.keys import KeyCreate, KeyKind, KeyRecord, Scope
from anamnesis.kit.auth import key_hash
from anamnesis.kit.errors import Conflict, NotFound, Unavailable
from services.memory.keys import FIRST, StoredKeys, ensure_first_key
from services.memory.last_used import KIND, LastUsed
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
    known = StoredKeys(store, LastUsed(store))
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


@pytest.fixture
async def keys(store: SqliteStore) -> AsyncIterator[StoredKeys]:
    uses = LastUsed(store)
    yield StoredKeys(store, uses)
    await uses.close()


async def test_a_key_stored_before_keys_could_end_still_opens(store: SqliteStore, keys: StoredKeys) -> None:
    """A document with no more than the first fields is a key without an end that was never used."""
    hash = key_hash("anm_from-long-ago")
    old: JsonObject = {
        "key_id": "key_old",
        "name": "first",
        "scope": "admin",
        "hash": hash,
        "created_at": "2026-01-01T00:00:00Z",
    }
    await store.write(KIND, hash, old)
    assert await keys.identify(hash) is not None
    (listed,) = await keys.list()
    assert (listed.kind, listed.expires_at, listed.last_used) == (KeyKind.API, None, None)


async def test_a_key_ends_when_its_time_has_come(store: SqliteStore, keys: StoredKeys) -> None:
    """An expired key opens nothing, is not listed, and is cleared away when the next one is made."""
    made = await keys.create(KeyCreate(name="for a day", scope=Scope.READ, expires_in_days=1))
    assert made.expires_at is not None
    assert abs(made.expires_at - now() - timedelta(days=1)) < timedelta(minutes=10)
    identity = await keys.identify(key_hash(made.key))
    assert identity is not None
    assert identity.expires_at == made.expires_at
    document = await store.read(KIND, key_hash(made.key))
    assert document is not None
    record = KeyRecord.model_validate(document.value).model_copy(update={"expires_at": now() - timedelta(seconds=1)})
    await store.write(KIND, record.hash, record.model_dump(mode="json"))
    assert await keys.identify(record.hash) is None
    assert await keys.list() == ()
    await keys.create(KeyCreate(name="next", scope=Scope.READ))
    assert await store.read(KIND, record.hash) is None


async def test_a_list_holds_no_hash(keys: StoredKeys) -> None:
    """What is listed is what may be seen, the oldest first."""
    made = [await keys.create(KeyCreate(name=f"key {number}", scope=Scope.WRITE)) for number in range(3)]
    listed = await keys.list()
    assert {one.key_id for one in listed} == {one.key_id for one in made}
    assert [one.created_at for one in listed] == sorted(one.created_at for one in listed)
    assert all(key_hash(one.key) not in str(listed) and one.key not in str(listed) for one in made)


async def test_the_last_admin_key_without_an_end_stays(keys: StoredKeys) -> None:
    """One that ends some day is no reason to let go of the last that does not."""
    first = await keys.create(KeyCreate(name="mine", scope=Scope.ADMIN))
    await keys.create(KeyCreate(name="for a while", scope=Scope.ADMIN, expires_in_days=30))
    await keys.create(KeyCreate(name="writer", scope=Scope.WRITE))
    with pytest.raises(Conflict, match="create another one first"):
        await keys.revoke(first.key_id)
    second = await keys.create(KeyCreate(name="another", scope=Scope.ADMIN))
    assert await keys.revoke(first.key_id) == (first.key_id,)
    assert await keys.identify(key_hash(first.key)) is None
    assert await keys.identify(key_hash(second.key)) is not None
    with pytest.raises(NotFound):
        await keys.revoke(first.key_id)


async def test_browsers_go_with_the_key_that_let_them_in(store: SqliteStore, keys: StoredKeys, tmp_path: Path) -> None:
    """Revoking a key ends the sessions that began with it, and no other; so does replacing the first key."""
    parent = await keys.create(KeyCreate(name="reader", scope=Scope.READ))
    session = KeyCreate(name="browser on Firefox", scope=Scope.READ, expires_in_days=1, kind=KeyKind.BROWSER)
    child = await keys.create(session.model_copy(update={"parent": parent.key_id}))
    other = await keys.create(session)
    assert set(await keys.revoke(parent.key_id)) == {parent.key_id, child.key_id}
    assert await _open_to(store, parent.key, child.key, other.key) == [False, False, True]
    with pytest.raises(NotFound):
        await keys.create(session.model_copy(update={"parent": parent.key_id}))

    await ensure_first_key(store, GIVEN, tmp_path)
    first = next(one for one in await keys.list() if one.name == FIRST)
    child = await keys.create(session.model_copy(update={"parent": first.key_id}))
    await ensure_first_key(store, SecretStr("anm_another-one-is-given"), tmp_path)
    assert await _open_to(store, GIVEN.get_secret_value(), child.key, other.key) == [False, False, True]


async def test_the_name_of_the_first_key_is_taken(keys: StoredKeys) -> None:
    """A key of that name would vanish when the first one is replaced."""
    with pytest.raises(Conflict):
        await keys.create(KeyCreate(name=FIRST, scope=Scope.WRITE))


async def test_a_name_holds_no_secret(keys: StoredKeys) -> None:
    """Who pastes a key where its name belongs does not have it kept and listed."""
    pasted = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"
    made = await keys.create(KeyCreate(name=f"for {pasted}", scope=Scope.READ))
    assert made.name.startswith("for [REDACTED:")
    assert [one.name for one in await keys.list()] == [made.name]


async def test_the_number_of_keys_is_bounded(store: SqliteStore) -> None:
    """Too many keys are refused; a browser too many ends the session that was used longest ago."""
    keys = StoredKeys(store, LastUsed(store), max_keys=2, max_sessions=2)
    for name in ("one", "two"):
        await keys.create(KeyCreate(name=name, scope=Scope.ADMIN))
    with pytest.raises(Conflict, match="revoke those"):
        await keys.create(KeyCreate(name="three", scope=Scope.ADMIN))
    session = KeyCreate(name="browser", scope=Scope.ADMIN, expires_in_days=1, kind=KeyKind.BROWSER)
    sessions = [await keys.create(session) for _ in range(3)]
    kept = {one.key_id for one in await keys.list() if one.kind is KeyKind.BROWSER}
    assert len(kept) == 2
    assert sessions[2].key_id in kept


async def test_nobody_ends_the_sessions_of_others(store: SqliteStore) -> None:
    """Who logs in again and again by one key ends its own sessions, those used longest ago first."""
    keys = StoredKeys(store, LastUsed(store), max_sessions=5, max_of_one=2)
    reader = await keys.create(KeyCreate(name="reader", scope=Scope.READ))
    session = KeyCreate(name="browser", scope=Scope.READ, expires_in_days=1, kind=KeyKind.BROWSER)
    others = [await keys.create(session.model_copy(update={"scope": Scope.ADMIN})) for _ in range(3)]
    own = [await keys.create(session.model_copy(update={"parent": reader.key_id})) for _ in range(8)]
    kept = [one.key_id for one in await keys.list() if one.kind is KeyKind.BROWSER]
    assert set(kept) == {one.key_id for one in (*others, *own[-2:])}


async def test_a_session_ends_with_its_parent(keys: StoredKeys) -> None:
    """However long it was wished for."""
    parent = await keys.create(KeyCreate(name="guest", scope=Scope.ADMIN, expires_in_days=1))
    wish = KeyCreate(name="browser", scope=Scope.ADMIN, kind=KeyKind.BROWSER, parent=parent.key_id)
    assert (await keys.create(wish)).expires_at == parent.expires_at
    assert (await keys.create(wish.model_copy(update={"expires_in_days": 30}))).expires_at == parent.expires_at
    shorter = await keys.create(wish.model_copy(update={"expires_in_days": 0.5}))
    assert shorter.expires_at is not None
    assert parent.expires_at is not None
    assert shorter.expires_at < parent.expires_at


async def test_a_programs_key_does_not_become_the_first(keys: StoredKeys, store: SqliteStore, tmp_path: Path) -> None:
    """A key that is another one's already, left in the environment of a start, stays what it is and ends nobody."""
    await ensure_first_key(store, GIVEN, tmp_path)
    made = await keys.create(KeyCreate(name="my-editor", scope=Scope.WRITE))
    assert await ensure_first_key(store, SecretStr(made.key), tmp_path) is None
    assert await _open_to(store, GIVEN.get_secret_value(), made.key) == [True, True]
    identity = await keys.identify(key_hash(made.key))
    assert identity is not None
    assert (identity.name, identity.scope) == ("my-editor", Scope.WRITE)
    assert (tmp_path / "api.key").read_text().strip() == GIVEN.get_secret_value()
