"""How far a transcript has been read, and what was found in it: a small document per file.

A mark holds the file's identity (device, inode, size, time, fingerprints of its beginning and of
what stands before the offset), the offset from which reading goes on, digests of the records before
it, and the weight of every exchange that was seen. The weights of all marks together are the ledger: an exchange is pushed only
when it holds more records than any copy seen before, so a shorter or older copy in a resumed
session never replaces a longer one, and unchanged copies are not sent at all.
"""

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

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
    head: str
    """Fingerprint of the first bytes, at most up to the offset."""
    tail: str
    """Fingerprint of the last bytes before the offset."""
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
            "head": self.head,
            "tail": self.tail,
            # One string: thousands of entries cost nothing to carry through JSON.
            "weights": " ".join(f"{name}={weight}" for name, weight in self.weights.items()),
            "seen": b64encode(b"".join(self.seen)).decode(),
            "format": self.format,
        }

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
                head=str(document["head"]),
                tail=str(document["tail"]),
                weights={name: int(weight) for name, weight in weights.items()},
                seen=tuple(seen[at : at + SEEN_BYTES] for at in range(0, len(seen), SEEN_BYTES)),
                format=int(str(document["format"])),
            )
        except (KeyError, ValueError):
            return None


def key(path: str) -> str:
    """The name of a file's document: paths can hold what no key may."""
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def fingerprint(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
