"""Limits on what a client may send: the size of a body, and how long its pieces may take.

FastAPI has a body limit of its own; it answers in plain text, and our errors have one shape.
"""

import asyncio
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anamnesis.kit.errors import AnamnesisError, Stalled, TooLarge
from anamnesis.kit.responses import error_response

RECEIVE_TIMEOUT = 30.0  # seconds between two pieces of a body; uvicorn itself waits for ever


class BodyLimit:
    """ASGI middleware: a body over the limit is 413 whether announced or chunked, a stalled one is 408."""

    def __init__(self, app: ASGIApp, limit: int, larger: Mapping[str, int]) -> None:
        """`larger` names the paths that have a bound of their own, mostly a larger one, in bytes."""
        self._app = app
        self._limit = limit
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        limit = self._larger.get(scope["path"], self._limit)
        too_large = TooLarge(f"a request to this path may hold at most {limit} bytes")
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > limit:
            return await error_response(too_large)(scope, receive, send)
        taken, ended, begun = 0, False, False
        refusal: AnamnesisError | None = None

        async def bounded() -> Message:
            nonlocal taken, ended, refusal
            if ended:
                return await receive()  # from here on it waits for the disconnect, which may take long
            try:
                message = await asyncio.wait_for(receive(), RECEIVE_TIMEOUT)
            except TimeoutError:
                refusal = Stalled("the request's body did not arrive in time")
                raise refusal from None
            taken += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if taken > limit:
                refusal = too_large
                raise refusal
            return message

        async def watched(message: Message) -> None:
            nonlocal begun
            # The framework calls every error while it reads a body a parsing error, and would answer 400.
            begun = begun or (refusal is None and message["type"] == "http.response.start")
            if begun or refusal is None:
                await send(message)

        try:
            await self._app(scope, bounded, watched)
        except AnamnesisError as error:
            if begun or error is not refusal:
                raise
        if refusal is not None and not begun:
            await error_response(refusal)(scope, receive, send)
