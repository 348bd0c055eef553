"""Markdown at its headings: which lines are headings, and the path of headings above each section."""

import re
from collections.abc import Iterator

from anamnesis.cutting.spans import Path, Span

DEPTH = 6
TITLE = 120  # characters of a heading that are kept

_LINE = re.compile(r"[^\n]*\n?")
_ATX = re.compile(r" {0,3}(#{1,6})(?![^ \t\r\n])")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_NO_PARAGRAPH = re.compile(r"\s*$| {0,3}(?:[>|]|[-*+](?:\s|$)|\d{1,9}[.)]\s|<)|(?: {4}|\t)")
"""Lines that a row of `=` or `-` does not make a heading of: blank, quoted, in a list or table, code, HTML."""


class _Heading:
    __slots__ = ("level", "start", "text", "until")

    def __init__(self, start: int, until: int, level: int, text: str) -> None:
        self.start, self.until, self.level, self.text = start, until, level, text


def sections(text: str) -> list[Span]:
    """One span a heading, with the path of the headings above it and its own; what is before the first has none.

    A heading with nothing of its own belongs to the section that follows, where that lies below it.
    """
    found: list[Span] = []
    above: list[tuple[int, str]] = []
    path: Path = ()
    start, body, pending = 0, 0, False
    for heading in _headings(text):
        while above and above[-1][0] >= heading.level:
            above.pop()
        above.append((heading.level, heading.text))
        then: Path = tuple(title for _, title in above if title)
        only = pending and not text[body : heading.start].strip() and len(then) > len(path)
        if not only:
            if heading.start > start:
                found.append(Span(start, heading.start, path))
            start = heading.start
        path, body, pending = then, heading.until, True
    if len(text) > start:
        found.append(Span(start, len(text), path))
    return found


def _headings(text: str) -> Iterator[_Heading]:
    fence = ""
    at = _front_matter(text)
    before, before_start = "", at
    for match in _LINE.finditer(text, at):
        line = match.group()
        begin, end = match.span()
        if fence:
            closing = _FENCE.match(line)
            if closing and closing[1].startswith(fence) and not line[closing.end() :].strip():
                fence = ""
            continue
        if (opening := _FENCE.match(line)) and not (opening[1][0] == "`" and "`" in line[opening.end() :]):
            fence = opening[1]
            before = ""
        elif (atx := _ATX.match(line)) is not None:
            yield _Heading(begin, end, len(atx[1]), _title(_closed(line[atx.end() :])))
            before = ""
        elif before and (underline := _UNDERLINE.match(line.rstrip("\r\n"))):
            yield _Heading(before_start, end, 1 if underline[1][0] == "=" else 2, _title(before))
            before = ""
        elif _NO_PARAGRAPH.match(line):
            before = ""
        else:
            # Of a heading over several lines the first one is where it begins.
            before, before_start = (
                (f"{before} {line}", before_start) if before and len(before) < TITLE else (line, begin)
            )


def _front_matter(text: str) -> int:
    """Where the text begins behind a block of settings between `---` lines."""
    if not text.startswith(("---\n", "---\r\n")):
        return 0
    match = re.compile(r"^(?:---|\.\.\.)[ \t]*\r?$", re.MULTILINE).search(text, 4, 20_000)
    return match.end() if match else 0


def _closed(line: str) -> str:
    """A heading's words without the row of `#` that may close it."""
    words = line.strip()
    bare = words.rstrip("#")
    return bare.rstrip() if not bare or (bare != words and bare[-1] in " \t") else words


def _title(words: str) -> str:
    return " ".join(words[: TITLE * 4].split())[:TITLE].rstrip()
