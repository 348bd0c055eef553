"""Episodes: how they are written, read, searched, superseded and forgotten."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from anamnesis.contracts.base import Contract, EpisodeId, Moment, Name, Storable, Tag

MAX_SUMMARY = 20_000  # characters
MAX_RAW = 1_000_000  # characters
MAX_PLACE = 4096  # characters
MAX_TAGS = 64
MAX_BATCH = 500  # episodes in one request

Summary = Annotated[str, StringConstraints(min_length=1, max_length=MAX_SUMMARY, strip_whitespace=True), Storable]
Raw = Annotated[str, StringConstraints(max_length=MAX_RAW), Storable]
Place = Annotated[str, StringConstraints(max_length=MAX_PLACE), Storable]


class Trust(StrEnum):
    """Whose words an episode holds; a derived episode carries the lowest of its parts.

    Ordered from the most to the least trusted.
    """

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    WEB = "web"


class EpisodeSource(Contract):
    """Where an episode came from, precise enough to find it again."""

    kind: Name
    """`claude-code`, `api`, `file`, `document`, `chat`, ..."""
    path: Place | None = None
    url: Place | None = None
    session: Name | None = None
    """The conversation it belongs to; neighbours are looked up within it."""
    uuid: Name | None = None
    """The id of its first record at the origin."""
    position: int | None = Field(default=None, ge=0, lt=2**53)
    """Its place within the session: grows from one episode to the next, need not be dense."""
    parent: Name | None = None
    """The session that started this one (a subagent's parent)."""
    last_uuid: Name | None = None
    """The id of its last record at the origin; differs when an exchange has grown."""
    line: int | None = Field(default=None, ge=1, lt=2**53)
    """Of a part of a file: its first line."""
    last_line: int | None = Field(default=None, ge=1, lt=2**53)
    page: int | None = Field(default=None, ge=1, lt=2**53)
    """Of a part of a document with pages: the one that it begins on."""
    section: Place | None = None
    """Of a part of a file: the headings above it (`Install > Linux`), or the definition that it is (`Door.write`)."""


def _unique(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tags))


class EpisodeCreate(Contract):
    """What a writer sends. Without an id one is made; without a timestamp it is now."""

    episode_id: EpisodeId | None = None
    timestamp: Moment | None = None
    instance: Name
    """The machine or assistant that it happened on."""
    project: Name
    summary: Summary
    raw_exchange: Raw | None = None
    tags: tuple[Tag, ...] = Field(default=(), max_length=MAX_TAGS)
    source: EpisodeSource | None = None
    trust: Trust = Trust.USER

    _tags_once = field_validator("tags")(_unique)


class Episode(Contract):
    """An episode as it is kept."""

    episode_id: EpisodeId
    timestamp: Moment
    """Event time: when it happened."""
    ingested_at: Moment
    instance: Name
    project: Name
    summary: Summary
    raw_exchange: Raw | None = None
    tags: tuple[Tag, ...] = ()
    source: EpisodeSource
    trust: Trust = Trust.USER
    embedding_model: str | None = None
    """The model whose vectors are kept for it; none while they are missing."""
    content_hash: str
    """SHA-256 (hex) over summary and raw exchange, as stored (after redaction)."""
    retrieval_count: int = Field(default=0, ge=0, lt=2**53)
    last_retrieved: Moment | None = None
    superseded_by: EpisodeId | None = None
    consolidated_from: tuple[EpisodeId, ...] = ()


class EpisodePatch(Contract):
    """Fields to change; those left out stay. New text is redacted and embedded again."""

    timestamp: Moment | None = None
    instance: Name | None = None
    project: Name | None = None
    summary: Summary | None = None
    raw_exchange: Raw | None = None
    tags: tuple[Tag, ...] | None = Field(default=None, max_length=MAX_TAGS)
    trust: Trust | None = None

    _tags_once = field_validator("tags")(lambda tags: tags if tags is None else _unique(tags))


class EpisodePage(Contract):
    """One page of episodes, newest first, and how many there are in all."""

    episodes: tuple[Episode, ...]
    total: int


class EpisodeBatch(Contract):
    """Up to 500 episodes in one durable write."""

    episodes: tuple[EpisodeCreate, ...] = Field(min_length=1, max_length=MAX_BATCH)
    on_conflict: Literal["skip", "update"] = "skip"
    """What happens to an id that exists: leave it, or replace its text when that differs."""


