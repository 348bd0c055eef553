"""The ingest service: what it reads, and how a run of it goes."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from anamnesis.contracts.base import Contract, Moment


class IngestState(StrEnum):
    IDLE = "idle"
    RUNNING = "running"
    FAILED = "failed"
    """The last run ended early; the next one goes on from what was acknowledged."""


class IngestRun(Contract):
    """One look at all transcripts, under way or over."""

    run_id: str
    state: Literal["running", "done", "failed", "stopped"]
    trigger: Literal["request", "schedule", "night"]
    started_at: Moment
    finished_at: Moment | None = None
    files: int = 0
    """Transcripts that were found."""
    files_changed: int = 0
    """Those with something new."""
    files_done: int = 0
    bytes: int = 0
    """Bytes to be read."""
    bytes_done: int = 0
    created: int = 0
    updated: int = 0
    """Exchanges that had grown."""
    duplicate: int = 0
    blocked: int = 0
    """Episodes that were deleted or forgotten on purpose and did not come back."""
    refused: int = 0
    """Episodes that memory would not take."""
    refusals: dict[str, str] = Field(default_factory=dict)
    """The first of them, each with the code of its refusal."""
    unreadable: int = 0
    """Lines that were no records."""
    replayed: int = 0
    """Records that stood in their file more than once and counted once."""
    removed: int = 0
    """Marks of files that are gone."""
    redactions: dict[str, int] = Field(default_factory=dict)
    """Secrets that were taken out, by kind."""
    decisions: dict[str, int] = Field(default_factory=dict)
    """Exchanges that were judged, by reason; `kept` became episodes."""
    errors: dict[str, int] = Field(default_factory=dict)
    """Files that could not be read, by reason."""
    eta_seconds: float | None = None
    error: str | None = None
    """Why the run ended early."""


class IngestRoot(Contract):
    path: str
    exists: bool


class IngestStatus(Contract):
    state: IngestState
    instance: str
    """Whose transcripts these are, as episodes name it."""
    poll_seconds: float
    """Seconds between two looks; 0 = only on request."""
    roots: tuple[IngestRoot, ...]
    current: IngestRun | None = None
    last: IngestRun | None = None
    """The last run that is over."""
    last_change: IngestRun | None = None
    """The last one that found something new, or failed."""


class IngestRequest(Contract):
    anew: bool = False
    """Read everything again, not only what is new; episodes stay the same ones."""


class IngestStarted(Contract):
    run: IngestRun
    started: bool
    """False when a run was under way already; that one is given."""


class TranscriptFile(Contract):
    """How far one transcript has been read."""

    path: str
    project: str | None = None
    """The directory that it lies in, which Claude Code names after the project's."""
    state: Literal["read", "behind", "unread"]
    size: int
    bytes_read: int
    modified_at: Moment
    days_left: float | None = None
    """Until Claude Code deletes it."""


class TranscriptFiles(Contract):
    files: tuple[TranscriptFile, ...]
    """The most urgent first: what is not read, by the days that are left, then the newest."""
    total: int
