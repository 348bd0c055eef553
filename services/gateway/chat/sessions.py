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
from services.gateway.backends.base import Message, Text
from services.gateway.recall import CHARACTERS_PER_TOKEN

MAX_TITLE = 60  # characters of a first question that become the title
PAGE = 100  # turns that are looked back on at most
SAVE_WITHIN = 30.0  # seconds for keeping a turn, tries included


class Sessions:
    """Reads and writes sessions; `memory` speaks to the memory service with the key between services."""

    def __init__(self, memory: ServiceClient) -> None:
        self._memory = memory

    async def open(self, request: ChatRequest) -> ChatSession:
        """The session of a turn: the one that is named, or a new one that is called after its first question."""
        if request.session_id is not None:
            return (await self.read(request.session_id, limit=1)).session
        body = ChatSessionCreate(title=title_of(request.message), project=request.project, instance=request.instance)
        return await self._memory.request("POST", "/api/chat/sessions", ChatSession, body=body)

    async def read(self, session_id: str, limit: int = PAGE, before: int | None = None) -> ChatSessionTurns:
        """A session with its last turns before turn `before`."""
        return await self._memory.get(
            f"/api/chat/sessions/{quote(session_id)}", ChatSessionTurns, {"limit": limit, "before": before}
        )

    async def newest(self, limit: int) -> Sequence[ChatSession]:
        page = await self._memory.get("/api/chat/sessions", ChatSessionPage, {"limit": limit})
        return page.sessions

    async def begin(self, session_id: str, message: str, remember: bool) -> tuple[ChatBegun, ChatTurn]:
        """The next turn, kept as running: what was asked is safe from here on."""
        body = TurnBegin(asked=message, started_at=now(), remember=remember)
        path = f"/api/chat/sessions/{quote(session_id)}/turns"
        begun = await self._memory.request("POST", path, ChatBegun, body=body)
        turn = ChatTurn(
            turn=begun.turn, asked=message, state=TurnState.RUNNING, started_at=body.started_at, remember=remember
        )
        return begun, turn

    async def save(self, session_id: str, turn: ChatTurn, within: float = SAVE_WITHIN) -> ChatTurn:
        """Keep a turn as it stands; safe to repeat."""
        path = f"/api/chat/sessions/{quote(session_id)}/turns/{turn.turn}"
        return await self._memory.request("PUT", path, ChatTurn, body=turn, deadline=within, repeatable=True)


def title_of(message: str) -> str:
    """The first words of a first question, cut between words."""
    line = " ".join(message.split())
    if len(line) <= MAX_TITLE:
        return line or "Chat"
    return line[:MAX_TITLE].rsplit(" ", 1)[0].rstrip(",;:") + "…"


def history(turns: Sequence[ChatTurn], tokens: int) -> list[Message]:
    """Earlier turns as a model is shown them: the newest that fit, oldest first; those without an answer left out."""
    room = tokens * CHARACTERS_PER_TOKEN
    shown: list[Message] = []
    for turn in reversed(turns):
        if turn.state is TurnState.RUNNING or not turn.answered:
            continue
        room -= len(turn.asked) + len(turn.answered)
        if room < 0:
            break
        shown += [Message("assistant", (Text(turn.answered),)), Message("user", (Text(turn.asked),))]
    return shown[::-1]
