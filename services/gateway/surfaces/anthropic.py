"""Anthropic's surface: messages and their count. Claude Code and its like gain memory by pointing their client here."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from anamnesis.contracts.base import JsonObject
from services.gateway.surfaces.anthropic_answer import AnthropicTelling
from services.gateway.surfaces.anthropic_request import HEADERS, from_anthropic, thinking_wanted
from services.gateway.surfaces.asked import Asked, body_of
from services.gateway.surfaces.desk import Desk
from services.gateway.surfaces.frames import encoded
from services.gateway.surfaces.openai import ERRORS
from services.gateway.surfaces.token_count import COUNTING, Counted, Counter, counted_by, estimate


def routes(desk: Desk, counter: Counter | None) -> APIRouter:
    """`counter` counts for the Claude API; none = it is no backend here."""
    router = APIRouter(tags=["anthropic"])

    @router.post("/v1/messages", response_class=Response, responses=ERRORS)
    async def answer(request: Request) -> Response:
        """Anthropic's messages, streamed or not, with what is remembered put before the last words of the user.

        `model` and the headers `X-Anamnesis-*` mean the same as in chat completions; a name that begins with `claude`
        means Claude where it is configured, and else the configured order.
        """
        body, asked = await _read(request)
        telling = AnthropicTelling(asked.model, thinking=thinking_wanted(body))
        return desk.answer(request, asked, await desk.names(asked.model), telling)

    @router.post("/v1/messages/count_tokens", response_class=Response, responses=ERRORS)
    async def count(request: Request) -> Response:
        """Tokens of a request, without what would be recalled for it.

        Counted by the Claude API where that would answer; otherwise estimated at four characters a token, and
        `X-Anamnesis-Estimated` says why.
        """
        _, asked = await _read(request)
        native = asked.ask.native
        assert native is not None
        first = next(iter(desk.configured(await desk.names(asked.model))), "")
        backend, _, model = first.partition(":")
        if counter is not None and backend == COUNTING:
            counted = await counted_by(counter, native, model)
        else:
            counted = Counted(estimate(native.body), "another backend than the Claude API would answer")
        told = {"X-Anamnesis-Estimated": counted.estimated} if counted.estimated else {}
        shown: JsonObject = {"input_tokens": counted.tokens}
        return Response(encoded(shown), media_type="application/json", headers=told)

    return router


async def _read(request: Request) -> tuple[JsonObject, Asked]:
    body = body_of(await request.body())
    headers = {name: value for name in HEADERS if (value := request.headers.get(name)) is not None}
    return body, from_anthropic(body, headers)
