"""API keys in the store: looking one up, making and revoking them, and the first."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from anamnesis.contracts.base import MAX_NAME, now
from anamnesis.contracts.keys import Identity, KeyCreate, KeyCreated, KeyInfo, KeyKind, KeyRecord, Scope
from anamnesis.kit import files
from anamnesis.kit.auth import expired, key_hash, new_key
from anamnesis.kit.errors import Conflict, NotFound
from anamnesis.kit.logs import logger
from anamnesis.kit.settings import presentable
from anamnesis.redact import redact
from services.memory.last_used import KIND, LastUsed
from services.memory.stores.base import Store

FIRST = "first"  # the name of the key that a new installation begins with
MAX_KEYS = 1_000  # beside the sessions of browsers
MAX_SESSIONS = 200  # of browsers; past it, the one that was used longest ago ends
MAX_OF_ONE = 50  # sessions that one key has let in: whoever has a key may not end everybody else's

Shown = TypeVar("Shown", Identity, KeyInfo)


class StoredKeys:
    """Whose key has a hash, by the store. Keyed by hash, so a look-up is one read."""

    def __init__(
        self,
        store: Store,
        uses: LastUsed,
        max_keys: int = MAX_KEYS,
        max_sessions: int = MAX_SESSIONS,
        max_of_one: int = MAX_OF_ONE,
    ) -> None:
        self._store = store
        self._uses = uses
        self._max_keys = max_keys
        self._max_sessions = max_sessions
        self._max_of_one = max_of_one
        self._changing = asyncio.Lock()

    async def identify(self, hash: str) -> Identity | None:
        document = await self._store.read(KIND, hash)
        if document is None:
            return None
        record = KeyRecord.model_validate(document.value)
        if expired(record):
            return None
        self._uses.note(hash)
        return _of(record, Identity)

    async def list(self) -> tuple[KeyInfo, ...]:
        """All that open something, the oldest first."""
        return tuple(_of(record, KeyInfo) for record in await self._records() if not expired(record))

    async def create(self, wish: KeyCreate) -> KeyCreated:
        """A new key; the only time that it is seen. Those that have expired make room."""
        if wish.name == FIRST:
            raise Conflict(f"the name '{FIRST}' is that of the key that an installation begins with; choose another")
        async with self._changing:
            records = await self._records()
            for record in records:
                if expired(record):
                    await self._delete(record)
            records = [record for record in records if not expired(record)]
            parent = next((record for record in records if record.key_id == wish.parent), None)
            if wish.parent is not None and parent is None:
                raise NotFound("the key that lets this browser in is gone")
            await self._make_room(records, wish)
            key = new_key()
            until = now() + timedelta(days=wish.expires_in_days) if wish.expires_in_days is not None else None
            if parent is not None and parent.expires_at is not None:
                until = min(until, parent.expires_at) if until is not None else parent.expires_at
            name = redact(wish.name).text[:MAX_NAME].strip() or "(private)"
            record = _record(key, name, wish.scope).model_copy(
                update={"kind": wish.kind, "expires_at": until, "parent": wish.parent}
            )
            await self._store.write(KIND, record.hash, record.model_dump(mode="json"))
        return KeyCreated(**_of(record, KeyInfo).model_dump(), key=key)

    async def revoke(self, key_id: str) -> tuple[str, ...]:
        """End a key, and the sessions of browsers that were let in by it; the ids of all of them."""
        async with self._changing:
            records = await self._records()
            ending = [record for record in records if record.key_id == key_id]
            if not ending:
                raise NotFound(f"there is no key {key_id}; 'anamnesis keys list' shows those there are")
            lasting = [record for record in records if record.scope is Scope.ADMIN and record.expires_at is None]
            if lasting == ending:
                raise Conflict(
                    "this is the last admin key without an end, and without it nobody could come in any more; "
                    "create another one first ('anamnesis keys create NAME --scope admin')"
                )
            ending += [record for record in records if record.parent == key_id]
            for record in ending:
                await self._delete(record)
            return tuple(record.key_id for record in ending)

    async def _make_room(self, records: Sequence[KeyRecord], wish: KeyCreate) -> None:
        present = [record for record in records if record.kind is wish.kind]
        if wish.kind is KeyKind.API:
            if len(present) >= self._max_keys:
                raise Conflict(f"there are {len(present)} keys already; revoke those that nobody uses")
            return
        siblings = [record for record in present if record.parent == wish.parent and wish.parent is not None]
        ending = siblings if len(siblings) >= self._max_of_one else present
        if ending is siblings or len(present) >= self._max_sessions:
            await self._delete(min(ending, key=lambda record: record.last_used or record.created_at))

    async def _records(self) -> Sequence[KeyRecord]:
        records = [KeyRecord.model_validate(document.value) for document in await self._store.list(KIND)]
        return sorted(records, key=lambda record: (record.created_at, record.key_id))

    async def _delete(self, record: KeyRecord) -> None:
        await self._store.delete(KIND, record.hash)
        self._uses.forget(record.hash)


def _record(key: str, name: str, scope: Scope) -> KeyRecord:
    hash = key_hash(key)
    return KeyRecord(key_id=f"key_{hash[:12]}", name=name, scope=scope, hash=hash, created_at=now())


def _of(record: KeyRecord, shape: type[Shown]) -> Shown:
    """What of a record may leave."""
    return shape.model_validate(record.model_dump(include=set(shape.model_fields)))


async def ensure_first_key(store: Store, given: SecretStr | None, data: Path) -> str | None:
    """Make sure that somebody can come in.

    A given key becomes the first key, replacing the one before it. Otherwise, if there is no key
    at all, the one that another store of this data directory has left in `api.key` is taken, or else one is
    made; it is returned to be printed this once. Either is kept in `api.key` (mode 600) for the `anamnesis`
    command. Safe to repeat: a start that was interrupted is finished by the next. A given key that is another one's
    already changes nothing: it would make an administrator of a program that may only write.
    """
    records = [KeyRecord.model_validate(document.value) for document in await store.list(KIND)]
    path = data / "api.key"
    if given is None:
        if records:
            return None
        key = _kept(path) or new_key()
        _keep(path, key)  # before the store has it: a key that nobody was told would lock everybody out
        await _register(store, key)
        return key
    key = given.get_secret_value()
    other = next((record for record in records if record.hash == key_hash(key) and record.name != FIRST), None)
    if other is not None:  # a program's own key, left in the environment of who starts us
        logger().warning("ANAMNESIS_API_KEY is another key's: it stays what it is", key=other.key_id, scope=other.scope)
        return None
    first = [record for record in records if record.name == FIRST]
    if key_hash(key) not in [record.hash for record in first]:
        await _register(store, key)
    _keep(path, key)
    for old in first:
        if old.hash != key_hash(key):
            for let_in in [record for record in records if record.parent == old.key_id]:
                await store.delete(KIND, let_in.hash)
            await store.delete(KIND, old.hash)
    return None


async def _register(store: Store, key: str) -> None:
    record = _record(key, FIRST, Scope.ADMIN)
    await store.write(KIND, record.hash, record.model_dump(mode="json"))


def _kept(path: Path) -> str | None:
    """The key in a file; none where there is none that would do."""
    try:
        key = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return key if presentable(key) else None


def _keep(path: Path, key: str) -> None:
    """Write a secret so that no other user of the machine can read it at any moment."""
    if _kept(path) == key:
        path.chmod(0o600)
        return
    files.replace(path, key + "\n")
