"""How many tokens a request of Anthropic's dialect has: counted by the Claude API, or estimated from its characters."""

from collections.abc import Mapping
from typing import NamedTuple

import httpx
from pydantic import BaseModel, JsonValue, SecretStr, ValidationError

from anamnesis.contracts.base import JsonObject
from anamnesis.kit.errors import BadRequest
from anamnesis.kit.logs import logger
from services.gateway.recall import CHARACTERS_PER_TOKEN

BACKEND = "claude"
IMAGE_TOKENS = 1_500  # about what a picture of full size costs
WITHIN = 10.0  # seconds for the Claude API to count
VERSION = "2023-06-01"  # of the API, where the client names none
_NOT_COUNTED = frozenset({"max_tokens", "stream", "temperature", "top_p", "top_k", "stop_sequences", "metadata"})
"""What a request to be answered has, and one to be counted may not."""


class Counted(NamedTuple):
    tokens: int
    estimated: str = ""
    """Why it is an estimate; empty = it was counted."""


class _Count(BaseModel):
    input_tokens: int


class ClaudeCount:
    """The Claude API's count. Open it before use, close it at the end."""

    def __init__(self, url: str, key: SecretStr | None) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._http: httpx.AsyncClient | None = None

    async def open(self) -> None:
        self._http = httpx.AsyncClient(timeout=WITHIN, trust_env=False)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()

    async def count(self, body: JsonObject, headers: Mapping[str, str]) -> Counted:
        """The tokens of a request. Raises `BadRequest` for one that the API refuses; else never fails."""
        assert self._http is not None, "open it first"
        if self._key is None:
            return Counted(estimate(body), "the Claude API is not configured")
        asked = {name: value for name, value in body.items() if name not in _NOT_COUNTED}
        sent = {"anthropic-version": VERSION, **headers, "x-api-key": self._key.get_secret_value()}
        try:
            answer = await self._http.post(f"{self._url}/v1/messages/count_tokens", json=asked, headers=sent)
            if answer.status_code == 400:
                raise BadRequest(f"the Claude API refuses to count this: {_message(answer)}")
            if answer.is_success:
                return Counted(_Count.model_validate_json(answer.content).input_tokens)
            why = f"the Claude API answered {answer.status_code}"
        except httpx.HTTPError:
            why = "the Claude API cannot be reached"
        except ValidationError:
            why = "the Claude API gave no count"
        logger().info("tokens_estimated", reason=why)
        return Counted(estimate(body), why)


def estimate(body: JsonObject) -> int:
    """Four characters a token, over all that the model reads; a picture counts as one of full size."""
    read = [body.get(name) for name in ("system", "messages", "tools")]
    characters = sum(map(_characters, read))
    return max(1, round(characters / CHARACTERS_PER_TOKEN))


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


def _message(answer: httpx.Response) -> str:
    """What the API says is wrong, in one line of bounded length."""
    try:
        error = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return "it does not say why"
    return " ".join(str(error).split())[:500]
