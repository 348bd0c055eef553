"""Consolidation: near-duplicates become one episode, nothing is deleted, and it can be undone."""

from typing import Literal

from pydantic import Field

from anamnesis.contracts.base import Contract, EpisodeId, Moment, Name


class ConsolidateRequest(Contract):
    """Look for near-duplicates; with `dry_run` only say what would be done."""

    dry_run: bool = True
    within_session: float = Field(default=0.95, gt=0.5, le=1.0)
    """Least cosine of two episodes of one session."""
    across_sources: float = Field(default=0.92, gt=0.5, le=1.0)
    """Least cosine of two episodes of different sessions or sources, within one project."""
    project_filter: Name | None = None
    since: Moment | None = None
    """Only where one of them was ingested at or after this moment; none = all."""
    limit: int = Field(default=1000, ge=1, le=10_000)
    """Groups at most."""


class Consolidation(Contract):
    """Some near-duplicates, and the one episode that stands for them."""

    episode_id: str | None
    """The episode that was made; none in a dry run."""
    members: tuple[str, ...] = Field(min_length=2)
    """The oldest first."""
    kind: Literal["session", "sources"]
    project: str
    similarity: float
    """The least cosine that joined them."""
    summary: str
    """Of the episode that stands for them."""


class Consolidated(Contract):
    dry_run: bool
    examined: int
    """Episodes that were compared."""
    groups: tuple[Consolidation, ...]
    superseded: int
    complete: bool = True
    """False where there are more groups than the limit, or than time allowed."""


class UndoRequest(Contract):
    episode_ids: tuple[EpisodeId, ...] = Field(min_length=1, max_length=500)
    """Episodes that a consolidation made."""
