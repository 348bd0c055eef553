"""Reading JSON that others wrote: what is absent is empty, what has the wrong type is a `ValueError`."""

import orjson
from pydantic import JsonValue

from anamnesis.contracts.base import JsonObject


def parsed(data: bytes | str) -> JsonObject:
    """The object that this JSON holds."""
    value: JsonValue = orjson.loads(data)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def object_in(holder: JsonObject, key: str) -> JsonObject:
    value = holder.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{key} is not an object")
    return value


def objects_in(holder: JsonObject, key: str) -> list[JsonObject]:
    value = holder.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{key} is not a list")
    objects = [one for one in value if isinstance(one, dict)]
    if len(objects) != len(value):
        raise ValueError(f"{key} holds something else than objects")
    return objects


def text_in(holder: JsonObject, key: str) -> str:
    value = holder.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{key} is not text")
    return value


def count_in(holder: JsonObject, key: str) -> int | None:
    """A number of tokens; none where there is none that makes sense."""
    value = holder.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
