"""What is known about the store as a whole: its course over time, its picture, and what of the disk is in it."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from anamnesis.contracts.base import Contract, Moment


class Bucket(StrEnum):
    DAY = "day"
    WEEK = "week"
    """From Monday."""
    MONTH = "month"


class TimelinePoint(Contract):
    """Episodes of one project and instance whose event time lies in one bucket; empty ones are left out."""

    start: Moment
    project: str
    instance: str
    episodes: int


class Timeline(Contract):
    bucket: Bucket
    points: tuple[TimelinePoint, ...]
    """By start, then project, then instance."""


class EpisodeMap(Contract):
    """Episodes as points of a plane, near one another where their vectors are; one array a field, each (n)."""

    model: str
    """The embedding model whose vectors these are."""
    method: Literal["pca", "tsne"]
    """`pca` at once: the two widest directions. `tsne` once it is drawn: what is alike lies together."""
    refining: bool = False
    """A clearer picture is being drawn; ask again in some seconds."""
    made_at: Moment
    total: int
    """Episodes that match; more than there are points where the picture is a sample."""
    projects: tuple[str, ...]
    episode_id: tuple[str, ...]
    x: tuple[float, ...]
    """-1..1"""
    y: tuple[float, ...]
    """-1..1"""
    project: tuple[int, ...]
    """Index into `projects`."""


class TranscriptAtRisk(Contract):
    """A transcript that holds something unread and that its owner's program will soon delete."""

    path: str
    modified_at: Moment
    days_left: float
    bytes_unread: int


class Coverage(Contract):
    """Transcripts on disk against those that were read."""

    files: int
    read: int
    """Read to their end."""
    behind: int
    """Read in part."""
    unread: int
    bytes_unread: int
    purge_days: float
    """Days after which Claude Code deletes a transcript."""
    at_risk: tuple[TranscriptAtRisk, ...] = Field(default=(), max_length=50)
    """Those with less than a week left, the most urgent first."""
    at_risk_total: int = 0
