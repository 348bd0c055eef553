"""The crawler: which files it reads, how it goes, and what is known of each file.

Nothing is configured at first. A file is read where a source finds it below a root that the service may read, and
nothing forbids it; what may hold credentials is never read, whatever a configuration says.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from anamnesis.contracts.base import Contract, Moment, Name, Storable, Tag
from anamnesis.contracts.episodes import MAX_TAGS, Place

MAX_ROOTS = 100
MAX_SOURCES = 200
MAX_GLOBS = 200
EXTENSIONS = (".ino", ".cpp", ".h", ".groovy", ".py", ".sh", ".js", ".ts", ".md", ".yml")
DOCUMENTS = (".docx", ".pdf", ".html", ".md", ".txt")

Glob = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True), Storable]
"""As in .gitignore: `*` within a name, `**` over directories; relative to the source's root."""
Extension = Annotated[str, StringConstraints(pattern=r"^\.[A-Za-z0-9_+-]{1,20}$", to_lower=True)]


class SourceKind(StrEnum):
    NAMED = "named"
    """Files by globs: CLAUDE.md, handoffs, histories, notes."""
    DOCKER = "docker"
    """Projects with a Compose file or a Dockerfile: CLAUDE.md, README.md, *.py and *.sh at their root."""
    DEEP = "deep"
    """Projects by the names of their directories (`0_*`), wherever they lie; all of their files."""
    SCRIPTS = "scripts"
    """Scripts directly in a directory: *.sh, *.py and the like."""
    TEACHINGS = "teachings"
    """What a person wrote down for assistants to follow: Markdown and text, with the trust of a user's words."""
    DOCUMENTS = "documents"
    """.docx, .pdf, .html, .md and .txt, tagged by patterns."""


class MachineRoot(Contract):
    """A directory that holds the files of one machine: its own, or where another's are mounted."""

    instance: Name
    """The machine, as its episodes name it."""
    path: Place
    """Absolute."""


class Source(Contract):
    """Some files, and how they are remembered. A field that is left out follows the kind, then the configuration."""

    name: Name
    """Unique; part of what is known of its files."""
    kind: SourceKind
    enabled: bool = True
    root: Place | None = None
    """Where to look: absolute, or relative to every machine root; none = the machine roots themselves."""
    globs: tuple[Glob, ...] = Field(default=(), max_length=MAX_GLOBS)
    """Files that are meant; of kind `deep` the names of the directories."""
    excludes: tuple[Glob, ...] = Field(default=(), max_length=MAX_GLOBS)
    extensions: tuple[Extension, ...] | None = Field(default=None, max_length=MAX_GLOBS)
    max_bytes: int | None = Field(default=None, ge=1, le=50 << 20)
    tags: tuple[Tag, ...] = Field(default=(), max_length=MAX_TAGS)
    project: Name | None = None
    """None = the name of the Git repository, else of the project's directory, that a file lies in."""
    gitignore: bool = True
    """Leave out what Git leaves out."""


class CrawlerConfig(Contract):
    machine_roots: tuple[MachineRoot, ...] = Field(default=(), max_length=MAX_ROOTS)
    sources: tuple[Source, ...] = Field(default=(), max_length=MAX_SOURCES)
    excludes: tuple[Glob, ...] = Field(default=(), max_length=MAX_GLOBS)
    """Beside what is always left out: version control, packages, builds, archives, binaries, locks, credentials."""
    extensions: tuple[Extension, ...] = Field(default=EXTENSIONS, max_length=MAX_GLOBS)
    max_bytes: int = Field(default=64 << 10, ge=1, le=50 << 20)
    """Of a text file; longer ones are left out, and counted."""
    max_document_bytes: int = Field(default=20 << 20, ge=1, le=50 << 20)
    scan_seconds: float = Field(default=300.0, ge=0, le=86_400)
    """Between two scans; 0 = only on request."""
    watch: bool = True
    """Also read what changes at once, where the file system tells."""


