"""Errors as the clients of each dialect expect them: the same status and words in another envelope.

Whatever refuses a request below `/v1` raises one of our errors, or is a middleware that answers with one; here the
answer's envelope is exchanged on its way out, so that a client of another house shows the message to its user.
"""

from pydantic import ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.errors import ErrorBody, ErrorEnvelope
from services.gateway.backends.base import Dialect
from services.gateway.surfaces.frames import encoded

PREFIX = "/v1/"
ANTHROPIC_PREFIX = "/v1/messages"
MAX_ENVELOPE = 64 << 10  # bytes of an error that is put into another envelope; ours are far smaller

MAX_MESSAGE = 4_000  # characters of a message with the reasons of all who were asked

_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}


def openai_error(status: int, error: ErrorBody) -> JsonObject:
    """`{"error": {"message", "type", "param", "code"}}`; `detail` goes along where there is one."""
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    body: JsonObject = {"message": _explained(error), "type": kind, "param": None, "code": error.code}
    return {"error": body | ({"detail": error.detail} if error.detail is not None else {})}


def anthropic_error(status: int, error: ErrorBody) -> JsonObject:
    """`{"type": "error", "error": {"type", "message"}}`; `detail` goes along where there is one."""
    kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    body: JsonObject = {"type": kind, "message": _explained(error)}
    return {"type": "error", "error": body | ({"detail": error.detail} if error.detail is not None else {})}


def _explained(error: ErrorBody) -> str:
    """The message, with each backend's reason where it points to them: these clients show nothing but the message."""
    tries = error.detail if isinstance(error.detail, list) else []
    named = [one for one in tries if isinstance(one, dict) and one.keys() >= {"backend", "error"}]
    reasons = [f"{one['backend']}: {one['error']}" for one in named]
    reasons = [reason for reason in dict.fromkeys(reasons) if reason not in error.message]
    return f"{error.message} ({'; '.join(reasons)})"[:MAX_MESSAGE] if reasons else error.message


def dialect_of(path: str, headers: Headers) -> Dialect | None:
    """Whose client asks; none outside of `/v1`."""
    if not path.startswith(PREFIX):
        return None
    if path.startswith(ANTHROPIC_PREFIX) or "anthropic-version" in headers:
        return Dialect.ANTHROPIC
    return Dialect.OPENAI


class DialectErrors:
    """ASGI middleware, the outermost: errors below `/v1` in the envelope of their dialect."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        dialect = dialect_of(scope["path"], Headers(scope=scope)) if scope["type"] == "http" else None
        if dialect is None:
            return await self._app(scope, receive, send)
        held: Message | None = None
        body = b""

        async def exchanged(message: Message) -> None:
            nonlocal held, body
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                if dialect is Dialect.ANTHROPIC and "x-request-id" in headers:
                    headers["request-id"] = headers["x-request-id"]  # the name that its clients read
                if message["status"] >= 400 and headers.get("content-type") == "application/json":
                    held = message
                    return
            if held is None:
                return await send(message)
            body += message.get("body", b"")
            if message.get("more_body", False) and len(body) <= MAX_ENVELOPE:
                return
            start, held = held, None
            content = _in_dialect(dialect, start["status"], body)
            if not message.get("more_body", False):
                MutableHeaders(raw=start["headers"])["content-length"] = str(len(content))
            await send(start)
            await send({**message, "body": content})

        await self._app(scope, receive, exchanged)


def _in_dialect(dialect: Dialect, status: int, body: bytes) -> bytes:
    try:
        error = ErrorEnvelope.model_validate_json(body).error
    except ValidationError:
        return body
    return encoded((anthropic_error if dialect is Dialect.ANTHROPIC else openai_error)(status, error))
