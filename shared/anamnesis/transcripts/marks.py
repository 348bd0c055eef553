"""How far a transcript has been read, and what was found in it: a small document per file.

A mark holds the file's identity (device, inode, size, time, fingerprints of its beginning and of
what was read last), the offset from which reading goes on, digests of the records before
it, and the weight of every exchange that was seen. The weights of all marks together are the
`Ledger`: an exchange is pushed only when it holds more records than any copy seen before, so a
shorter or older copy in a resumed session never replaces a longer one, and unchanged copies are not
sent at all.
"""

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from anamnesis.contracts.base import JsonObject
from anamnesis.transcripts.episodes import storable
from anamnesis.transcripts.exchanges import SEEN_BYTES

FORMAT = 2
"""Of the episodes that are made; files are read again when it has changed."""
FINGERPRINT = 4096
"""Bytes that a fingerprint covers at most."""


def short(episode_id: str) -> str:
    """A name for an episode in the ledger: the end of its id, which is a digest."""
    return episode_id[-16:]


@dataclass(frozen=True)
class Mark:
    """How far one file has been read."""

    path: str
    device: int
    inode: int
    size: int
    """Bytes of the file when it was read to its end; the offset while it has not been."""
    mtime_ns: int
    offset: int
    """Where reading goes on: the start of the last segment, always behind a newline."""
    read: int
    """Behind the last newline that was read."""
    head: str
    """Fingerprint of the first bytes, at most up to `read`."""
    tail: str
    """Fingerprint of the last bytes before `read`: also what lies between the offset and there must be unchanged."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """Records of every exchange that was seen, by its short name: of the longest copy, in whichever file."""
    seen: tuple[bytes, ...] = ()
    """Digests of the uuids of the records before the offset; see `exchanges`."""
    format: int = FORMAT

    def to_document(self) -> JsonObject:
        return {
            "path": storable(self.path),
            "device": str(self.device),
            "inode": str(self.inode),
            "size": self.size,
            "mtime_ns": str(self.mtime_ns),
            "offset": self.offset,
            "read": self.read,
            "head": self.head,
            "tail": self.tail,
            # One string: thousands of entries cost nothing to carry through JSON.
            "weights": " ".join(f"{name}={weight}" for name, weight in self.weights.items()),
            "seen": b64encode(b"".join(self.seen)).decode(),
            "format": self.format,
        }

    def without(self, names: Collection[str], before: "Mark | None") -> "Mark":
        """The mark as if these exchanges had not been seen since `before`."""
        known = before.weights if before is not None else {}
        kept = {name: weight for name, weight in self.weights.items() if name not in names}
        kept |= {name: known[name] for name in names if name in known}
        return replace(self, weights=kept)

    @classmethod
    def from_document(cls, document: JsonObject) -> "Mark | None":
        """The mark of a document; none when it is not one, so that the file is read anew."""
        try:
            weights = dict(entry.split("=") for entry in str(document["weights"]).split())
            seen = b64decode(str(document.get("seen", "")), validate=True)
            return cls(
                path=str(document["path"]),
                device=int(str(document["device"])),
                inode=int(str(document["inode"])),
                size=int(str(document["size"])),
                mtime_ns=int(str(document["mtime_ns"])),
                offset=int(str(document["offset"])),
                read=int(str(document["read"])),
                head=str(document["head"]),
                tail=str(document["tail"]),
                weights={name: int(weight) for name, weight in weights.items()},
                seen=tuple(seen[at : at + SEEN_BYTES] for at in range(0, len(seen), SEEN_BYTES)),
                format=int(str(document["format"])),
            )
        except (KeyError, ValueError):
            return None


class Ledger:
    """How many records the longest known copy of every exchange holds."""

    def __init__(self, marks: Iterable[Mark], *, again: bool = False) -> None:
        """With `again` every exchange is sent once more, by a copy that is no shorter than the longest."""
        self._longest: dict[str, int] = {}
        for mark in marks:
            if mark.format == FORMAT:
                for name, weight in mark.weights.items():
                    self._longest[name] = max(weight, self._longest.get(name, 0))
        self._again = set(self._longest) if again else set()

    def take(self, name: str, weight: int) -> bool:
        """Whether a copy is to be sent; it is known from now on."""
        known = self._longest.get(name, 0)
        if weight < known or (weight == known and name not in self._again):
            return False
        self._longest[name] = weight
        self._again.discard(name)
        return True

    def longest(self, name: str) -> int:
        return self._longest.get(name, 0)


def inherited(gone: Iterable[Mark], left: Mapping[str, Mark]) -> dict[str, Mark]:
    """The marks of files that hold shorter copies of what other files held, now with the longer weights.

    So a copy that is left when the original is deleted never takes its place.
    """
    longest = Ledger(gone)
    changed = {}
    for name, mark in left.items():
        more = {one: found for one, weight in mark.weights.items() if (found := longest.longest(one)) > weight}
        if more and mark.format == FORMAT:
            changed[name] = replace(mark, weights={**mark.weights, **more})
    return changed


def key(path: str) -> str:
    """The name of a file's document: paths can hold what no key may."""
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def fingerprint(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
