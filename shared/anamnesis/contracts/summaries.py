"""Summaries: who writes them, within which bounds, and how far they are."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from anamnesis.contracts.base import Contract, Moment, Name, Storable
from anamnesis.contracts.episodes import Place

PENDING = "summary:pending"
"""Tag of an episode whose extractive summary waits for one by a model."""
Backend = Literal["extractive", "anamnesis-gpt", "openai", "ollama", "claude", "claude-cli"]


class Summarising(Contract):
    """Who writes summaries. The extractive ones are always written first; a model replaces them later."""

    backend: Backend = "extractive"
    """`extractive`: cut out of the exchange itself; no model, no cost."""
    model: Name | None = None
    """None = the backend's own choice."""
    per_minute: float = Field(default=10.0, gt=0, le=600)
    """Requests to the model."""
    per_night: int = Field(default=500, ge=1, le=100_000)
    """Episodes of one pass; the rest waits for the next."""
    together: int = Field(default=4, ge=1, le=16)
    """Episodes of one request."""
    tries: int = Field(default=3, ge=1, le=10)
    """Of one request in one pass; what fails is tried again with the next pass."""


class Significance(Contract):
    """What is worth remembering, for projects of a name; a field that is left out follows the settings."""

    project: Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True), Storable]
    """A shell pattern; of several that fit the first counts."""
    min_said: int | None = Field(default=None, ge=0, le=1_000_000)
    min_unanswered: int | None = Field(default=None, ge=0, le=1_000_000)
    nods: bool | None = None
    """Whether to keep exchanges of nothing but 'ok', 'thanks' and the like."""
    commands: bool | None = None
    """Whether to keep commands that nothing was answered to."""
    sidechains: bool | None = None
    """Whether to keep what subagents did."""
    exclude: bool = False
    """Read nothing of them."""


class JsonlConfig(Contract):
    """How Claude Code transcripts are read."""

    roots: tuple[Place, ...] = Field(default=(), max_length=100)
    """Directories; absolute, within those that may be read."""
    poll_seconds: float = Field(default=60.0, ge=0, le=86_400)
    """Between two looks; 0 = only on request, by hooks and at night."""
    significance: tuple[Significance, ...] = Field(default=(), max_length=200)
    summaries: Summarising = Summarising()


class JsonlConfigured(Contract):
    config: JsonlConfig
    version: int
    """0 = never set: the roots are those of ANAMNESIS_TRANSCRIPT_ROOTS."""
    found: tuple[str, ...] = ()
    """Where Claude Code keeps transcripts on this machine, and which are not read yet: a suggestion."""


class SummaryStatus(Contract):
    backend: Backend
    pending: int
    """Episodes that wait for a model."""
    running: bool = False
    written: int = 0
    """Of the present or the last pass."""
    cached: int = 0
    failed: int = 0
    last_error: str | None = None
    finished_at: Moment | None = None
