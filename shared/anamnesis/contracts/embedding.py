"""The embedding model in use, its workers, and a re-embedding under way."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from anamnesis.contracts.base import Contract, Moment, Storable

MAX_TEXTS = 256
MAX_TEXT = 8_000  # characters

ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]


class EmbeddingModel(Contract):
    """What must be known of a model to embed with it."""

    name: ModelName
    dimension: int = Field(ge=1, le=8192)
    max_tokens: int = Field(ge=16, le=131_072)
    query_prefix: str = ""
    passage_prefix: str = ""
    licence: str
    path: str | None = None
    """A directory that holds it; none = looked up by name (package, models directory, cache)."""
    available: bool = False
    """Its files are on this machine."""


class CpuShare(Contract):
    """How much of the processor embedding may take: percent of the cores, or named cores."""

    percent: int | None = Field(default=None, ge=1, le=100)
    cores: tuple[Annotated[int, Field(ge=0, le=4095)], ...] | None = Field(default=None, min_length=1, max_length=1024)

    @model_validator(mode="after")
    def _one_of_both(self) -> "CpuShare":
        if (self.percent is None) == (self.cores is None):
            raise ValueError("give either percent or cores")
        return self


class EmbeddingConfig(Contract):
    active: EmbeddingModel
    known: tuple[EmbeddingModel, ...]
    cpu: CpuShare
    workers: int
    cores_in_use: tuple[int, ...]
    queue_depth: int
    queue_limit: int
    checkpoint_every: int
    """Episodes between two checkpoints of a re-embedding."""


class ModelChoice(Contract):
    """Switch to another model; the store is re-embedded beside the old vectors first."""

    name: ModelName
    checkpoint_every: int | None = Field(default=None, ge=1, le=10_000)


class TextKind(StrEnum):
    """What a text is to its model: some embed a question in another way than what answers it."""

    PASSAGE = "passage"
    QUERY = "query"


class EmbedTexts(Contract):
    """Texts to embed by the active model; nothing of them is kept."""

    texts: tuple[Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT), Storable], ...] = Field(
        min_length=1, max_length=MAX_TEXTS
    )
    kind: TextKind = TextKind.PASSAGE


class EmbeddedTexts(Contract):
    """One unit vector a text, in their order."""

    model: str
    dimension: int
    vectors: tuple[str, ...]
    """Each as base64 of little-endian float32, a third of its size as JSON numbers."""


class ReembedState(StrEnum):
    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"


class ReembedStatus(Contract):
    state: ReembedState
    model: str | None = None
    """The model that is being moved to."""
    done: int = 0
    total: int = 0
    started_at: Moment | None = None
    finished_at: Moment | None = None
    episodes_per_second: float | None = None
    eta_seconds: float | None = None
    error: str | None = None
