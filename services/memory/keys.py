"""API keys in the store: looking one up, and making the first."""

import os
from pathlib import Path

from pydantic import SecretStr

from anamnesis.contracts.base import now
from anamnesis.contracts.keys import Identity, KeyRecord, Scope
from anamnesis.kit.auth import key_hash, new_key
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
    at all, one is made, kept in `api.key` (mode 600) of the data directory for the `anamnesis`
    command, and returned to be printed this once.
    """
    documents = [KeyRecord.model_validate(document.value) for document in await store.list(KIND)]
    if given is None:
        if documents:
            return None
        key = new_key()
    else:
        key = given.get_secret_value()
        if any(record.hash == key_hash(key) for record in documents):
            return None
    hash = key_hash(key)
    record = KeyRecord(key_id=f"key_{hash[:12]}", name=FIRST, scope=Scope.ADMIN, hash=hash, created_at=now())
    if given is None:
        _keep(data / "api.key", key)  # before the store has it: a key that nobody was told would lock everybody out
    await store.write(KIND, hash, record.model_dump(mode="json"))
    for old in documents:
        if old.name == FIRST:
            await store.delete(KIND, old.hash)
    if given is not None:
        (data / "api.key").unlink(missing_ok=True)  # it holds the key that was replaced
        return None
    return key


def _keep(path: Path, key: str) -> None:
    """Write a secret so that no other user of the machine can read it at any moment."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
