"""What went wrong at a backend, as a `BackendFailure` whose reason names the status and the kind of error.

Messages of upstreams quote what they were asked now and then; so only their error types, which are names, are told.
"""

import math
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
from pydantic import JsonValue

from anamnesis.contracts.base import JsonObject
from anamnesis.redact import redact
from services.gateway.backends.base import BackendFailure
from services.gateway.backends.dialects.values import parsed

STAYS = frozenset({400, 401, 422})
"""Statuses of a request that is bad wherever it goes."""
MAX_RETRY_AFTER = 3600.0  # seconds; what asks for more is taken for this

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")
_STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_error": 500,
    "bad_request": 400,
    "invalid": 422,
    "busy": 429,
    "unavailable": 503,
}
"""HTTP statuses of errors that come within a stream, where a status of its own could no longer be sent."""


def bad_chunk() -> BackendFailure:
    return BackendFailure("sent a bad chunk: not the JSON that its dialect promises", status=200)


def too_large() -> BackendFailure:
    return BackendFailure("sent a chunk of more than 1 MiB", status=200)


def cut_off() -> BackendFailure:
    return BackendFailure("broke off before its answer was whole")


def refused(status: int, headers: Mapping[str, str], body: bytes) -> BackendFailure:
    """An answer that is no answer: an HTTP status other than 200."""
    kind = _kind_in(body)
    return BackendFailure(
        f"answered {status}" + (f" ({kind})" if kind else ""),
        status=status,
        moves_on=status not in STAYS,
        retry_after=_retry_after(headers),
    )


def no_stream(media: str, body: bytes) -> BackendFailure:
    """A 200 that holds something else than a stream."""
    kind = _kind_in(body)
    given = media if re.fullmatch(r"[a-z]+/[a-z0-9.+-]{1,60}", media) else "something else"
    return BackendFailure(f"answered {given} instead of a stream" + (f" ({kind})" if kind else ""), status=200)


def reported(error: JsonValue) -> BackendFailure:
    """An error that came within a stream."""
    kind = kind_of(error)
    code = error.get("code") if isinstance(error, dict) else None
    known = code if isinstance(code, int) and 400 <= code <= 599 else _STATUS_OF.get(kind)
    return BackendFailure(
        "reported an error" + (f" ({kind})" if kind else ""), status=known, moves_on=known not in STAYS
    )


def broken(error: aiohttp.ClientError | OSError, *, begun: bool) -> BackendFailure:
    """A connection that could not be made, or broke."""
    if begun:
        return BackendFailure("broke off before its answer was whole")
    match error:
        case aiohttp.ServerTimeoutError() | TimeoutError():
            return BackendFailure("cannot be reached in time")
        case aiohttp.ClientConnectorDNSError():
            return BackendFailure("cannot be reached: its host name is not known")
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return BackendFailure("cannot be reached: its certificate or TLS was refused")
        case aiohttp.ClientConnectorError():
            refusal = isinstance(error.os_error, ConnectionRefusedError)
            return BackendFailure(f"cannot be reached: {'connection refused' if refusal else 'no connection'}")
        case aiohttp.InvalidURL():
            return BackendFailure("has an address that is no URL")
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return BackendFailure("answered with something that is not HTTP")
        case _:
            return BackendFailure("closed the connection without an answer")


def kind_of(error: JsonValue) -> str:
    """The name of an error's type or code; empty where it has none that is a name."""
    if isinstance(error, dict):
        for key in ("type", "code", "status"):
            name = error.get(key)
            if isinstance(name, str) and _NAME.fullmatch(name) and name != "error" and redact(name).text == name:
                return name
    return ""


def error_in(value: JsonObject) -> JsonValue:
    """The error that this JSON is, in any of the shapes in use; none = it is no error."""
    if value.get("error"):
        return value["error"]
    return value if value.get("object") == "error" or value.get("type") == "error" else None


def _kind_in(body: bytes) -> str:
    try:
        return kind_of(error_in(parsed(body)))
    except ValueError:
        return ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds; the header holds a number or a date."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            when = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = ((when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if math.isfinite(seconds) else None
