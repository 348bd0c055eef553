"""Searching in conversations: the words themselves, newest conversations first, within a bound of time.

Reads a few sessions at a time and forgets them again. There is no index: conversations are few beside episodes, and
what matters of them is among the episodes.
"""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple

from anamnesis.contracts.chat import ChatFound, ChatSearch, ChatSession
from services.memory.chat.documents import Words
from services.memory.chat.sessions import Sessions

SECONDS = 2.0
AROUND = 80  # characters of an excerpt on either side of a word
AT_A_TIME = 16  # sessions that are read together
PAGE = 160  # sessions
SHORT = 50_000  # characters that are looked through at once; more of them on another thread


class _Hit(NamedTuple):
    turn: int | None
    excerpt: str


@dataclass(frozen=True)
class Search:
    sessions: Sessions
    workers: Executor
    """Where texts are looked through, away from the event loop."""
    seconds: float = SECONDS

    async def find(self, question: str, limit: int) -> ChatSearch:
        """All words must occur, in a title or in one turn; upper and lower case are the same."""
        words = tuple(dict.fromkeys(question.casefold().split()))
        found: list[ChatFound] = []
        complete = False
        loop = asyncio.get_running_loop()
        until = loop.time() + self.seconds
        try:
            async with asyncio.timeout(self.seconds), aclosing(self._each(words, limit)) as each:
                async for session, hits in each:
                    if loop.time() > until:  # a driver may go on as if nobody had been cancelled
                        break
                    found += [ChatFound(session=session, turn=one.turn, excerpt=one.excerpt) for one in hits]
                    if len(found) > limit:
                        break
                else:
                    complete = True
        except TimeoutError:
            pass  # what was found until now is the answer
        return ChatSearch(results=tuple(found[:limit]), complete=complete)

    async def _each(self, words: tuple[str, ...], limit: int) -> AsyncGenerator[tuple[ChatSession, list[_Hit]], None]:
        skip = 0
        while page := (await self.sessions.page(skip, PAGE)).sessions:
            skip += len(page)
            for start in range(0, len(page), AT_A_TIME):
                some = page[start : start + AT_A_TIME]
                for session, hits in zip(
                    some, await asyncio.gather(*(self._in(one, words, limit) for one in some)), strict=True
                ):
                    yield session, hits

    async def _in(self, session: ChatSession, words: tuple[str, ...], limit: int) -> list[_Hit]:
        excerpt = find(session.title, words)
        hits = [] if excerpt is None else [_Hit(None, excerpt)]
        if not session.turns:
            return hits
        loop = asyncio.get_running_loop()
        async with aclosing(self.sessions.words(session.session_id)) as pages:
            async for turns in pages:
                if sum(len(turn.text) for turn in turns) < SHORT:
                    hits += _in_turns(turns, words)
                else:
                    hits += await loop.run_in_executor(self.workers, _in_turns, turns, words)
                if len(hits) > limit:
                    break
        return hits


def _in_turns(turns: list[Words], words: tuple[str, ...]) -> list[_Hit]:
    found = ((turn.turn, find(turn.text, words)) for turn in turns)
    return [_Hit(turn, excerpt) for turn, excerpt in found if excerpt is not None]


def find(text: str, words: tuple[str, ...]) -> str | None:
    """The text around the first of the words, where it holds them all; none where it does not."""
    folded = text.casefold()
    places = [folded.find(word) for word in words]
    if not places or min(places) < 0:
        return None
    at = min(places)
    first = _unfolded(text, folded, at)
    last = _unfolded(text, folded, at + len(words[places.index(at)]))
    start, end = max(0, first - AROUND), min(len(text), last + AROUND)
    inner = " ".join(text[start:end].split())
    return ("\u2026" if start else "") + inner + ("\u2026" if end < len(text) else "")


def _unfolded(text: str, folded: str, place: int) -> int:
    """The place in a text of one in its folded form, which may be longer."""
    if len(folded) == len(text):
        return place
    length = 0
    for at, character in enumerate(text):
        if length >= place:
            return at
        length += len(character.casefold())
    return len(text)
