"""What is known of every crawled file: its stamp, its content, the episodes that hold it, and those still to be let go.

A mark is small, since there may be tens of thousands; they are kept in memory as documents, one a directory (a large
directory has several). `past` is the journal: before anything is done to an episode on behalf of a file, the file's
mark names it there, and it stays until the file either holds it or has let it go. So a run that is killed at any point
leaves behind what the next one needs to end it.

Two processes must not share marks: each would write what it knows over what the other has learnt. Every reader has a
namespace of its own (`anamnesis.destination.namespace`), and whoever runs one of them twice sees to that with a lease.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pydantic import JsonValue

from anamnesis.contracts.base import JsonObject

FORMAT = 1
"""Of the episodes that are made: files are read again when it has changed, and their episodes replaced."""
FILES = 256
WEIGHT = 1 << 20
"""Of one document, files and characters at most: whatever of them changes, it is written as a whole."""
_OWN = "~"


class Stamp(NamedTuple):
    """What shows that a file has changed without opening it."""

    device: int
    inode: int
    size: int
    mtime_ns: int


NEVER = Stamp(0, 0, -1, 0)
"""Of a file that is to be read again whatever it looks like."""


class Held(NamedTuple):
    """A part of a file, as an episode holds it."""

    episode_id: str
    """Empty where memory keeps it out (it was forgotten) or would not take it."""
    section: str
    """A digest of its section's name."""
    line: int
    last_line: int


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """What is known of one file."""

    path: str
    source: str
    instance: str
    project: str
    stamp: Stamp
    identity: str
    """Of the content and how it was read; empty where it never was."""
    held: str
    """The episodes of its parts in order, packed; see `parts`."""
    past: str = ""
    """Episodes to be let go, packed the same way."""
    read_at: int = 0
    """Seconds since the epoch."""
    reason: str = ""
    """Why it could not be read as it is now; then `identity` and `held` are of what it was before."""
    bucket: int = 0
    """Which document of its directory it is in."""

    @property
    def parts(self) -> list[Held]:
        return unpack(self.held, self.identity)

    @property
    def leaving(self) -> list[Held]:
        return unpack(self.past, "")


def episode_id(identity: str, place: int) -> str:
    """Of a part of a content: the same wherever a file with that content lies."""
    return f"ep_file_{identity}_{place}"


def identity_of(digest: bytes, how: str) -> str:
    """What a file says: its bytes (by their SHA-256) and how they are read and cut, which its name decides."""
    return hashlib.sha256(digest + f"\0{how}\0{FORMAT}".encode("utf-8", "surrogateescape")).hexdigest()[:24]


def section_of(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8] if name else ""


def pack(parts: Iterable[Held], identity: str = "") -> str:
    """One short string: what parts of the file's own content are called need not be said."""
    packed = []
    for place, one in enumerate(parts):
        name = _OWN if identity and one.episode_id == episode_id(identity, place) else one.episode_id
        packed.append(f"{name},{one.section},{one.line},{one.last_line}")
    return " ".join(packed)


def unpack(packed: str, identity: str) -> list[Held]:
    parts = []
    for place, entry in enumerate(packed.split()):
        name, section, line, last_line = entry.split(",")
        parts.append(Held(episode_id(identity, place) if name == _OWN else name, section, int(line), int(last_line)))
    return parts


@dataclass(slots=True)
class _Bucket:
    """What one document holds: marks by the names of their files."""

    marks: dict[str, Mark] = field(default_factory=dict)
    weight: int = 0

    @property
    def full(self) -> bool:
        return len(self.marks) >= FILES or self.weight >= WEIGHT


