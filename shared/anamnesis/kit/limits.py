"""Limits on what a client may send: the size of a body, and how long its pieces may take.

FastAPI has a body limit of its own; it answers in plain text, and our errors have one shape.
"""

import asyncio
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anamnesis.kit.errors import DeadlineExceeded, TooLarge
from anamnesis.kit.responses import error_response

RECEIVE_TIMEOUT = 30.0  # seconds between two pieces of a body; uvicorn itself waits for ever


class BodyLimit:
    """ASGI middleware: a body over the limit is 413 whether announced or chunked, a stalled one is 504."""

    def __init__(self, app: ASGIApp, limit: int, larger: Mapping[str, int]) -> None:
        """`larger` names the paths that take more, in bytes."""
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
        taken, ended = 0, False

        async def bounded() -> Message:
            nonlocal taken, ended
            if ended:
                return await receive()  # from here on it waits for the disconnect, which may take long
            try:
                message = await asyncio.wait_for(receive(), RECEIVE_TIMEOUT)
            except TimeoutError:
                raise DeadlineExceeded("the request's body did not arrive in time") from None
            taken += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if taken > limit:
                raise too_large
            return message

        await self._app(scope, bounded, send)
