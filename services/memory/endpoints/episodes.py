"""Episodes: create, read, list, change, delete, supersede, forget, count."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.status import HTTP_201_CREATED

from anamnesis.contracts.base import EpisodeId, JsonObject, Moment, Name, Tag
from anamnesis.contracts.episodes import (
    MAX_TAGS,
    AmendRequest,
    AmendResult,
    BatchResult,
    Blocklist,
    Changed,
    Episode,
    EpisodeBatch,
    EpisodeCreate,
    EpisodePage,
    EpisodePatch,
    EpisodeStats,
    ForgetReceipt,
    SupersedeRequest,
    UnsupersedeRequest,
    WriteResult,
    WriteStatus,
)
from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.keys import Scope
from anamnesis.kit.auth import Needs
from anamnesis.kit.errors import BadRequest, Conflict, NotFound
from services.memory.blocklist import Blocks
from services.memory.door import DELETED, Door
from services.memory.embedding.service import Embedding
from services.memory.removal import Remover
from services.memory.stores.base import Filter, Store

PathId = Annotated[EpisodeId, Path(description="An episode's id.")]
Skip = Annotated[int, Query(ge=0, le=10_000_000)]
Limit = Annotated[int, Query(ge=1, le=500)]
ADMIN = [Depends(Needs(Scope.ADMIN))]
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": ErrorEnvelope, "description": "There is no such episode."}}


def routes(store: Store, door: Door, remover: Remover, blocks: Blocks, embedding: Embedding) -> APIRouter:
    """Paths without an id; those with one are in `routes_by_id`, registered last."""
    router = APIRouter(tags=["episodes"])

    @router.post(
        "/api/episodes",
        status_code=HTTP_201_CREATED,
        responses={409: {"model": ErrorEnvelope, "description": "The id or the content exists, or was forgotten."}},
    )
    async def create(episode: EpisodeCreate) -> Episode:
        """Write one episode. Durable, embedded and searchable when it answers."""
        [result] = await door.write([episode])
        if result.status is WriteStatus.CREATED:
            stored = (await store.get([result.episode_id])).get(result.episode_id)
            if stored is not None:
                return stored
        raise _conflict(result)

    @router.post("/api/episodes/batch")
    async def create_batch(batch: EpisodeBatch) -> BatchResult:
        """Write up to 500 episodes in one durable write; each has its own result."""
        return BatchResult(results=tuple(await door.write(batch.episodes, batch.on_conflict)))

    @router.get("/api/episodes")
    async def page(
        project: Annotated[Name | None, Query()] = None,
        instance: Annotated[Name | None, Query()] = None,
        tag: Annotated[list[Tag] | None, Query(max_length=MAX_TAGS)] = None,
        since: Annotated[Moment | None, Query()] = None,
        until: Annotated[Moment | None, Query()] = None,
        skip: Skip = 0,
        limit: Limit = 50,
    ) -> EpisodePage:
        """Episodes by filter, newest first."""
        where = Filter(project=project, instance=instance, tags=tuple(tag or ()), since=since, until=until)
        episodes, total = await store.page(where, skip, limit)
        return EpisodePage(episodes=tuple(episodes), total=total)

    @router.get("/api/episodes/stats")
    async def stats() -> EpisodeStats:
        """How many episodes there are, by project and instance."""
        return await store.stats(embedding.active.name)

    @router.post("/api/episodes/amend")
    async def amend(request: AmendRequest) -> AmendResult:
        """Add and remove tags of many episodes, or say where their files lie now, in one durable write.

        Texts and vectors stay as they are. 422, with nothing changed, where one would have too many tags.
        """
        return AmendResult(results=tuple(await door.amend(request.amendments)))

    @router.post(
        "/api/episodes/supersede",
        responses={**MISSING, 409: {"model": ErrorEnvelope, "description": "They would supersede each other."}},
    )
    async def supersede(request: SupersedeRequest) -> Changed:
        """Mark episodes as replaced by a newer one; searches leave them out."""
        if request.superseded_by in request.episode_ids:
            raise BadRequest("an episode cannot supersede itself")
        found = await store.get([*request.episode_ids, request.superseded_by])
        missing = [one for one in (*request.episode_ids, request.superseded_by) if one not in found]
        if missing:
            raise NotFound(f"there is no episode {missing[0]}", {"episode_ids": list(missing)})
        return Changed(changed=await store.supersede(request.episode_ids, request.superseded_by))

    @router.post("/api/episodes/unsupersede")
    async def unsupersede(request: UnsupersedeRequest) -> Changed:
        """Make superseded episodes current again."""
        return Changed(changed=await store.supersede(request.episode_ids, None))

    @router.get("/api/blocklist")
    async def blocklist(skip: Skip = 0, limit: Limit = 50) -> Blocklist:
        """What was deleted on purpose and does not come back."""
        return blocks.page(skip, limit)

    @router.delete("/api/blocklist", dependencies=ADMIN)
    async def lift(
        blocked_id: Annotated[list[str] | None, Query(max_length=500, description="Entries to lift.")] = None,
        everything: Annotated[bool, Query(description="Lift all entries.")] = False,
    ) -> Changed:
        """Let blocked content come back with the next crawl."""
        if not blocked_id and not everything:
            raise BadRequest("name entries by blocked_id, or lift all with everything=true")
        return Changed(changed=await blocks.lift(store, None if everything else blocked_id))

    return router


def routes_by_id(store: Store, door: Door, remover: Remover) -> APIRouter:
    router = APIRouter(tags=["episodes"], responses=MISSING)

    @router.get("/api/episodes/{episode_id}")
    async def read(episode_id: PathId) -> Episode:
        """One episode, whole."""
        episode = (await store.get([episode_id])).get(episode_id)
        if episode is None:
            raise NotFound(f"there is no episode {episode_id}")
        return episode

    @router.patch("/api/episodes/{episode_id}", responses={409: {"model": ErrorEnvelope}})
    async def change(episode_id: PathId, patch: EpisodePatch) -> Episode:
        """Change some fields; new text is redacted and embedded again."""
        return await door.patch(episode_id, patch)

    @router.delete("/api/episodes/{episode_id}")
    async def delete(
        episode_id: PathId,
        block: Annotated[bool, Query(description="Keep it from coming back with the next crawl.")] = True,
    ) -> Changed:
        """Delete one episode."""
        await remover.delete(episode_id, block)
        return Changed(changed=1)

    @router.post("/api/episodes/{episode_id}/forget", dependencies=ADMIN)
    async def forget(episode_id: PathId) -> ForgetReceipt:
        """Delete an episode, its copies and all that was derived from them, keep them away, and prove it.

        What was deleted before can be forgotten too.
        """
        return await remover.forget(episode_id)

    return router


def _conflict(result: WriteResult) -> Conflict:
    detail: JsonObject = {"episode_id": result.duplicate_of or result.episode_id, "status": result.status.value}
    if result.status is WriteStatus.BLOCKED:
        return Conflict(DELETED, detail)
    same = result.duplicate_of in (None, result.episode_id)
    return Conflict("this id exists already" if same else "the same content exists under another id", detail)