class Marks:
    """All marks of one reader, found by path and by the contents that they hold.

    What changes is remembered until `changes` hands it out as documents to be written.
    """

    def __init__(self, documents: Iterable[JsonObject] = ()) -> None:
        self._buckets: dict[tuple[str, int], _Bucket] = {}
        """By directory and number; the numbers of a directory have no gaps."""
        self._holders: dict[str, list[Mark]] = {}
        """Stem of episode ids (see `_stem`) -> the marks that hold some of those."""
        self._unsettled: dict[str, None] = {}
        """Paths of marks with a past."""
        self._changed: dict[tuple[str, int], None] = {}
        for document in documents:
            for mark in _read(document):
                self._load(mark)

    def __iter__(self) -> Iterator[Mark]:
        for bucket in self._buckets.values():
            yield from bucket.marks.values()

    def __len__(self) -> int:
        return sum(len(bucket.marks) for bucket in self._buckets.values())

    def get(self, path: str) -> Mark | None:
        directory, _, name = path.rpartition("/")
        number = 0
        while (bucket := self._buckets.get((directory, number))) is not None:
            if name in bucket.marks:
                return bucket.marks[name]
            number += 1
        return None

    def put(self, mark: Mark) -> None:
        """Add a mark, or replace the one of the same path."""
        directory = mark.path.rpartition("/")[0]
        before = self.get(mark.path)
        if before is not None and self._buckets[directory, before.bucket].weight < WEIGHT:
            number = before.bucket
        else:
            number = 0
            while (bucket := self._buckets.get((directory, number))) is not None and bucket.full:
                number += 1
        self._changed[directory, number] = None  # first: of two documents the one that has it is written first
        if before is not None:
            self.remove(mark.path)
        self._add(mark if mark.bucket == number else replace(mark, bucket=number))

    def remove(self, path: str) -> None:
        mark = self.get(path)
        if mark is None:
            return
        directory, _, name = path.rpartition("/")
        bucket = self._buckets[directory, mark.bucket]
        del bucket.marks[name]
        bucket.weight -= _weight(mark)
        for stem in _stems(mark):
            left = self._holders[stem]
            left.remove(mark)
            if not left:
                del self._holders[stem]
        self._unsettled.pop(path, None)
        self._changed[directory, mark.bucket] = None

    def holding(self, episode_id: str) -> list[Mark]:
        """The marks of files that hold an episode."""
        return [
            mark
            for mark in self._holders.get(_stem(episode_id), ())
            if any(one.episode_id == episode_id for one in mark.parts)
        ]

    def with_identity(self, identity: str) -> Mark | None:
        """The mark of a file with that content."""
        return next((mark for mark in self._holders.get(identity, ()) if mark.identity == identity), None)

    def unsettled(self) -> list[Mark]:
        """Marks of files with episodes to let go."""
        return [mark for path in self._unsettled if (mark := self.get(path)) is not None]

    def changes(self) -> tuple[dict[str, JsonObject], list[str]]:
        """The documents that have changed since this was last asked, by key, and the keys of those that are empty."""
        written: dict[str, JsonObject] = {}
        empty: list[str] = []
        for directory, number in self._changed:
            key = hashlib.sha256(f"{directory}\0{number}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
            bucket = self._buckets.get((directory, number), _Bucket())
            if bucket.marks:
                written[key] = _document(directory, number, bucket.marks)
            else:
                empty.append(key)
        self._changed.clear()
        return written, empty

    def _load(self, mark: Mark) -> None:
        present = self.get(mark.path)
        if present is not None:  # a write of two documents ended between them
            older, newer = sorted((present, mark), key=lambda one: one.read_at)
            self.remove(mark.path)
            mark = replace(newer, past=f"{newer.past} {older.past}".strip())
            self._changed.clear()
        self._add(mark)

    def _add(self, mark: Mark) -> None:
        directory, _, name = mark.path.rpartition("/")
        for number in range(mark.bucket + 1):
            self._buckets.setdefault((directory, number), _Bucket())
        bucket = self._buckets[directory, mark.bucket]
        bucket.marks[name] = mark
        bucket.weight += _weight(mark)
        for stem in _stems(mark):
            self._holders.setdefault(stem, []).append(mark)
        if mark.past:
            self._unsettled[mark.path] = None


def _weight(mark: Mark) -> int:
    return len(mark.held) + len(mark.past)


def _stem(episode_id: str) -> str:
    """What the episodes of one content have in common."""
    return episode_id.removeprefix("ep_file_").rpartition("_")[0] if episode_id.startswith("ep_file_") else episode_id


def _stems(mark: Mark) -> set[str]:
    if not mark.held:
        return set()
    return {mark.identity} | {_stem(one.episode_id) for one in mark.parts if one.episode_id}


def _document(directory: str, number: int, marks: Mapping[str, Mark]) -> JsonObject:
    return {
        "directory": _written(directory),
        "number": number,
        "format": FORMAT,
        "files": {
            _written(name): [
                mark.source,
                mark.instance,
                mark.project,
                " ".join(map(str, mark.stamp)),
                mark.identity,
                mark.held,
                mark.past,
                mark.read_at,
                mark.reason,
            ]
            for name, mark in marks.items()
        },
    }


def _read(document: JsonObject) -> Iterator[Mark]:
    """The marks of a document; what is none is left out, so that its file is read anew."""
    files = document.get("files")
    if not isinstance(files, dict):
        return
    try:
        directory, number = _unwritten(str(document["directory"])), int(str(document["number"]))
        current = int(str(document["format"])) == FORMAT
    except (KeyError, ValueError):
        return
    for name, entry in files.items():
        try:
            source, instance, project, stamp, identity, held, past, read_at, reason = cast("list[JsonValue]", entry)
            device, inode, size, mtime_ns = map(int, str(stamp).split())
            mark = Mark(
                path=sys.intern(directory) + "/" + _unwritten(name),
                source=sys.intern(str(source)),
                instance=sys.intern(str(instance)),
                project=sys.intern(str(project)),
                stamp=Stamp(device, inode, size, mtime_ns) if current else NEVER,
                identity=str(identity),
                held=str(held),
                past=str(past),
                read_at=int(str(read_at)),
                reason=str(reason),
                bucket=number,
            )
            unpack(mark.held, mark.identity), unpack(mark.past, "")
        except (TypeError, ValueError):
            continue
        yield mark


def _written(path: str) -> str:
    """A path as text that every store takes; names may hold bytes that are no UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "//" + quote_from_bytes(path.encode("utf-8", "surrogateescape"))
    return path


def _unwritten(text: str) -> str:
    if text.startswith("//"):
        return unquote_to_bytes(text[2:]).decode("utf-8", "surrogateescape")
    return text
