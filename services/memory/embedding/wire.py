"""What the pool and its workers say to each other over a pipe: a line of JSON, then the vectors as bytes."""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter

Precision = Literal["auto", "fp32", "bf16"]
"""In which numbers a model computes; auto = in those that the processor multiplies faster."""


class Load(BaseModel):
    """How a worker is to be set up; its one argument."""

    directory: str
    max_tokens: int
    precision: Precision
    threads: int
    nice: int
    parent: int
    """Process id of the pool; the worker ends with it."""


class Ready(BaseModel):
    """The model is loaded."""

    kind: Literal["ready"] = "ready"
    dimension: int
    max_tokens: int
    """What the model takes: as asked for, or less where its position table is shorter."""
    bf16: bool
    """In bfloat16, not in fp32."""


class Refused(BaseModel):
    """The model cannot be loaded, or a batch failed. Never quotes a text."""

    kind: Literal["refused"] = "refused"
    reason: str


class Vectors(BaseModel):
    """A batch is done; `rows` x `dimension` float32 follow as bytes."""

    kind: Literal["vectors"] = "vectors"
    rows: int
    dimension: int
    seconds: float
    over_length: int
    """Texts that were longer than the model takes, and lost their end."""


Reply = Annotated[Ready | Refused | Vectors, Field(discriminator="kind")]
_REPLY: TypeAdapter[Ready | Refused | Vectors] = TypeAdapter(Reply)
_TEXTS: TypeAdapter[list[str]] = TypeAdapter(list[str])


def line(reply: Ready | Refused | Vectors) -> bytes:
    return reply.model_dump_json().encode() + b"\n"


def parse(received: bytes) -> Ready | Refused | Vectors:
    """Raises `ValueError` for anything but one whole reply."""
    return _REPLY.validate_json(received)


def batch_line(texts: list[str]) -> bytes:
    """One request: the texts as one line (JSON escapes every line break within them)."""
    return json.dumps(texts).encode("ascii") + b"\n"


def parse_batch(received: bytes) -> list[str]:
    return _TEXTS.validate_json(received)
