"""Chat sessions: their list, their turns, their titles, the search in them, and files of them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import StringConstraints
from starlette.status import HTTP_201_CREATED

from anamnesis.contracts.base import Name
from anamnesis.contracts.chat import (
    MAX_TURNS_PAGE,
    ChatBegun,
    ChatSearch,
    ChatSession,
    ChatSessionCreate,
    ChatSessionPage,
    ChatSessionTurns,
    ChatTurn,
    SessionId,
    TitleRequest,
    TurnBegin,
)
from anamnesis.contracts.episodes import Changed
from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.kit.errors import BadRequest
from services.memory.chat.export import Format, exported
from services.memory.chat.search import Search
from services.memory.chat.sessions import Sessions

PathId = Annotated[SessionId, Path(description="A session's id.")]
PathTurn = Annotated[int, Path(ge=1, le=99_999_999)]
Question = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True), Query()]
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": ErrorEnvelope, "description": "There is no such session."}}
TAKEN: dict[int | str, dict[str, Any]] = {409: {"model": ErrorEnvelope, "description": "Another one has it."}}


def routes(sessions: Sessions, search: Search) -> APIRouter:
    router = APIRouter(tags=["chat"])

    @router.post("/api/chat/sessions", status_code=HTTP_201_CREATED, responses=TAKEN)
    async def create(session: ChatSessionCreate) -> ChatSession:
        """Begin a session; without an id one is made."""
        return await sessions.create(session)

    @router.get("/api/chat/sessions")
    async def page(
        skip: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        project: Annotated[Name | None, Query()] = None,
    ) -> ChatSessionPage:
        """Sessions, newest first by their last turn."""
        return await sessions.page(skip, limit, project)

    @router.get("/api/chat/sessions/search")
    async def find(q: Question, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> ChatSearch:
        """Titles and turns that hold all of the words, newest sessions first."""
        return await search.find(q, limit)

    @router.get("/api/chat/sessions/{session_id}", responses=MISSING)
    async def turns(
        session_id: PathId,
        before: Annotated[int | None, Query(ge=1, le=100_000_000, description="Turns before this one.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_TURNS_PAGE)] = 50,
    ) -> ChatSessionTurns:
        """A session with its last turns, oldest first; fewer than `limit` where they are long. Ask again with
        `before` the first of them until it is turn 1.
        """
        return await sessions.turns(session_id, before, limit)

    @router.patch("/api/chat/sessions/{session_id}/title", responses=MISSING)
    async def rename(session_id: PathId, request: TitleRequest) -> ChatSession:
        """Give a session another title; earlier ones are kept."""
        return await sessions.rename(session_id, request.title)

    @router.delete("/api/chat/sessions/{session_id}/delete")
    async def delete(session_id: PathId) -> Changed:
        """Delete a session with all its turns. Safe to repeat: of one that is gone nothing changes."""
        return Changed(changed=int(await sessions.delete(session_id)))

    @router.get("/api/chat/sessions/{session_id}/export", response_class=StreamingResponse, responses=MISSING)
    async def export(session_id: PathId, format: Format = Format.JSON) -> StreamingResponse:
        """A session with all its turns as a file."""
        file = await exported(sessions, session_id, format)
        headers = {"Content-Disposition": f'attachment; filename="{file.name}"', "X-Content-Type-Options": "nosniff"}
        return StreamingResponse(file.pieces, media_type=file.media_type, headers=headers)

    @router.post("/api/chat/sessions/{session_id}/turns", status_code=HTTP_201_CREATED, responses={**MISSING, **TAKEN})
    async def begin(session_id: PathId, turn: TurnBegin) -> ChatBegun:
        """Begin the next turn; its number is nobody else's."""
        return await sessions.begin(session_id, turn)

    @router.put("/api/chat/sessions/{session_id}/turns/{turn}", responses={**MISSING, **TAKEN})
    async def write(session_id: PathId, turn: PathTurn, body: ChatTurn) -> ChatTurn:
        """Write the next turn, or one that exists once more; answers with what is kept of it."""
        if body.turn != turn:
            raise BadRequest("the number of the turn in the path and in the body differ")
        return await sessions.write(session_id, body)

    return router
