"""What a store must do, and the values that go in and out of it.

A store keeps episodes, the vectors of their windows per embedding model, and small state
documents (settings, offsets, leases, keys, blocklist, chats). It knows nothing of HTTP, of redaction or
of how text becomes vectors; `services.memory.search` decides how candidates are ranked.

Every write is durable when its coroutine returns: a kill -9 afterwards loses nothing.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.episodes import (
    Amended,
    Amendment,
    Episode,
    EpisodeFilter,
    EpisodeStats,
    ForgetProof,
    SearchRequest,
)
from anamnesis.contracts.insight import Bucket, TimelinePoint

Vector = NDArray[np.float32]
"""(d): one vector of unit length."""

Vectors = NDArray[np.float32]
"""(w d): the unit-length vectors of an episode's w windows."""


@dataclass(frozen=True)
class Filter:
    """Which episodes are meant. Fields are joined by and; none means any."""

    project: str | None = None
    instance: str | None = None
    tags: tuple[str, ...] = ()
    """All of them."""
    since: datetime | None = None
    """Event time at or after."""
    until: datetime | None = None
    """Event time before."""
    include_superseded: bool = True

    @classmethod
    def of(cls, asked: SearchRequest | EpisodeFilter) -> "Filter":
        """The filter that a request names."""
        return cls(
            project=asked.project_filter,
            instance=asked.instance_filter,
            tags=asked.tag_filter,
            since=asked.since,
            until=asked.until,
            include_superseded=asked.include_superseded,
        )


class Record(NamedTuple):
    """An episode on its way in, with what has been computed from its text."""

    episode: Episode
    vectors: Vectors | None
    """By `episode.embedding_model`; none = without vectors, found by words alone."""
    terms: Mapping[str, int]
    """Lexical terms and how often each occurs (see `search.text.terms`)."""


class Inserted(NamedTuple):
    """What became of one record: `duplicate_of` is the id that stands in its way, if one does."""

    created: bool
    duplicate_of: str | None = None


class Joining(NamedTuple):
    """An episode that is to stand for others."""

    record: Record
    members: Mapping[str, str]
    """Episode id -> the content hash that it must still have."""


class Candidate(NamedTuple):
    """One episode that may answer a question, with what ranking needs to know of it."""

    episode_id: str
    dense: float | None
    """Cosine of the question and the episode's best window; none = has no vectors, or not computed."""
    lexical: float | None
    """BM25 (or the store's own lexical score); 0 = shares no word; none = no lexical side."""
    session: str | None
    position: int | None
    timestamp: float
    """Event time, seconds since the epoch."""
    trust: str
    superseded: bool
    opening: float | None = None
    """Cosine of the question and the episode's first window, which holds its summary; none = not computed."""


class CandidateQuery(NamedTuple):
    model: str
    vector: Vector
    """(d): the question, unit length."""
    terms: tuple[str, ...]
    """The question's lexical terms."""
    where: Filter
    limit: int
    """The best so many by each side, joined; then their neighbours in session."""


class Candidates(NamedTuple):
    found: list[Candidate]
    """The best by meaning, the best by words, and the neighbours in session of both, each once, no order."""
    lexical: str
    """`bm25`, `$search`, or why there was no lexical side."""
    ceiling: float | None = None
    """What BM25 could reach for this question at most: the sum of idf x (k1 + 1) over all its terms, those that no
    episode holds included (df = 0); none = not known."""


class Openings(NamedTuple):
    """The first windows of some episodes, the newest episode first (ties by id)."""

    total: int
    """Episodes that match and have vectors, of which these are the newest."""
    episode_ids: list[str]
    projects: list[str]
    vectors: Vectors
    """(n d)"""


class Document(NamedTuple):
    """A state document and its version, which grows by one with every write."""

    key: str
    value: JsonObject
    version: int


class Edit(NamedTuple):
    """One state document to write or to delete, as a part of several that change together."""

    kind: str
    key: str
    value: JsonObject | None
    """None = it goes."""
    expect: int | None = None
    """The version that it must have (0 = must not exist); none = any."""


SCAN_BYTES = 4 << 20
"""Text after which a scan ends a batch, and a list with a limit its page, however few records hold it."""

IN_A_CIRCLE = "these supersede the episode that is to supersede them; make that one current first"

BLOCKLIST = "blocklist"
"""The kind of state document that `Removal.block` makes."""

USEFULNESS = "usefulness"
"""The kind of state document that counts the use of an episode, by its id; it goes with the episode."""


@dataclass(frozen=True)
class Removal:
    """What to remove for good in one write, and what to put on the blocklist with it."""

    episode_ids: tuple[str, ...]
    block: Mapping[str, JsonObject] = field(default_factory=dict)
    """Blocklist key -> document."""


