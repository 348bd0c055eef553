"""Taking episodes away: deleting one, and forgetting one with all that came from it, with proof.

What is forgotten is a content: all that hold it go, in whatever project, and all that was derived from any
of them. Why is in `docs/decisions/0010-forgetting.md`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from anamnesis.contracts.base import now
from anamnesis.contracts.episodes import BlockedItem, Episode, ForgetProof, ForgetReceipt
from anamnesis.kit.errors import Busy, Invalid, NotFound, StorageFull, Unavailable
from services.memory.blocklist import Blocks, document, entry
from services.memory.consolidation.made import is_made
from services.memory.stores.base import Removal, Store

BEFORE_A_COMMIT = (Busy, Invalid, StorageFull)
"""Errors of a removal that has changed nothing; any other may come from one whose answer was lost."""
PATIENCE = 15.0
"""Seconds for which a search index that lags, and writers that bring copies in, are waited for."""
_PAUSE = 0.25

Wipe = Callable[[Mapping[str, Episode | None]], Awaitable[None]]
"""Takes the words of episodes, by id, out of what is kept beside them; none = gone already. Safe to repeat."""


async def nothing_to_wipe(_: Mapping[str, Episode | None]) -> None:
    """Where episodes are all that there is."""


@dataclass(frozen=True)
class Remover:
    store: Store
    blocks: Blocks
    patience: float = PATIENCE
    wipe: Wipe = nothing_to_wipe
    """What forgetting has to do beside the store: conversations that show an episode."""
    removed: Callable[[Sequence[str]], None] = lambda episode_ids: None
    """Told of what the store has removed."""

    async def delete(self, episode_id: str, block: bool) -> None:
        """Remove one episode; with `block` it does not come back. Raises `NotFound`."""
        episode = (await self.store.get([episode_id])).get(episode_id)
        if episode is None:
            raise NotFound(f"there is no episode {episode_id}")
        await self._remove([episode_id], [entry(episode, "deleted")] if block else [])

    async def forget(self, episode_id: str) -> ForgetReceipt:
        """Remove an episode, all that hold its content and all that was derived from them, and prove it.

        Raises `NotFound` for an id that is neither stored nor blocked: what was deleted before can be forgotten, and
        repeating it after a crash or a lost answer finishes what was begun. Raises `Unavailable` rather than give a
        receipt that says that something is left.
        """
        await self.blocks.settle(self.store)
        present = (await self.store.get([episode_id])).get(episode_id)
        before = self.blocks.naming(episode_id)
        if present is None and not before:
            raise NotFound(f"there is no episode {episode_id}")
        blocked = {item.blocked_id: item for item in before}
        ids = dict.fromkeys([episode_id])
        if present is not None and is_made(present):  # its words are theirs, and they would be current again
            ids |= dict.fromkeys(await self.store.get(present.consolidated_from))
        hashes = dict.fromkeys(item.content_hash for item in before if item.content_hash)
        if present is not None:
            hashes[present.content_hash] = None

        async def take(found: Mapping[str, Episode]) -> int:
            ids.update(dict.fromkeys(found))
            hashes.update(dict.fromkeys(one.content_hash for one in found.values()))
            blocked.update((item.blocked_id, item) for item in (entry(one, "forgotten") for one in found.values()))
            await self.wipe(found)  # while it is known where they came from: a crash here is repeated from the start
            return await self._remove(list(found), list(blocked.values()))

        vectors = await take(await self._kin(ids, hashes))
        until = time.monotonic() + self.patience
        while True:
            if found := await self._kin(ids, hashes):  # written by somebody in between
                vectors += await take(found)
            proof = await self.store.proof(list(ids), list(hashes), list(blocked))
            if not found and _nothing_left(proof, len(blocked)):
                break
            if time.monotonic() > until:
                raise Unavailable("something of it is still found; forget it again in a moment", proof.model_dump())
            await asyncio.sleep(_PAUSE)
        await self.wipe(dict.fromkeys(ids))  # what was written before all writers knew that they are blocked
        return ForgetReceipt(
            episode_id=episode_id,
            content_hash=(before[-1].content_hash or "") if present is None else present.content_hash,
            forgotten_at=now(),
            episodes=tuple(ids),
            vectors=vectors,
            blocked=tuple(blocked),
            proof=proof,
        )

    async def _kin(self, episode_ids: Iterable[str], hashes: Iterable[str]) -> dict[str, Episode]:
        """All that is stored of these ids and contents, and of what was derived from them, by id."""
        found: dict[str, Episode] = {}
        seen: set[str] = set()
        front = list(dict.fromkeys([*episode_ids, *await self.store.holding(list(hashes))]))
        while front:
            derived = [child for one in front for child in await self.store.derived(one)]
            stored = await self.store.get(list(dict.fromkeys([*front, *derived])))
            seen.update(front, derived)
            found |= {name: stored[name] for name in (*front, *derived) if name in stored}
            copies = await self.store.holding([one.content_hash for one in stored.values()])
            front = [name for name in copies if name not in seen]
        return found

    async def _remove(self, episode_ids: Sequence[str], entries: Sequence[BlockedItem]) -> int:
        """Remove and block in one write; returns how many vectors went."""
        removal = Removal(tuple(episode_ids), {item.blocked_id: document(item) for item in entries})
        async with self.blocks.changing:
            # Blocked in memory first: a crawler that writes during the removal must already be refused.
            added = [item.blocked_id for item in entries if item.blocked_id not in self.blocks]
            for item in entries:
                self.blocks.add(item)
            try:
                _, vectors = await self.store.remove(removal)
            except BEFORE_A_COMMIT:
                for blocked_id in added:
                    self.blocks.discard(blocked_id)
                raise
            except BaseException:
                self.blocks.doubt(added)
                raise
            self.blocks.confirm(removal.block)
        self.removed(episode_ids)
        return vectors


def _nothing_left(proof: ForgetProof, blocked: int) -> bool:
    return not (proof.by_id or proof.by_content or proof.vectors or proof.index) and proof.blocklist == blocked
