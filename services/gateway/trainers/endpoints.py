"""HTTP: generation by the trainers, streamed or not, and how they are."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from anamnesis.contracts.chat import StopReason, Usage
from anamnesis.contracts.generate import DONE, GenerateAnswer, GenerateRequest
from anamnesis.contracts.trainers import TrainerPlaces, TrainerStates
from anamnesis.kit.errors import UpstreamFailed
from services.gateway.backends.base import BackendFailure, Finish, TextDelta
from services.gateway.failover.walk import Begun
from services.gateway.idempotency import Claim, Idempotency, Kept, claimed
from services.gateway.streaming import Header, Watched, Wire
from services.gateway.trainers.fleet import Fleet

_DONE_FRAME = f"data: {DONE}\n\n".encode()
_STREAM_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


def routes(fleet: Fleet, idempotency: Idempotency) -> APIRouter:
    router = APIRouter(tags=["trainers"])

    @router.get("/api/config/trainers")
    async def places() -> TrainerPlaces:
        """The trainers that are configured."""
        return fleet.places()

    @router.get("/api/anamnesis-gpt/status")
    async def status() -> TrainerStates:
        """How each trainer is, and what it says of itself."""
        return await fleet.states()

    @router.post(
        "/api/anamnesis-gpt/generate",
        response_class=Response,
        responses={200: {"model": GenerateAnswer, "content": {"text/event-stream": {}}}},
    )
    async def generate(request: Request, asked: GenerateRequest) -> Response:
        """Text from the trainer that is least busy, or from the next where it says nothing.

        Streamed as server-sent events (`data:` with `text`, last `finish_reason`, then `data: [DONE]`), or whole with
        `"stream": false`. `Idempotency-Key` makes it safe to send again.
        """
        fleet.require_any()
        claim = idempotency.begin(request, asked.model_dump_json().encode())
        if isinstance(claim, Kept):
            return claim.response()

        async def write(wire: Wire) -> None:
            with claimed(claim):
                await (_stream if asked.stream else _whole)(wire, await fleet.begin(asked), claim)

        return Watched(write)

    return router


async def _stream(wire: Wire, begun: Begun, claim: Claim | None) -> None:
    """Frames as they came, up to the end or to what went wrong."""
    headers = (*_STREAM_HEADERS, *_told(begun))

    async def send(frame: bytes) -> None:
        if claim is not None:
            claim.add(frame)
        await wire.send(frame)

    try:
        await wire.start(200, headers)
        finished = False
        async with wire.kept_alive():
            async for piece in begun.pieces:
                if piece.raw and not finished:
                    await send(piece.raw)
                if isinstance(piece.delta, Finish) and not finished:
                    finished = True
                    await send(_DONE_FRAME)
    except BackendFailure as failure:
        error = UpstreamFailed(f"{begun.endpoint} broke off its answer: {failure.reason}")
        await wire.end(f"event: error\ndata: {error.envelope().model_dump_json()}\n\n".encode())
    else:
        if claim is not None:
            claim.keep(200, headers)
        await wire.end()
    finally:
        await begun.pieces.aclose()


async def _whole(wire: Wire, begun: Begun, claim: Claim | None) -> None:
    """All of it in one JSON object; `begun` ended well already."""
    texts: list[str] = []
    finish: Finish | None = None
    try:
        async for piece in begun.pieces:
            match piece.delta:
                case TextDelta(text):
                    texts.append(text)
                case Finish():
                    finish = piece.delta
    finally:
        await begun.pieces.aclose()
    assert finish is not None, "a whole answer has an end"
    answer = GenerateAnswer(
        text="".join(texts),
        finish_reason="length" if finish.reason is StopReason.LENGTH else "stop",
        usage=finish.usage or Usage(),
    )
    body = answer.model_dump_json().encode()
    headers = ((b"content-type", b"application/json"), *_told(begun))
    if claim is not None:
        claim.add(body)
        claim.keep(200, headers)
    await wire.start(200, (*headers, (b"content-length", str(len(body)).encode())))
    await wire.end(body)


def _told(begun: Begun) -> tuple[Header, ...]:
    """Who answers, and how many were asked until somebody did."""
    return (
        (b"x-anamnesis-endpoint", begun.endpoint.encode("ascii", "replace")),
        (b"x-anamnesis-attempts", str(begun.tries).encode()),
    )
