"""A conversation as a file: JSON for programs, Markdown for people. Streamed, with flat memory."""

import re
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import NamedTuple

from anamnesis.contracts.chat import ChatSession, ChatTurn, TurnState
from anamnesis.kit.errors import NotFound
from services.memory.chat.sessions import Sessions

_UNSAFE = re.compile(r"[^a-z0-9]+")
_MOST = 60  # characters of a title in the name of a file
_SAID = {
    TurnState.RUNNING: "still being written",
    TurnState.STOPPED: "stopped by the reader",
    TurnState.FAILED: "broken off",
}


class Format(StrEnum):
    JSON = "json"
    MARKDOWN = "markdown"


class File(NamedTuple):
    name: str
    """Lower-case ASCII letters, digits, hyphens and one dot: safe in a header and on every disk."""
    media_type: str
    pieces: AsyncIterator[bytes]


async def exported(sessions: Sessions, session_id: str, format: Format) -> File:
    """Raises `NotFound`; also later on, where the session is deleted meanwhile: what is cut off must not look whole."""
    session = await sessions.get(session_id)
    name = _UNSAFE.sub("-", session.title.lower()).strip("-")[:_MOST].strip("-") or "chat"
    if format is Format.JSON:
        return File(f"{name}.json", "application/json", _json(sessions, session))
    return File(f"{name}.md", "text/markdown; charset=utf-8", _markdown(sessions, session))


async def _json(sessions: Sessions, session: ChatSession) -> AsyncIterator[bytes]:
    yield b'{"session":' + session.model_dump_json().encode() + b',"turns":[\n'
    first = True
    async for turns in _all(sessions, session):
        yield (b"" if first else b",\n") + b",\n".join(turn.model_dump_json().encode() for turn in turns)
        first = False
    yield b"\n]}\n"


async def _markdown(sessions: Sessions, session: ChatSession) -> AsyncIterator[bytes]:
    place = "".join(f", {name}" for name in (session.project, session.instance) if name)
    yield f"# {' '.join(session.title.split())}\n\n{session.created_at:%Y-%m-%d %H:%M} UTC{place}\n".encode()
    async for turns in _all(sessions, session):
        yield "".join(_section(turn) for turn in turns).encode()


def _section(turn: ChatTurn) -> str:
    who = turn.model or turn.backend or "Answer"
    state = f" ({_SAID[turn.state]})" if turn.state in _SAID else ""
    pieces = [f"\n## {turn.turn}. Asked, {turn.started_at:%Y-%m-%d %H:%M} UTC\n\n{turn.asked}\n"]
    if turn.recalled:
        lines = [f"{one.timestamp:%Y-%m-%d}, {one.project or '-'}: {one.summary}" for one in turn.recalled]
        remembered = "".join(f"- {' '.join(line.split())}\n" for line in lines)
        pieces.append(f"\nRemembered:\n\n{remembered}")
    pieces.append(f"\n### {who}{state}\n\n{turn.answered or turn.error or ''}\n")
    return "".join(pieces)


async def _all(sessions: Sessions, session: ChatSession) -> AsyncIterator[list[ChatTurn]]:
    seen = 0
    async for turns in sessions.each(session.session_id):
        seen += len(turns)
        yield turns
    if seen < session.turns:
        raise NotFound(f"the chat session {session.session_id} was deleted while it was read")
