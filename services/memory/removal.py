"""Taking episodes away: deleting one, and forgetting one with all that came from it, with proof."""

from dataclasses import dataclass

from anamnesis.contracts.base import now
from anamnesis.contracts.episodes import Episode, ForgetReceipt
from anamnesis.kit.errors import AnamnesisError, NotFound
from services.memory.blocklist import Blocks, entry
from services.memory.stores.base import Removal, Store


@dataclass(frozen=True)
class Remover:
    store: Store
    blocks: Blocks

    async def delete(self, episode_id: str, block: bool) -> None:
        """Remove one episode; with `block` it does not come back. Raises `NotFound`."""
        episode = (await self.store.get([episode_id])).get(episode_id)
        if episode is None:
            raise NotFound(f"there is no episode {episode_id}")
        await self._remove([episode], "deleted" if block else None)

    async def forget(self, episode_id: str, embedding_model: str) -> ForgetReceipt:
        """Remove an episode, its copies in other projects and all that was derived from them, and prove it.

        Raises `NotFound`. Repeating it after a crash finishes what was begun.
        """
        episode = (await self.store.get([episode_id])).get(episode_id)
        if episode is None:
            raise NotFound(f"there is no episode {episode_id}")
        projects = (await self.store.stats(embedding_model)).projects
        copies = await self.store.find_content([(one.name, episode.content_hash) for one in projects])
        roots = dict.fromkeys([episode_id, *copies.values()])
        ids = list(dict.fromkeys([*roots, *[derived for root in roots for derived in await self.store.derived(root)]]))
        episodes = list((await self.store.get(ids)).values())
        vectors, blocked = await self._remove(episodes, "forgotten")
        proof = await self.store.proof(ids, [one.content_hash for one in episodes])
        return ForgetReceipt(
            episode_id=episode_id,
            content_hash=episode.content_hash,
            forgotten_at=now(),
            episodes=tuple(ids),
            vectors=vectors,
            blocked=blocked,
            proof=proof,
        )

    async def _remove(self, episodes: list[Episode], reason: str | None) -> tuple[int, tuple[str, ...]]:
        entries = [entry(one, reason) for one in episodes] if reason is not None else []
        removal = Removal(
            episode_ids=tuple(one.episode_id for one in episodes),
            block={item.blocked_id: document for item, document in entries},
        )
        # Blocked in memory first: a crawler that writes during the removal must already be refused.
        added = [item for item, _ in entries if item.blocked_id not in self.blocks]
        for item in added:
            self.blocks.add(item)
        try:
            _, vectors = await self.store.remove(removal)
        except AnamnesisError:
            for item in added:  # nothing was removed: nothing stays blocked either
                self.blocks.discard(item.blocked_id)
            raise
        return vectors, tuple(item.blocked_id for item, _ in entries)
