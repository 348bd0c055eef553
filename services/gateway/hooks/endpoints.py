"""`POST /hooks/{event}`: reads what a hook posts, and writes what it is told."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request
from fastapi.responses import Response

from anamnesis.contracts.base import Name
from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.hooks import HookContext, HookOutput
from anamnesis.contracts.keys import Identity
from anamnesis.contracts.keys import Scope as KeyScope
from anamnesis.kit.auth import Needs
from anamnesis.kit.errors import TooLarge
from services.gateway.hooks.answers import Answers, Scope
from services.gateway.hooks.bound import OUTCOME, empty
from services.gateway.hooks.events import named, parse

MAX_BODY = 1 << 20  # bytes
AT_ONCE = 32  # hooks that are answered at the same time; the next ones get the empty answer

WRITE = Depends(Needs(KeyScope.WRITE))
EventName = Annotated[str, Path(max_length=100, description="As `SessionStart` or `session-start`.")]
FAILURES: dict[int | str, dict[str, object]] = {
    400: {"model": ErrorEnvelope, "description": "The body is no JSON object."},
    413: {"model": ErrorEnvelope, "description": "The body is over 1 MB."},
}


def routes(answers: Answers) -> APIRouter:
    router = APIRouter(tags=["hooks"])
    running = 0

    @router.post("/hooks/{event}", response_model=HookOutput, response_model_exclude_none=True, responses=FAILURES)
    async def hook(
        request: Request,
        event: EventName,
        x_anamnesis_project: Annotated[Name | None, Header()] = None,
        x_anamnesis_instance: Annotated[Name | None, Header()] = None,
        identity: Identity = WRITE,
    ) -> Response:
        """What a hook of Claude Code posts, answered in `ANAMNESIS_HOOK_WAIT` seconds whatever happens.

        SessionStart and UserPromptSubmit are told what is remembered. Stop, SubagentStop, PreCompact and SessionEnd
        ask ingest to read the transcripts that it can see on its own disk. Other events, and what is late, get `{}`;
        the header `X-Anamnesis-Outcome` says what became of it.
        """
        nonlocal running
        known = named(event)
        if known is None:
            return empty("unknown-event")
        if running >= AT_ONCE:
            return empty("busy")
        running += 1
        try:
            told = parse(await _body(request))
            scope = Scope(x_anamnesis_project, x_anamnesis_instance)
            answered = await answers.answer(known, told, identity.key_id, scope)
        finally:
            running -= 1
        if not answered.block:
            return empty(answered.outcome)
        context = HookContext(hook_event_name=known.value, additional_context=answered.block)
        output = HookOutput(hook_specific_output=context)
        return Response(
            output.model_dump_json(by_alias=True),
            media_type="application/json",
            headers={OUTCOME: answered.outcome},
        )

    return router


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise TooLarge(f"a hook may post at most {MAX_BODY} bytes")
    return bytes(body)
