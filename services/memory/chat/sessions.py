"""Sessions and their turns: who may write what next, and what is shown of it.

Owns their documents. Redaction is the door's, the search in them is in `search`, files of them in `export`. Writers
of one session wait for each other, and each change is one durable write: a session, its place in the order of pages
and its turn never tell different stories.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from anamnesis.contracts.base import MAX_NAME, now
from anamnesis.contracts.chat import (
    MAX_ANSWER,
    MAX_MESSAGE,
    MAX_TITLE,
    ChatBegun,
    ChatSession,
    ChatSessionCreate,
    ChatSessionPage,
    ChatSessionTurns,
    ChatTurn,
    TitleChange,
    TurnBegin,
    TurnState,
)
from anamnesis.contracts.episodes import MAX_PLACE, MAX_SUMMARY, Episode
from anamnesis.kit.errors import AnamnesisError, BadRequest, Conflict, NotFound, TooLarge
from anamnesis.kit.logs import logger
from services.memory.blocklist import Blocks
from services.memory.chat import documents
from services.memory.chat.documents import GOING, MENTIONS, ORDER, SESSIONS, TURNS, Kept
from services.memory.door import Door, Text
from services.memory.held import Held
from services.memory.stores.base import Edit, Store

MAX_TITLES = 50  # earlier titles that a session keeps
MAX_TURN = 8 << 20  # bytes of a turn as JSON; a document of MongoDB ends at 16 MB
MAX_ERROR = 2_000  # characters
LONGEST_TURN = timedelta(minutes=20)
"""A turn that has run for longer was left by a gateway that ended."""
LEFT = "the gateway ended before the answer did; ask again"
SOURCE = "chat"
"""`source.kind` of an episode that an exchange became; `session` and `position` then name the session and the turn."""
RESERVED = "search"
"""No session's id: it is a path."""
TOGETHER = 50
"""Documents of one read, or of one write of a deletion."""


class _Present(NamedTuple):
    session: ChatSession
    version: int


