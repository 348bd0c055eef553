"""Documents that are handed in: uploaded, or fetched from an address."""

from typing import Annotated

from pydantic import Field, StringConstraints

from anamnesis.contracts.base import Contract, Name, Storable, Tag
from anamnesis.contracts.episodes import MAX_TAGS

MAX_UPLOAD = 50 << 20  # bytes

Url = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True), Storable]


class IngestUrl(Contract):
    """One document to fetch. The episodes have the trust `web`."""

    url: Url
    project: Name
    tags: tuple[Tag, ...] = Field(default=(), max_length=MAX_TAGS - 1)
    """Beside that of all documents."""


class DocumentIngested(Contract):
    """What became of a document. Handing it in again changes nothing."""

    name: str
    kind: str
    """docx, pdf, md, txt or html."""
    title: str
    pages: int | None = None
    """None where the kind has none."""
    characters: int
    """Of text that was found."""
    truncated: bool = False
    """Whether a limit ended the reading before the document did."""
    episodes: tuple[str, ...]
    """Ids of its parts, in their order."""
    created: int
    duplicate: int
    blocked: int
    redactions: int
