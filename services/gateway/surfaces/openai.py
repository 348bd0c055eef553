"""OpenAI's surface: chat completions. Whoever speaks to OpenAI gains memory by pointing its client here."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from services.gateway.surfaces.asked import body_of
from services.gateway.surfaces.desk import Desk
from services.gateway.surfaces.openai_answer import OpenAITelling
from services.gateway.surfaces.openai_request import from_openai, includes_usage

ERRORS: dict[int | str, dict[str, object]] = {
    400: {"description": "A field does not fit, or no backend that is asked can take it; the message names it."},
    502: {"description": "No backend answered; the message holds each one's reason."},
    503: {"description": "No backend is configured, or all are away."},
}


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(tags=["openai"])

    @router.post("/v1/chat/completions", response_class=Response, responses=ERRORS)
    async def complete(request: Request) -> Response:
        """OpenAI's chat completions, streamed or not, with what is remembered put before the last words of the user.

        `model`: `auto`, `<backend>`, `<backend>:<model>`, or the name of a model. `"memory": false` or
        `X-Anamnesis-Memory: off` recalls nothing; `X-Anamnesis-Project` and `X-Anamnesis-Instance` say where to recall
        from. The answer's headers `X-Anamnesis-*` name backend, attempts and what was recalled.
        """
        body = body_of(await request.body())
        asked = from_openai(body)
        telling = OpenAITelling(asked.model, usage=not asked.stream or includes_usage(body))
        return desk.answer(request, asked, await desk.names(asked.model), telling)

    return router
