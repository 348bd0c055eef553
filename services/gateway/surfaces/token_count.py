"""How many tokens a request of Anthropic's dialect has: counted by the Claude API, or estimated from its characters."""

from dataclasses import replace
from typing import NamedTuple, Protocol

from pydantic import JsonValue

from anamnesis.contracts.base import JsonObject
from anamnesis.kit.errors import BadRequest
from anamnesis.kit.logs import logger
from services.gateway.backends.base import BackendFailure, Native
from services.gateway.recall import CHARACTERS_PER_TOKEN

COUNTING = "claude"  # the backend that counts for itself
IMAGE_TOKENS = 1_500  # about what a picture of full size costs
_NOT_COUNTED = frozenset({"max_tokens", "stream", "temperature", "top_p", "top_k", "stop_sequences", "metadata"})
"""What a request to be answered has, and one to be counted may not."""


class Counter(Protocol):
    """The Claude API."""

    async def count_tokens(self, native: Native, model: str | None = None) -> JsonObject:
        """`{"input_tokens"}`, for its default model where none is named. Raises `BackendFailure`."""


class Counted(NamedTuple):
    tokens: int
    estimated: str = ""
    """Why it is an estimate; empty = it was counted."""


async def counted_by(counter: Counter, native: Native, model: str) -> Counted:
    """The count of the Claude API; an estimate where it gives none. Raises `BadRequest` where it refuses."""
    asked = replace(native, body={name: value for name, value in native.body.items() if name not in _NOT_COUNTED})
    try:
        tokens = (await counter.count_tokens(asked, model or None)).get("input_tokens")
    except BackendFailure as failure:
        if not failure.moves_on and failure.status == 400:
            raise BadRequest(f"{COUNTING}: {failure.reason}") from None
        why = f"{COUNTING}: {failure.reason}"
    else:
        if isinstance(tokens, int):
            return Counted(tokens)
        why = f"{COUNTING}: gave no count"
    logger().info("tokens_estimated", reason=why)
    return Counted(estimate(native.body), why)


def estimate(body: JsonObject) -> int:
    """Four characters a token, over all that the model reads; a picture counts as one of full size."""
    read = [body.get(name) for name in ("system", "messages", "tools")]
    return max(1, round(sum(map(_characters, read)) / CHARACTERS_PER_TOKEN))


def _characters(value: JsonValue) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(_characters, value))
    if isinstance(value, dict):
        if value.get("type") in ("image", "document"):
            return IMAGE_TOKENS * CHARACTERS_PER_TOKEN
        return sum(len(name) + _characters(inner) for name, inner in value.items())
    return 0 if value is None else 4
