"""The blocklist: ids and content that were deleted on purpose and must not come back with the next crawl.

The documents in the store are the truth; the sets here answer at the door without a read. The
memory service is the only writer of its store, so the two can drift apart only where the answer to a
removal is lost: its entries are kept, and marked as in doubt until the store says what became of them.
"""

import asyncio
import hashlib
from collections.abc import Iterable

from anamnesis.contracts.base import JsonObject, now
from anamnesis.contracts.episodes import BlockedItem, Blocklist, Episode
from services.memory.stores.base import BLOCKLIST, Store

_NONE = ""
"""The key of no entry."""


class Blocks:
    """What is blocked. Entries are written by the store together with the removal they belong to."""

    def __init__(self) -> None:
        self._items: dict[str, BlockedItem] = {}
        self._ids: dict[str, set[str]] = {}
        self._contents: dict[str, set[str]] = {}
        self._in_doubt: set[str] = set()
        self.changing = asyncio.Lock()
        """Held while entries and the store are changed together."""

    async def load(self, store: Store) -> None:
        for document in await store.list(BLOCKLIST):
            self.add(BlockedItem.model_validate(document.value))

    def add(self, item: BlockedItem) -> None:
        self._items[item.blocked_id] = item
        if item.episode_id:
            self._ids.setdefault(item.episode_id, set()).add(item.blocked_id)
        if item.content_hash:
            self._contents.setdefault(item.content_hash, set()).add(item.blocked_id)

    def discard(self, blocked_id: str) -> None:
        """Take an entry back; others of the same id or content still hold."""
        self._in_doubt.discard(blocked_id)
        item = self._items.pop(blocked_id, None)
        if item is None:
            return
        for name, entries in ((item.episode_id, self._ids), (item.content_hash, self._contents)):
            if name in entries:
                entries[name].discard(blocked_id)
                if not entries[name]:
                    del entries[name]

    def doubt(self, blocked_ids: Iterable[str]) -> None:
        """Nobody knows whether these were stored: they hold until `settle` has asked."""
        self._in_doubt.update(blocked_ids)

    def confirm(self, blocked_ids: Iterable[str]) -> None:
        """These are stored."""
        self._in_doubt.difference_update(blocked_ids)

    async def settle(self, store: Store) -> None:
        """Ask the store for the entries in doubt and take back those that it does not have.

        Raises `Unavailable` while it does not answer; then they still hold.
        """
        if not self._in_doubt:
            return
        async with self.changing:
            # A write is answered after all that were begun before it: what a lost one did is visible from here on.
            await store.delete(BLOCKLIST, _NONE)
            for blocked_id in list(self._in_doubt):
                if await store.read(BLOCKLIST, blocked_id) is None:
                    self.discard(blocked_id)
                self._in_doubt.discard(blocked_id)

    def __contains__(self, blocked_id: str) -> bool:
        return blocked_id in self._items

    def holds(self, episode_id: str, content_hash: str, made_from: Iterable[str] = ()) -> bool:
        """Whether an id, a content or the id of something that it was made from is blocked."""
        return self.holds_content(content_hash) or any(name in self._ids for name in (episode_id, *made_from))

    def holds_content(self, content_hash: str) -> bool:
        return content_hash in self._contents

    def naming(self, episode_id: str) -> list[BlockedItem]:
        """The entries of an id, oldest first."""
        found = [self._items[blocked_id] for blocked_id in self._ids.get(episode_id, ())]
        return sorted(found, key=lambda item: (item.blocked_at, item.blocked_id))

    def page(self, skip: int, limit: int) -> Blocklist:
        """Newest first."""
        items = sorted(self._items.values(), key=lambda item: (item.blocked_at, item.blocked_id), reverse=True)
        return Blocklist(items=tuple(items[skip : skip + limit]), total=len(items))

    async def lift(self, store: Store, blocked_ids: list[str] | None) -> int:
        """Let these (or, with none, all) come back; returns how many entries went."""
        await self.settle(store)
        lifted = 0
        async with self.changing:
            for blocked_id in list(self._items) if blocked_ids is None else blocked_ids:
                if await store.delete(BLOCKLIST, blocked_id):
                    self.discard(blocked_id)
                    lifted += 1
        return lifted


def entry(episode: Episode, reason: str) -> BlockedItem:
    """The entry that keeps an episode away."""
    name = hashlib.sha256(f"{episode.episode_id}\x00{episode.content_hash}".encode()).hexdigest()[:16]
    return BlockedItem(
        blocked_id=f"bl_{name}",
        episode_id=episode.episode_id,
        content_hash=episode.content_hash,
        reason=reason,
        blocked_at=now(),
    )


def document(item: BlockedItem) -> JsonObject:
    """An entry as the store keeps it."""
    return item.model_dump(mode="json")