class CrawlerConfigured(Contract):
    """The configuration as it stands. Write over a version to be sure that nobody wrote meanwhile."""

    config: CrawlerConfig
    version: int
    """0 = never set."""
    allowed: tuple[str, ...]
    """Directories that may be read (ANAMNESIS_SOURCES); roots lie within."""
    warnings: tuple[str, ...] = ()
    """What of it finds nothing at present: directories that do not exist."""


class MachineRoots(Contract):
    machine_roots: tuple[MachineRoot, ...] = Field(max_length=MAX_ROOTS)


class Sources(Contract):
    sources: tuple[Source, ...] = Field(max_length=MAX_SOURCES)


class TagPattern(Contract):
    """Tags for documents whose name or content holds something."""

    pattern: Annotated[str, StringConstraints(min_length=1, max_length=500), Storable]
    syntax: Literal["plain", "regex"] = "plain"
    """Letters count the same in upper and lower case in both."""
    where: Literal["name", "content", "both"] = "both"
    tags: tuple[Tag, ...] = Field(min_length=1, max_length=MAX_TAGS)


class TagPatterns(Contract):
    patterns: tuple[TagPattern, ...] = Field(default=(), max_length=200)


class TagPatternsConfigured(TagPatterns):
    """The patterns as they stand. Write over a version to be sure that nobody wrote meanwhile."""

    version: int
    """0 = never set."""


class CrawlRun(Contract):
    """One scan, under way or over."""

    run_id: str
    state: Literal["running", "done", "failed", "stopped"]
    trigger: Literal["request", "schedule", "watch", "night"]
    started_at: Moment
    finished_at: Moment | None = None
    files: int = 0
    """Files that are meant."""
    files_changed: int = 0
    """New ones and changed ones."""
    files_done: int = 0
    renamed: int = 0
    deleted: int = 0
    created: int = 0
    """Episodes."""
    superseded: int = 0
    duplicate: int = 0
    blocked: int = 0
    refused: int = 0
    redactions: dict[str, int] = Field(default_factory=dict)
    """Secrets that were taken out, by kind."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """Files that were found and not read, by reason: too large, binary, ignored, ..."""
    errors: dict[str, int] = Field(default_factory=dict)
    """Files that could not be read, by reason."""
    examples: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The first of them, by reason."""
    eta_seconds: float | None = None
    error: str | None = None
    """Why the run ended early."""


class SourceState(Contract):
    name: str
    kind: SourceKind
    enabled: bool
    files: int = 0
    """Files that are known."""
    error: str | None = None
    """Why it could not be looked at as a whole."""


class CrawlerStatus(Contract):
    state: Literal["off", "idle", "running", "failed"]
    """`off`: no source is configured."""
    watching: bool = False
    """Whether the file system tells of changes; else the scans find them."""
    watch_error: str | None = None
    next_scan: Moment | None = None
    held_by: str | None = None
    """Another instance of this service that has the lease and scans."""
    error: str | None = None
    """Why no scan can begin at present: the configuration cannot be read, or another instance scans."""
    sources: tuple[SourceState, ...] = ()
    current: CrawlRun | None = None
    last: CrawlRun | None = None
    last_change: CrawlRun | None = None
    """The last one that found something new, or failed."""


class CrawlStarted(Contract):
    run: CrawlRun
    started: bool
    """False when a run was under way already; that one is given."""


class CrawledFile(Contract):
    """What is known of one file."""

    path: str
    source: str
    instance: str
    project: str
    state: Literal["read", "deleted", "error"]
    size: int
    modified_at: Moment
    read_at: Moment | None = None
    episodes: int = 0
    reason: str | None = None
    """Why it could not be read."""


class CrawledFiles(Contract):
    files: tuple[CrawledFile, ...]
    """By path."""
    total: int


class PreviewRequest(Contract):
    """What a source would read, without reading it."""

    source: Source
    machine_roots: tuple[MachineRoot, ...] | None = Field(default=None, max_length=MAX_ROOTS)
    """None = those of the configuration."""


class Preview(Contract):
    files: int
    bytes: int
    examples: tuple[str, ...] = Field(default=(), max_length=20)
    left_out: dict[str, int] = Field(default_factory=dict)
    complete: bool = True
    """False where time ended before all was seen."""
    errors: dict[str, int] = Field(default_factory=dict)
