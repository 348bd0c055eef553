"""Generation by a trainer: `POST /generate`, and what its stream holds.

A stream is server-sent events without names. Each holds one JSON object, a `GenerateChunk`: `text` as it is made, and
last `finish_reason` with `usage`. The line `data: [DONE]` ends a whole answer. What goes wrong after the first text
comes as the event `error` with an error envelope, and no `[DONE]` follows.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from anamnesis.contracts.base import Contract, Name
from anamnesis.contracts.chat import Usage

DONE = "[DONE]"
MAX_PROMPT = 1_000_000  # characters


class GenerateMessage(Contract):
    role: Literal["system", "user", "assistant"]
    content: Annotated[str, StringConstraints(max_length=MAX_PROMPT)]


class GenerateRequest(Contract):
    """Either a prompt, continued as it stands, or messages, set in the model's chat template."""

    prompt: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROMPT)] | None = None
    messages: tuple[GenerateMessage, ...] = Field(default=(), max_length=10_000)
    adapter: Name | None = None
    """A trained adapter by name; none = the base model."""
    vessel: Name | None = None
    """A vessel by name, with its organs."""
    max_tokens: int = Field(default=512, ge=1, le=131_072)
    temperature: float = Field(default=0.7, ge=0.0, le=2.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0, le=1_000)
    """0 = all."""
    stop: tuple[Annotated[str, StringConstraints(min_length=1, max_length=200)], ...] = Field(default=(), max_length=16)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    stream: bool = True

    @model_validator(mode="after")
    def _one_of_both(self) -> "GenerateRequest":
        if (self.prompt is None) == (not self.messages):
            raise ValueError("give either prompt or messages")
        return self


class GenerateChunk(Contract):
    text: str = ""
    finish_reason: Literal["stop", "length"] | None = None
    usage: Usage | None = None


class GenerateAnswer(Contract):
    """The whole, where it is not streamed."""

    text: str
    finish_reason: Literal["stop", "length"]
    usage: Usage
