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
from services.gateway.idempotency import Claim, Idempotency, Kept, claimed
from services.gateway.leaving import while_connected

WRITE = Needs(Scope.WRITE)
FAILURES: dict[int | str, dict[str, object]] = {
    404: {"model": ErrorEnvelope, "description": "There is no such session."},
    502: {"model": ErrorEnvelope, "description": "No backend answered; `detail` has each one's reason."},
    503: {"model": ErrorEnvelope, "description": "No backend is configured, or all are away."},
}


def routes(turns: Turns, idempotency: Idempotency) -> APIRouter:
    router = APIRouter(tags=["chat"])

    @router.post("/api/chat/stream", response_class=Response, responses=FAILURES)
    async def stream(http: Request, request: ChatRequest, identity: Identity = Depends(WRITE)) -> Response:  # noqa: B008 - FastAPI's way
        """One turn as server-sent events: `session`, `recalled`, `backend`, `thinking`, `delta`, `done` or `error`.

        Each carries JSON: the shapes are ChatBegun, ChatRecalled, ChatBackend, ChatDelta, ChatDone, and the one of
        errors. Closing the connection stops the answer; what had been said is kept. `Idempotency-Key` makes it safe to
        send again.
        """
        claim = idempotency.begin(http, request.model_dump_json().encode())
        if isinstance(claim, Kept):
            return claim.response()
        try:
            running = await turns.begin(request, identity)
        except AnamnesisError:
            if claim is not None:
                claim.drop()
            raise
        return respond(_told(running, claim))

    @router.post("/api/chat", responses=FAILURES, response_model=ChatAnswer)
    async def whole(http: Request, request: ChatRequest, identity: Identity = Depends(WRITE)) -> Response:  # noqa: B008
        """One turn, answered when it is over. `Idempotency-Key` makes it safe to send again."""
        claim = idempotency.begin(http, request.model_dump_json().encode())
        if isinstance(claim, Kept):
            return claim.response()
        with claimed(claim):
            running = await turns.begin(request, identity, at_once=True)
            try:
                answer = (await while_connected(http, running.whole())).model_dump_json().encode()
            finally:
                running.stop()
            if claim is not None:
                claim.add(answer)
                claim.keep(200, [(b"content-type", b"application/json")])
        return Response(answer, media_type="application/json")

    return router


async def _told(running: Running, claim: Claim | None) -> AsyncIterator[Event]:
    """A turn's events; one that ends well is kept for whoever sends the same again."""
    try:
        async for one in running.events():
            told = event(one.name, one.value)
            if claim is not None:
                claim.add(f"event: {told.name}\ndata: {told.data}\n\n".encode())
                if one.name == "done":
                    claim.keep(200, [(b"content-type", b"text/event-stream; charset=utf-8")])
            yield told
    except AnamnesisError as error:
        yield event("error", error.envelope())
