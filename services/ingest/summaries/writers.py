"""Who writes summaries: a model behind the gateway, asked for several at once."""

from collections.abc import Sequence
from typing import Literal, Protocol

from pydantic import BaseModel, Field

from anamnesis.contracts.base import Contract
from anamnesis.contracts.summaries import Summarising
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import UpstreamFailed
from services.ingest.summaries.asking import SYSTEM, answers, question

WITHIN = 300.0  # seconds for one answer; the gateway has bounds of its own
_TOKENS = 400  # of an answer, a summary: several times what is asked for, so that models may think


class Writer(Protocol):
    async def write(self, exchanges: Sequence[str]) -> list[str | None]:
        """A text for each, unchecked; none where there is none. Raises our errors where nobody answers."""


class _Said(Contract):
    role: Literal["system", "user"]
    content: str


class _Ask(Contract):
    model: str
    messages: tuple[_Said, ...]
    memory: bool = False
    """What is recalled has no place in a summary."""
    max_tokens: int


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: tuple[_Choice, ...] = Field(min_length=1)


class GatewayWriter:
    """Asks one backend by the gateway's `/v1`, whatever it is."""

    def __init__(self, gateway: ServiceClient, by: Summarising) -> None:
        self._gateway = gateway
        self._model = name_of(by)

    async def write(self, exchanges: Sequence[str]) -> list[str | None]:
        ask = _Ask(
            model=self._model,
            messages=(_Said(role="system", content=SYSTEM), _Said(role="user", content=question(exchanges))),
            max_tokens=_TOKENS * (len(exchanges) + 1),
        )
        said = await self._gateway.request("POST", "/v1/chat/completions", _Completion, body=ask, deadline=WITHIN)
        first = said.choices[0]
        if not first.message.content:
            raise UpstreamFailed(f"{self._model} answered without a word")
        found = answers(first.message.content, len(exchanges))
        if first.finish_reason == "length":  # the last one may have been cut off
            last = max((at for at, one in enumerate(found) if one is not None), default=None)
            if last is not None:
                found[last] = None
        return found


def name_of(by: Summarising) -> str:
    """A model as the gateway calls it."""
    return f"{by.backend}:{by.model}" if by.model else by.backend
