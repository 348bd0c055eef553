"""A piece of text to be replaced, and what all finders agree on.

Finders work on `flat`: the text as ASCII bytes, one byte a character (anything else is `?`), so
that scanning runs at the speed of bytes and offsets are those of the text.
"""

from typing import NamedTuple


class Span(NamedTuple):
    start: int
    end: int
    kind: str


BOUNDARY = rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
"""Where a token may begin: not inside a word, but right after an escaped newline or tab."""

MARK = b"[REDACTED:"
