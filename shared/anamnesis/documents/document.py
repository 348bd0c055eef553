"""A document as text: its title and its sections, each with the headings above it and its page."""

from enum import StrEnum
from typing import NamedTuple


class DocumentKind(StrEnum):
    DOCX = "docx"
    PDF = "pdf"
    HTML = "html"
    MD = "md"
    TXT = "txt"


_KINDS = {
    ".docx": DocumentKind.DOCX,
    ".pdf": DocumentKind.PDF,
    ".html": DocumentKind.HTML,
    ".htm": DocumentKind.HTML,
    ".md": DocumentKind.MD,
    ".markdown": DocumentKind.MD,
    ".txt": DocumentKind.TXT,
}


class Section(NamedTuple):
    """A run of text below one heading, on one page."""

    text: str
    headings: tuple[str, ...] = ()
    """From the outermost to the innermost."""
    page: int | None = None
    """From 1; none where the kind has no pages."""


class Document(NamedTuple):
    kind: DocumentKind
    title: str
    """Its own, else its first heading, else empty."""
    sections: tuple[Section, ...]
    pages: int | None = None
    truncated: bool = False
    """Whether a limit ended the reading before the document did."""


class DocumentRefused(Exception):
    """A document cannot be read; `reason` is one of a small set, the message says what to do about it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def kind_of(name: str) -> DocumentKind | None:
    """What a file is, by its name; none = it is no document that can be read."""
    dot = name.rfind(".")
    return _KINDS.get(name[dot:].lower()) if dot >= 0 else None
