"""Server-sent events as they are written to a client, and the JSON in those that a backend sent."""

import orjson
from pydantic import JsonValue

from anamnesis.contracts.base import JsonObject


def encoded(value: JsonObject) -> bytes:
    return orjson.dumps(value)


def frame(value: JsonObject, name: str = "") -> bytes:
    """One event, whole."""
    head = f"event: {name}\n".encode() if name else b""
    return b"%bdata: %b\n\n" % (head, encoded(value))


def content_of(raw: bytes) -> JsonObject | None:
    """The JSON object that an event carries; none for comments, end marks and what is no object."""
    lines = [line[5:].removeprefix(b" ") for line in raw.splitlines() if line.startswith(b"data:")]
    try:
        value: JsonValue = orjson.loads(b"\n".join(lines))
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
