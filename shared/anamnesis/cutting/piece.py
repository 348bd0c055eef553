"""A part of a text, and where it stands."""

from typing import NamedTuple


class Piece(NamedTuple):
    """A part of a text. Together the pieces of a text hold all of it that is not blank, in order."""

    text: str
    line: int
    """Its first line, from 1."""
    last_line: int
    section: str = ""
    """The headings above it (`Install > Linux`), or the definition that it is (`Door.write`); empty where unknown."""
    page: int | None = None
    """The page that it begins on, where the document has pages."""
