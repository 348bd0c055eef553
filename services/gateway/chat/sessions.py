"""Chat sessions as the memory service keeps them: what the gateway asks of it to run a turn."""

from collections.abc import Sequence
from urllib.parse import quote

from anamnesis.contracts.base import now
from anamnesis.contracts.chat import (
    ChatBegun,
    ChatRequest,
    ChatSession,
    ChatSessionCreate,
    ChatSessionPage,
    ChatSessionTurns,
    ChatTurn,
    TurnBegin,
    TurnState,
)
from anamnesis.kit.client import ServiceClient
from anamnesis.transcripts.episodes import shorten
from services.gateway.backends.base import Message, Text
from services.gateway.recall import CHARACTERS_PER_TOKEN

MAX_TITLE = 60  # characters of a first question that become the title
PAGE = 100  # turns that are looked back on at most
BEGIN_WITHIN = 10.0  # seconds for each question to memory before a turn begins: a person waits for it
SAVE_WITHIN = 10.0  # seconds for keeping a turn, tries included; past it, it waits for memory in the background


class Sessions:
    """Reads and writes sessions; `memory` speaks to the memory service with the key between services."""

    def __init__(self, memory: ServiceClient, *, save_within: float = SAVE_WITHIN) -> None:
        self._memory = memory
        self._save_within = save_within

    async def open(self, request: ChatRequest) -> ChatSession:
        """The session of a turn: the one that is named, or a new one that is called after its first question."""
        if request.session_id is not None:
            return (await self.read(request.session_id, limit=1)).session
        body = ChatSessionCreate(title=title_of(request.message), project=request.project, instance=request.instance)
        return await self._memory.request("POST", "/api/chat/sessions", ChatSession, body=body, deadline=BEGIN_WITHIN)

    async def read(self, session_id: str, limit: int = PAGE, before: int | None = None) -> ChatSessionTurns:
        """A session with its last turns before turn `before`."""
        return await self._memory.get(
            f"/api/chat/sessions/{quote(session_id)}",
            ChatSessionTurns,
            {"limit": limit, "before": before},
            deadline=BEGIN_WITHIN,
        )

    async def newest(self, limit: int) -> Sequence[ChatSession]:
        page = await self._memory.get("/api/chat/sessions", ChatSessionPage, {"limit": limit}, BEGIN_WITHIN)
        return page.sessions

    async def begin(self, session_id: str, message: str, remember: bool) -> tuple[ChatBegun, ChatTurn]:
        """The next turn, kept as running: what was asked is safe from here on."""
        body = TurnBegin(asked=message, started_at=now(), remember=remember)
        path = f"/api/chat/sessions/{quote(session_id)}/turns"
        begun = await self._memory.request("POST", path, ChatBegun, body=body, deadline=BEGIN_WITHIN)
        turn = ChatTurn(
            turn=begun.turn, asked=message, state=TurnState.RUNNING, started_at=body.started_at, remember=remember
        )
        return begun, turn

    async def save(self, session_id: str, turn: ChatTurn, within: float | None = None) -> ChatTurn:
        """Keep a turn as it stands; safe to repeat."""
        path = f"/api/chat/sessions/{quote(session_id)}/turns/{turn.turn}"
        return await self._memory.request(
            "PUT", path, ChatTurn, body=turn, deadline=within or self._save_within, repeatable=True
        )


def title_of(message: str) -> str:
    """The first words of a first question, cut between words."""
    line = " ".join(message.split())
    if len(line) <= MAX_TITLE:
        return line or "Chat"
    return line[:MAX_TITLE].rsplit(" ", 1)[0].rstrip(",;:") + "…"


def shown_again(turns: Sequence[ChatTurn], tokens: int) -> list[ChatTurn]:
    """Earlier turns that a model is shown: the newest that fit, oldest first; those without an answer left out.

    The last one is always there, shortened where it does not fit: what is asked next is mostly about it.
    """
    room = tokens * CHARACTERS_PER_TOKEN
    shown: list[ChatTurn] = []
    for turn in reversed(turns):
        if turn.state is TurnState.RUNNING or not turn.answered:
            continue
        if len(turn.asked) + len(turn.answered) > room:
            if not shown and room:
                shown.append(_shortened(turn, room))
            break
        room -= len(turn.asked) + len(turn.answered)
        shown.append(turn)
    return shown[::-1]


def _shortened(turn: ChatTurn, room: int) -> ChatTurn:
    """Question and answer within `room` characters; of both the longer one gives way first."""
    asked = shorten(turn.asked, max(room // 2, room - len(turn.answered)))
    return turn.model_copy(update={"asked": asked, "answered": shorten(turn.answered, room - len(asked))})


def messages_of(turns: Sequence[ChatTurn]) -> list[Message]:
    """Turns as a conversation."""
    return [
        message
        for turn in turns
        for message in (Message("user", (Text(turn.asked),)), Message("assistant", (Text(turn.answered),)))
    ]