class Store(Protocol):
    """Holds everything that must outlive the process.

    Raises `anamnesis.kit.errors.Unavailable` when the database cannot be reached in time, and
    `StorageFull` when it has no room; nothing is half-written in either case.
    """

    async def open(self) -> None:
        """Connect, migrate, create indexes and wait until they can be searched."""

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Raise `Unavailable` unless a read works now."""

    # Episodes ---------------------------------------------------------------------------------

    async def insert(self, records: Sequence[Record]) -> list[Inserted]:
        """Add records, each once, in one durable write.

        A record whose id exists, or whose content hash exists in the same project, is left out
        and named in `duplicate_of`. The same holds between records of one call.
        """

    async def replace(self, records: Sequence[Record]) -> list[bool]:
        """Replace records by id, text and vectors together; false where the id does not exist.

        `retrieval_count`, `last_retrieved`, `superseded_by` and `ingested_at` stay as they are.
        Vectors of other embedding models are dropped, as they belong to the old text.
        """

    async def amend(self, amendments: Sequence[Amendment]) -> list[Amended]:
        """Change tags and places in the source in one durable write, in order; see `amending`.

        Text, vectors, content hash and counters stay. Raises `Invalid`, with nothing changed, where an episode would
        have too many tags.
        """

    async def join(self, joinings: Sequence[Joining]) -> list[bool]:
        """Add each record and mark its members as superseded by it; each in one durable write, whole or not at all.

        False where the id or the content exists, or where a member is gone, is superseded or has another text.
        """

    async def get(self, episode_ids: Sequence[str]) -> dict[str, Episode]:
        """Those that exist, by id."""

    async def find_content(self, hashes: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """(project, content hash) -> episode id, for those that exist."""

    async def holding(self, hashes: Sequence[str]) -> list[str]:
        """Ids of all episodes whose content has one of these hashes, in any project, in order."""

    async def page(self, where: Filter, skip: int, limit: int) -> tuple[list[Episode], int]:
        """Newest first by event time (ties by id), and the total count."""

    def scan(self, where: Filter, batch: int = 500) -> AsyncIterator[list[Episode]]:
        """All that match, in order of id, in batches of at most about `SCAN_BYTES`; memory stays flat."""

    async def vectors(self, model: str, episode_ids: Sequence[str]) -> dict[str, Vectors]:
        """The vectors of those that have them."""

    async def remove(self, removal: Removal) -> tuple[int, int]:
        """Remove episodes with their vectors (all models) and add to the blocklist, in one write.

        Returns how many episodes and how many vectors went. Episodes that were superseded by a
        removed one are no longer superseded. Their documents of the kind `USEFULNESS` go too.
        """

    async def proof(self, episode_ids: Sequence[str], hashes: Sequence[str], blocked: Sequence[str]) -> ForgetProof:
        """Count what is left of these ids and content hashes, read from the database and the index of searches
        themselves, and how many of these entries of the blocklist are stored.
        """

    async def derived(self, episode_id: str) -> list[str]:
        """Ids of all episodes consolidated from this one, directly or through others."""

    async def supersede(self, episode_ids: Sequence[str], by: str | None) -> int:
        """Mark as superseded (or, with none, as current again); returns how many changed.

        Raises `NotFound` when `by` does not exist, and `Conflict` when one of these supersedes it, directly or
        through others: in a circle none would ever be found.
        """

    async def superseded_by(self, episode_id: str) -> list[str]:
        """Ids of all episodes that this one supersedes, in order."""

    async def record_hits(self, hits: Mapping[str, int], at: datetime) -> None:
        """Add to `retrieval_count` and set `last_retrieved`, for a batch of searches at once."""

    async def stats(self, model: str) -> EpisodeStats:
        """Counts; `without_vectors` is meant for this embedding model."""

    async def timeline(self, where: Filter, bucket: Bucket, limit: int) -> list[TimelinePoint]:
        """Episodes by bucket of event time (UTC), project and instance, in this order; the first so many points."""

    async def openings(self, model: str, where: Filter, limit: int) -> Openings:
        """The vectors of first windows, of the newest so many episodes that match and have vectors of the model."""

    # Search -----------------------------------------------------------------------------------

    async def candidates(self, query: CandidateQuery) -> Candidates:
        """All sides of a search under one filter, applied before anything is ranked.

        Superseded episodes are filtered like any other when `where` says so. Writes that were
        acknowledged before the call are seen. Only vectors of `query.model` take part.
        """

    # Re-embedding -----------------------------------------------------------------------------

    async def missing(self, model: str, limit: int) -> list[Episode]:
        """Up to `limit` episodes without vectors of this model, in order of id."""

    async def count_missing(self, model: str) -> int: ...

    async def put_vectors(self, model: str, items: Mapping[str, tuple[str, Vectors]]) -> None:
        """Episode id -> (content hash it was made from, vectors); durable, each episode whole.

        An episode whose content hash has changed since, or that is gone, is left out.
        """

    async def prepare(self, model: str, dimension: int) -> None:
        """Make room for a model's vectors (an index, where the store needs one); idempotent."""

    async def activate(self, model: str) -> None:
        """Make ready to search by this model at once: load or await its index. Old vectors stay."""

    async def drop_vectors(self, model: str) -> int:
        """Remove all vectors of a model that is no longer searched with; returns how many."""

    # State documents --------------------------------------------------------------------------

    async def read(self, kind: str, key: str) -> Document | None: ...

    async def read_many(self, kind: str, keys: Sequence[str]) -> list[Document]:
        """Those that exist, in order of key."""

    async def write(self, kind: str, key: str, value: JsonObject, expect: int | None = None) -> int | None:
        """Write a document; returns its new version.

        With `expect` only if the present version is that one (0 = must not exist), else None.
        """

    async def write_many(self, kind: str, values: Mapping[str, JsonObject]) -> None:
        """Write several documents of a kind in one durable write."""

    async def edit(self, edits: Sequence[Edit]) -> bool:
        """Write and delete documents of any kinds in one durable write, each named once.

        All of them, or none where one has not the version that is expected: false.
        """

    async def list(
        self,
        kind: str,
        prefix: str = "",
        *,
        after: str | None = None,
        skip: int = 0,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[Document]:
        """Documents of a kind whose key begins with `prefix`, in order of key, or backwards with `reverse`.

        `after`: those that come behind this key in that order, which need not exist. With a `limit` at most so
        many, and no more once they hold about `SCAN_BYTES`, so that a page fits into memory: whoever wants all of
        them asks again behind the last one until there are none.
        """

    async def count(self, kind: str, prefix: str = "") -> int:
        """How many documents of a kind have a key that begins with `prefix`."""

    async def delete(self, kind: str, key: str) -> bool: ...