@dataclass(frozen=True)
class Sessions:
    store: Store
    door: Door
    blocks: Blocks
    held: Held = field(default_factory=Held)
    together: int = TOGETHER

    # Sessions ---------------------------------------------------------------------------------

    async def create(self, asked: ChatSessionCreate) -> ChatSession:
        """Raises `Conflict` where there is a session of this id."""
        if asked.session_id == RESERVED:
            raise BadRequest(f"'{RESERVED}' cannot be a session's id; choose another, or leave it out")
        moment = now()
        title, project, instance = await self.door.clean_texts(
            [
                Text(asked.title, MAX_TITLE),
                Text(asked.project or "", MAX_NAME, name=True),
                Text(asked.instance or "", MAX_NAME, name=True),
            ]
        )
        session = ChatSession(
            session_id=asked.session_id or f"{moment:%Y%m%d}-{secrets.token_hex(6)}",
            title=title,
            project=project or None,
            instance=instance or None,
            created_at=moment,
            updated_at=moment,
        )
        async with self.held.hold({session.session_id}):
            await self._finish(session.session_id)  # turns of an earlier one of this id must not become its own
            if not await self.store.edit(documents.session_edits(session.session_id, session, None, 0)):
                raise Conflict("a session of this id exists already", {"session_id": session.session_id})
        return session

    async def page(self, skip: int, limit: int, project: str | None = None) -> ChatSessionPage:
        """Newest first by their last turn."""
        group = documents.group(project)
        found: list[ChatSession] = []
        while len(found) < limit:
            more = await self.store.list(ORDER, group, skip=skip + len(found), limit=limit - len(found), reverse=True)
            if not more:
                break
            found += [documents.session(one) for one in more]
        return ChatSessionPage(sessions=tuple(found), total=await self.store.count(ORDER, group))

    async def get(self, session_id: str) -> ChatSession:
        """Raises `NotFound`."""
        return (await self._present(session_id)).session

    async def rename(self, session_id: str, title: str) -> ChatSession:
        """Give a session another title; it keeps its place in the order of pages."""
        [cleaned] = await self.door.clean_texts([Text(title, MAX_TITLE)])
        async with self.held.hold({session_id}):
            old, version = await self._present(session_id)
            if old.title == cleaned:
                return old
            titles = (*old.titles, TitleChange(title=old.title, until=now()))[-MAX_TITLES:]
            new = old.model_copy(update={"title": cleaned, "titles": titles})
            await self._edit(documents.session_edits(session_id, new, old, version))
        return new

    async def delete(self, session_id: str) -> bool:
        """Delete a session with its turns; false where there is none. Whatever ends it half-way, nothing is seen of
        it any more, and the rest goes with the next try or the next start.
        """
        async with self.held.hold({session_id}):
            document = await self.store.read(SESSIONS, session_id)
            if document is not None:
                going = Edit(GOING, session_id, {})
                gone = documents.session_edits(session_id, None, documents.session(document), document.version)
                await self._edit([*gone, going])
            await self._finish(session_id)
        return document is not None

    async def finish(self) -> None:
        """Finish the deletions that a crash has interrupted."""
        try:
            for document in await self.store.list(GOING):
                async with self.held.hold({document.key}):
                    await self._finish(document.key)
        except AnamnesisError as error:
            logger().warning("deleted chats not cleared away yet", error=error.code)

    async def _finish(self, session_id: str) -> None:
        if await self.store.read(GOING, session_id) is None:
            return
        while found := await self.store.list(TURNS, session_id + documents.SEPARATOR, limit=self.together):
            turns = [documents.kept(one) for one in found]
            edits = [documents.turn_edits(session_id, one.turn.turn, None, one) for one in turns]
            await self._edit([edit for several in edits for edit in several])
        await self.store.delete(GOING, session_id)

    # Turns ------------------------------------------------------------------------------------

    async def turns(self, session_id: str, before: int | None, limit: int) -> ChatSessionTurns:
        """The last turns before one (or of all), oldest first; fewer than `limit` where they are long."""
        session = await self.get(session_id)
        after = None if before is None else documents.turn_key(session_id, before)
        found = await self.store.list(TURNS, session_id + documents.SEPARATOR, after=after, limit=limit, reverse=True)
        turns = tuple(_shown(documents.kept(one).turn) for one in reversed(found))
        return ChatSessionTurns(session=session, turns=turns, total=session.turns)

    async def each(self, session_id: str) -> AsyncGenerator[list[ChatTurn], None]:
        """All turns of a session, oldest first, a few at a time: memory stays flat."""
        after: str | None = None
        while found := await self.store.list(TURNS, session_id + documents.SEPARATOR, after=after, limit=self.together):
            yield [_shown(documents.kept(one).turn) for one in found]
            after = found[-1].key

    async def words(self, session_id: str) -> AsyncGenerator[list[documents.Words], None]:
        """What was said in a session, newest first, a few turns at a time."""
        after: str | None = None
        while after != documents.turn_key(session_id, 1):
            found = await self.store.list(
                TURNS, session_id + documents.SEPARATOR, after=after, limit=self.together, reverse=True
            )
            if not found:
                return
            yield [documents.words(one) for one in found]
            after = found[-1].key

    async def begin(self, session_id: str, begun: TurnBegin) -> ChatBegun:
        """The next turn, whose number is nobody else's."""
        [asked] = await self.door.clean_texts([Text(begun.asked, MAX_MESSAGE)])
        async with self.held.hold({session_id}):
            present = await self._present(session_id)
            number = present.session.turns + 1
            turn = ChatTurn(
                turn=number,
                asked=asked,
                state=TurnState.RUNNING,
                started_at=begun.started_at,
                remember=begun.remember,
            )
            session = await self._put(present, Kept(turn), None)
        return ChatBegun(session_id=session_id, turn=number, title=session.title)

    async def write(self, session_id: str, turn: ChatTurn) -> ChatTurn:
        """Write the next turn, or once more one that exists. Safe to repeat.

        Raises `Conflict` for a number further on, for one that another turn has taken (its `started_at` tells them
        apart), and for one that has ended and is said to be running.
        """
        cleaned = await self._cleaned(turn)
        async with self.held.hold({session_id}):
            present = await self._present(session_id)
            if turn.turn > present.session.turns + 1:
                message = f"the next turn of this session is {present.session.turns + 1}"
                raise Conflict(message, {"turns": present.session.turns})
            document = await self.store.read(TURNS, documents.turn_key(session_id, turn.turn))
            old = None if document is None else documents.kept(document)
            if old is not None:
                _refuse(old.turn, turn, present.session.turns)
            new = Kept(cleaned)
            if old is not None and old.forgotten:
                new = documents.blank(new)
            new = documents.without(new, self._gone(new))
            await self._put(present, new, old)
        if gone := self._gone(new):  # forgotten while this was written
            await self.forget(dict.fromkeys(gone))
        return _shown(new.turn)

    async def _put(self, present: _Present, new: Kept, old: Kept | None) -> ChatSession:
        session = present.session
        turns = max(session.turns, new.turn.turn)
        changed = session.model_copy(update={"turns": turns, "updated_at": max(now(), session.updated_at)})
        await self._edit(
            [
                *documents.session_edits(session.session_id, changed, session, present.version),
                *documents.turn_edits(session.session_id, new.turn.turn, new, old),
            ]
        )
        return changed

    async def _cleaned(self, turn: ChatTurn) -> ChatTurn:
        texts = [Text(turn.asked, MAX_MESSAGE), Text(turn.answered, MAX_ANSWER), Text(turn.error or "", MAX_ERROR)]
        texts += [Text(turn.backend or "", MAX_NAME), Text(turn.model or "", MAX_NAME)]
        for one in turn.recalled:  # of the door's own making where a gateway writes it; but anybody may write a turn
            texts += [Text(one.summary, MAX_SUMMARY), Text(one.project, MAX_NAME, name=True)]
            texts += [Text(one.instance, MAX_NAME, name=True), Text(one.source, MAX_PLACE)]
        asked, answered, error, backend, model, *rest = await self.door.clean_texts(texts)
        recalled = [
            one.model_copy(
                update=dict(zip(("summary", "project", "instance", "source"), rest[4 * at : 4 * at + 4], strict=True))
            )
            for at, one in enumerate(turn.recalled)
        ]
        said = {"asked": asked, "answered": answered, "error": error or None}
        by = {"backend": backend or None, "model": model or None}
        cleaned = turn.model_copy(update={**said, **by, "recalled": tuple(recalled)})
        size = await asyncio.to_thread(lambda: len(json.dumps(cleaned.model_dump(mode="json"))))
        if size > MAX_TURN:
            raise TooLarge(f"a turn holds at most {MAX_TURN} bytes, with what was recalled for it")
        return cleaned

    # Forgetting -------------------------------------------------------------------------------

    async def forget(self, episodes: Mapping[str, Episode | None]) -> None:
        """Take the words of episodes out of all turns; only their ids stay. Safe to repeat.

        Of one that is gone already (none) the turns are known that showed it or became it.
        """
        for episode_id, episode in episodes.items():
            while found := await self.store.list(MENTIONS, episode_id + documents.SEPARATOR, limit=self.together):
                for mention in found:
                    await self._take_out(*documents.mentioned(mention), episode_id)
                    await self.store.delete(MENTIONS, mention.key)
            if episode is None or episode.source.kind != SOURCE:
                continue
            if episode.source.session is not None and episode.source.position is not None:
                await self._take_out(episode.source.session, episode.source.position, episode_id, became=True)

    async def _take_out(self, session_id: str, number: int, episode_id: str, became: bool = False) -> None:
        """Of one turn. With `became` the turn itself, where it does not say that it became another episode."""
        async with self.held.hold({session_id}):
            document = await self.store.read(TURNS, documents.turn_key(session_id, number))
            if document is None:
                return
            old = documents.kept(document)
            own = became and old.turn.episode_id is None
            new = documents.blank(old) if own else documents.without(old, [episode_id])
            if new == old or old.forgotten:
                return
            edits = documents.turn_edits(session_id, number, new, old)
            kept = await self.store.read(SESSIONS, session_id)
            if kept is not None and new.forgotten:
                session = documents.session(kept)
                edits += documents.session_edits(session_id, _untitled(session, old.turn.asked), session, kept.version)
            await self._edit(edits)

    def _gone(self, one: Kept) -> list[str]:
        return [episode_id for episode_id in sorted(documents.mentions(one)) if self.blocks.naming(episode_id)]

    # Documents --------------------------------------------------------------------------------

    async def _present(self, session_id: str) -> _Present:
        document = await self.store.read(SESSIONS, session_id)
        if document is None:
            raise NotFound(f"there is no chat session {session_id}")
        return _Present(documents.session(document), document.version)

    async def _edit(self, edits: list[Edit]) -> None:
        if not await self.store.edit(edits):
            raise Conflict("the session has changed meanwhile; try again")


def _refuse(old: ChatTurn, new: ChatTurn, turns: int) -> None:
    if old.started_at != new.started_at:
        message = f"turn {old.turn} of this session is another one; the next is {turns + 1}"
        raise Conflict(message, {"turns": turns})
    if new.state is TurnState.RUNNING and old.state is not TurnState.RUNNING:
        raise Conflict(f"turn {old.turn} of this session has ended", {"state": old.state.value})


def _shown(turn: ChatTurn) -> ChatTurn:
    if turn.state is TurnState.RUNNING and now() - turn.started_at > LONGEST_TURN:
        return turn.model_copy(update={"state": TurnState.FAILED, "error": LEFT})
    return turn


def _untitled(session: ChatSession, asked: str) -> ChatSession:
    titles = tuple(
        one.model_copy(update={"title": documents.title_without(one.title, asked)}) for one in session.titles
    )
    return session.model_copy(update={"title": documents.title_without(session.title, asked), "titles": titles})