class WriteStatus(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    DUPLICATE = "duplicate"
    """The id exists already (and was left or is the same), or the same content exists under `duplicate_of`."""
    BLOCKED = "blocked"
    """Its id or content was forgotten or deleted on purpose, and does not come back."""


class WriteResult(Contract):
    episode_id: str
    status: WriteStatus
    duplicate_of: str | None = None
    redactions: int = 0
    """Secrets that memory's door replaced in this episode."""


class BatchResult(Contract):
    results: tuple[WriteResult, ...]
    """One an episode, in the order they were sent."""


class RankingWeights(Contract):
    """What each term of a score counts (see `Reason`); those left out keep the shipped weight."""

    dense: float | None = Field(default=None, ge=0.0, le=10.0)
    opening: float | None = Field(default=None, ge=0.0, le=10.0)
    lexical: float | None = Field(default=None, ge=0.0, le=10.0)
    neighbours: float | None = Field(default=None, ge=0.0, le=10.0)
    trust: float | None = Field(default=None, ge=0.0, le=10.0)
    recency: float | None = Field(default=None, ge=0.0, le=10.0)
    unused: float | None = Field(default=None, ge=0.0, le=10.0)


class SearchRequest(Contract):
    """A question to the store. All filters apply before ranking."""

    query_text: Annotated[str, StringConstraints(min_length=1, max_length=10_000, strip_whitespace=True), Storable]
    top_k: int = Field(default=5, ge=1, le=100)
    project_filter: Name | None = None
    instance_filter: Name | None = None
    tag_filter: tuple[Tag, ...] = Field(default=(), max_length=MAX_TAGS)
    """An episode must carry all of them."""
    since: Moment | None = None
    """Event time at or after."""
    until: Moment | None = None
    """Event time before."""
    include_superseded: bool = False
    floor: float | None = Field(default=None, ge=0.0, le=1.0)
    """The relevance below which nothing is returned: none = the calibrated one, 0 = no floor."""
    token_budget: int | None = Field(default=None, ge=1, le=1_000_000)
    """At most so many tokens of summaries and raw exchanges (4 characters a token)."""
    explain: bool = False
    ranking: RankingWeights | None = None
    """Other weights for this search alone."""
    count: bool = True
    """Whether hits are counted as retrievals; false for evaluations and pages."""


class Reason(Contract):
    """One term of a score: `contribution` = weight x value, and the contributions add up to the score."""

    term: str
    value: float
    weight: float
    contribution: float


class SearchHit(Episode):
    score: float
    reasons: tuple[Reason, ...] | None = None


class SearchExplanation(Contract):
    """How the whole search was done."""

    model: str
    """The embedding model searched with."""
    lexical: str
    """`bm25`, `$search`, or why there was no lexical side."""
    relevance: float
    """The number that the floor is compared with."""
    floor: float
    considered: int
    """Candidates that were ranked."""
    dropped_by_budget: int


class SearchResponse(Contract):
    results: tuple[SearchHit, ...]
    abstained: bool
    """True when the best candidate lies below the floor: nothing relevant is remembered."""
    explanation: SearchExplanation | None = None


class SupersedeRequest(Contract):
    """`episode_ids` are replaced by `superseded_by`."""

    episode_ids: tuple[EpisodeId, ...] = Field(min_length=1, max_length=MAX_BATCH)
    superseded_by: EpisodeId


class UnsupersedeRequest(Contract):
    episode_ids: tuple[EpisodeId, ...] = Field(min_length=1, max_length=MAX_BATCH)


class Changed(Contract):
    """How many records a request changed."""

    changed: int


class Amendment(Contract):
    """A change of what is known about an episode. Its text and its vectors stay as they are."""

    episode_id: EpisodeId
    add_tags: tuple[Tag, ...] = Field(default=(), max_length=MAX_TAGS)
    remove_tags: tuple[Tag, ...] = Field(default=(), max_length=MAX_TAGS)
    path: Place | None = None
    """Where its file lies now; none = as before."""
    line: int | None = Field(default=None, ge=1, lt=2**53)
    """Where in the file it begins now; none = as before."""
    last_line: int | None = Field(default=None, ge=1, lt=2**53)


class AmendRequest(Contract):
    amendments: tuple[Amendment, ...] = Field(min_length=1, max_length=MAX_BATCH)


class Amended(Contract):
    episode_id: str
    found: bool
    """False where there is no such episode; then nothing was changed."""
    tags: tuple[str, ...] = ()
    """All of its tags afterwards, in order."""


class AmendResult(Contract):
    results: tuple[Amended, ...]
    """One an amendment, in the order they were sent."""


class CountBy(Contract):
    name: str
    episodes: int
    latest: Moment


class EpisodeStats(Contract):
    episodes: int
    superseded: int
    without_vectors: int
    """Episodes that the active embedding model has not embedded yet: found by words alone."""
    projects: tuple[CountBy, ...]
    instances: tuple[CountBy, ...]
    earliest: Moment | None
    latest: Moment | None
    bytes_on_disk: int | None


class ImportResult(Contract):
    created: int
    updated: int
    duplicates: int
    blocked: int
    refused: int
    """Lines that are no valid episode."""
    first_refusal: str | None
    """Line number and reason of the first refused line, never its text."""


class BlockedItem(Contract):
    """Something that must not come back: an id, a content hash, or both."""

    blocked_id: str
    episode_id: str | None
    content_hash: str | None
    reason: str
    blocked_at: Moment


class Blocklist(Contract):
    items: tuple[BlockedItem, ...]
    total: int


class ForgetProof(Contract):
    """Counts taken after the removal, from the store itself: nothing is left, and every block is stored."""

    by_id: int
    """Episodes of these ids; 0."""
    by_content: int
    """Episodes of any id and project that hold the same content; 0."""
    vectors: int
    """Vectors of these ids, by all embedding models; 0."""
    index: int
    """Episodes of these ids that the index which searches use still finds; 0."""
    blocklist: int
    """Entries of the receipt's `blocked` that are stored; all of them."""


class ForgetReceipt(Contract):
    """What forgetting an episode removed, and the proof that nothing is left."""

    episode_id: str
    content_hash: str
    forgotten_at: Moment
    episodes: tuple[str, ...]
    """The episode, all that hold the same content in whatever project, and all that were derived from them."""
    vectors: int
    """Vectors removed, over all embedding models."""
    blocked: tuple[str, ...]
    """Ids of the entries that keep it from coming back."""
    proof: ForgetProof


class EpisodeFilter(Contract):
    """Which episodes an export holds; fields are joined by and."""

    project_filter: Name | None = None
    instance_filter: Name | None = None
    tag_filter: tuple[Tag, ...] = Field(default=(), max_length=MAX_TAGS)
    since: Moment | None = None
    until: Moment | None = None
    include_superseded: bool = True
