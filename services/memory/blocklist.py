"""The blocklist: ids and content that were deleted on purpose and must not come back with the next crawl.

The documents in the store are the truth; the sets here answer at the door without a read. The
memory service is the only writer of its store, so the two cannot drift apart.
"""

import hashlib

from anamnesis.contracts.base import JsonObject, now
from anamnesis.contracts.episodes import BlockedItem, Blocklist, Episode
from services.memory.stores.base import BLOCKLIST, Store


class Blocks:
    """What is blocked. Entries are written by the store together with the removal they belong to."""

    def __init__(self) -> None:
        self._items: dict[str, BlockedItem] = {}
        self._ids: dict[str, set[str]] = {}
        self._contents: dict[str, set[str]] = {}

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
        item = self._items.pop(blocked_id, None)
        if item is None:
            return
        for name, entries in ((item.episode_id, self._ids), (item.content_hash, self._contents)):
            if name in entries:
                entries[name].discard(blocked_id)
                if not entries[name]:
                    del entries[name]

    def __contains__(self, blocked_id: str) -> bool:
        return blocked_id in self._items

    def holds(self, episode_id: str, content_hash: str) -> bool:
        return episode_id in self._ids or content_hash in self._contents

    def page(self, skip: int, limit: int) -> Blocklist:
        """Newest first."""
        items = sorted(self._items.values(), key=lambda item: (item.blocked_at, item.blocked_id), reverse=True)
        return Blocklist(items=tuple(items[skip : skip + limit]), total=len(items))

    async def lift(self, store: Store, blocked_ids: list[str] | None) -> int:
        """Let these (or, with none, all) come back; returns how many entries went."""
        lifted = 0
        for blocked_id in list(self._items) if blocked_ids is None else blocked_ids:
            if await store.delete(BLOCKLIST, blocked_id):
                self.discard(blocked_id)
                lifted += 1
        return lifted


def entry(episode: Episode, reason: str) -> tuple[BlockedItem, JsonObject]:
    """The entry that keeps an episode away, and its document."""
    name = hashlib.sha256(f"{episode.episode_id}\x00{episode.content_hash}".encode()).hexdigest()[:16]
    item = BlockedItem(
        blocked_id=f"bl_{name}",
        episode_id=episode.episode_id,
        content_hash=episode.content_hash,
        reason=reason,
        blocked_at=now(),
    )
    return item, item.model_dump(mode="json")
