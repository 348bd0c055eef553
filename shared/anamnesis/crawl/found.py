"""A file that a source means, as the directories show it."""

from typing import NamedTuple

from anamnesis.contracts.episodes import Trust


class Found(NamedTuple):
    """A file that is to be known. Nothing of it has been opened."""

    path: str
    """Absolute, as the operating system gives it (surrogates stand for bytes that are no UTF-8)."""
    root: str
    """The real path of the root that it must lie below."""
    relative: str
    """Its path within the project, `/` between parts: what a person calls it."""
    instance: str
    project: str
    source: str
    """The name of the source that means it."""
    tags: tuple[str, ...]
    trust: Trust
    document: bool
    """Whether it is read as a document (`anamnesis.documents`) rather than as text."""
    device: int
    inode: int
    size: int
    mtime_ns: int
