"""API keys in the store: looking one up, and making the first."""

from pathlib import Path

from pydantic import SecretStr

from anamnesis.contracts.base import now
from anamnesis.contracts.keys import Identity, KeyRecord, Scope
from anamnesis.kit import files
from anamnesis.kit.auth import key_hash, new_key
from anamnesis.kit.settings import presentable
from services.memory.stores.base import Store

KIND = "keys"
FIRST = "first"  # the name of the key that a new installation begins with


class StoredKeys:
    """Whose key has a hash, by the store. Keyed by hash, so a look-up is one read."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def identify(self, hash: str) -> Identity | None:
        document = await self._store.read(KIND, hash)
        if document is None:
            return None
        record = KeyRecord.model_validate(document.value)
        return Identity(key_id=record.key_id, name=record.name, scope=record.scope)


async def ensure_first_key(store: Store, given: SecretStr | None, data: Path) -> str | None:
    """Make sure that somebody can come in.

    A given key becomes the first key, replacing the one before it. Otherwise, if there is no key
    at all, the one that another store of this data directory has left in `api.key` is taken, or else one is
    made; it is returned to be printed this once. Either is kept in `api.key` (mode 600) for the `anamnesis`
    command. Safe to repeat: a start that was interrupted is finished by the next.
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
    first = [record.hash for record in records if record.name == FIRST]
    if key_hash(key) not in first:
        await _register(store, key)
    _keep(path, key)
    for old in first:
        if old != key_hash(key):
            await store.delete(KIND, old)
    return None


async def _register(store: Store, key: str) -> None:
    hash = key_hash(key)
    record = KeyRecord(key_id=f"key_{hash[:12]}", name=FIRST, scope=Scope.ADMIN, hash=hash, created_at=now())
    await store.write(KIND, hash, record.model_dump(mode="json"))


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
