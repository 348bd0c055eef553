"""When each key was last used, written now and then, without making whoever uses it wait for a disk."""

import asyncio
import time
from datetime import datetime

from anamnesis.contracts.base import now
from anamnesis.contracts.keys import KeyRecord
from anamnesis.kit.errors import AnamnesisError
from anamnesis.kit.logs import logger
from services.memory.stores.base import Store

KIND = "keys"  # of the state documents that hold keys
EVERY = 60.0  # seconds between two notes of one key
RETRY = 5.0  # seconds


class LastUsed:
    """Gathers uses of keys; one task at a time writes all that have come meanwhile.

    Only keys that exist are noted, so what is held is bounded by their number.
    """

    def __init__(self, store: Store, every: float = EVERY, retry: float = RETRY) -> None:
        self._store = store
        self._every = every
        self._retry = retry
        self._noted: dict[str, float] = {}
        self._waiting: dict[str, datetime] = {}
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def note(self, hash: str) -> None:
        """The key with this hash is used now."""
        if time.monotonic() - self._noted.get(hash, float("-inf")) < self._every:
            return
        self._noted[hash] = time.monotonic()
        self._waiting[hash] = now()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name="record-last-used")

    def forget(self, hash: str) -> None:
        """The key is gone."""
        self._noted.pop(hash, None)
        self._waiting.pop(hash, None)

    async def close(self) -> None:
        """Write what waits; what the store does not take now is lost."""
        self._closing.set()
        if self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        while self._waiting:
            hash, at = next(iter(self._waiting.items()))
            try:
                await self._record(hash, at)
            except AnamnesisError as error:
                logger().warning("uses of keys not recorded yet", error=error.code, keys=len(self._waiting))
                if await self._closes_within(self._retry):
                    return
                continue
            if self._waiting.get(hash) == at:
                del self._waiting[hash]

    async def _record(self, hash: str, at: datetime) -> None:
        """Never over a version that was not read: a key that is revoked meanwhile must not come back."""
        document = await self._store.read(KIND, hash)
        if document is not None:
            record = KeyRecord.model_validate(document.value).model_copy(update={"last_used": at})
            await self._store.write(KIND, hash, record.model_dump(mode="json"), expect=document.version)

    async def _closes_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return False
        return True
