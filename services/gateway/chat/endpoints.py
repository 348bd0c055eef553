"""`POST /api/chat/stream` and its twin without a stream. Sessions are memory's own, and passed on to it."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from anamnesis.contracts.chat import ChatAnswer, ChatRequest
from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.keys import Identity, Scope
from anamnesis.kit.auth import Needs
from anamnesis.kit.errors import AnamnesisError
from anamnesis.kit.sse import Event, event, respond
from services.gateway.chat.turns import Running, Turns
from services.gateway.leaving import while_connected

WRITE = Needs(Scope.WRITE)
FAILURES: dict[int | str, dict[str, object]] = {
    404: {"model": ErrorEnvelope, "description": "There is no such session."},
    502: {"model": ErrorEnvelope, "description": "No backend answered; `detail` has each one's reason."},
    503: {"model": ErrorEnvelope, "description": "No backend is configured, or all are away."},
}


def routes(turns: Turns) -> APIRouter:
    router = APIRouter(tags=["chat"])

    @router.post("/api/chat/stream", response_class=Response, responses=FAILURES)
    async def stream(request: ChatRequest, identity: Identity = Depends(WRITE)) -> Response:  # noqa: B008 - FastAPI's way
        """One turn as server-sent events: `session`, `recalled`, `backend`, `thinking`, `delta`, `done` or `error`.

        Each carries JSON: the shapes are ChatBegun, ChatRecalled, ChatBackend, ChatDelta, ChatDone, and the one of
        errors. Closing the connection stops the answer; what had been said is kept.
        """
        return respond(_told(await turns.begin(request, identity)))

    @router.post("/api/chat", responses=FAILURES)
    async def whole(request: ChatRequest, http: Request, identity: Identity = Depends(WRITE)) -> ChatAnswer:  # noqa: B008
        """One turn, answered when it is over."""
        running = await turns.begin(request, identity)
        return await while_connected(http, running.whole())

    return router


async def _told(running: Running) -> AsyncIterator[Event]:
    try:
        async for one in running.events():
            yield event(one.name, one.value)
    except AnamnesisError as error:
        yield event("error", error.envelope())
