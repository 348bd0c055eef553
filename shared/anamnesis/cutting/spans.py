"""Spans of a text: how they are found at paragraphs, joined where they are short, and made into pieces.

All of it is linear: whatever is looked for, is looked for within one piece's length.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from anamnesis.cutting.piece import Piece

Path = tuple[str, ...]
"""Headings or names, from the outermost to the innermost."""

_PARAGRAPH = re.compile(r"\n[ \t\r\f\v]*\n")
_SENTENCE = re.compile(r"[.!?;。！？][\"')\]]?\s")
_SOMETHING = re.compile(r"\S")
_JOINERS = frozenset("\u200d\ufe0e\ufe0f")
_CLUSTER = 64
"""Characters that are looked at so that what is seen as one (an emoji, an accent) is not cut in two."""


class Span(NamedTuple):
    """A part of a text, by the places of its first character and of the one behind its last."""

    start: int
    end: int
    path: Path = ()


def paragraphs(text: str, span: Span, least: int, most: int) -> list[Span]:
    """A span cut behind the first paragraph that makes a part long enough; where none ends in time, behind a line, a
    sentence or a word."""
    found: list[Span] = []
    at, end, path = span
    while (begin := _SOMETHING.search(text, at, end)) is not None:
        # The spaces before it in its line belong to it: code is told by them.
        at = max(at, text.rfind("\n", at, begin.start()) + 1, begin.start() - most // 2)
        stop = _paragraph_end(text, at, end, least, most)
        found.append(Span(at, stop, path))
        at = stop
    return found


def _paragraph_end(text: str, at: int, end: int, least: int, most: int) -> int:
    bound = min(end, at + most)
    if (gap := _PARAGRAPH.search(text, min(at + least, bound), bound)) is not None:
        return gap.end()
    if bound == end:
        return end
    enough = at + least
    if (line := text.rfind("\n", enough, bound)) >= 0:
        return line + 1
    sentence = 0
    for match in _SENTENCE.finditer(text, enough, bound):
        sentence = match.end()
    if sentence:
        return sentence
    if (space := text.rfind(" ", enough, bound)) >= 0:
        return space + 1
    return whole_character(text, bound, max(at + 1, bound - _CLUSTER))


def whole_character(text: str, at: int, lowest: int) -> int:
    """The last place up to `at`, and not before `lowest`, that does not divide what is seen as one character."""
    place = at
    while place > lowest and place < len(text) and _joined(text[place - 1], text[place]):
        place -= 1
    return place if place > lowest else at


def _joined(one: str, other: str) -> bool:
    return (
        other in _JOINERS
        or one == "\u200d"
        or (one == "\r" and other == "\n")
        or unicodedata.combining(other) != 0
        or "\U0001f3fb" <= other <= "\U0001f3ff"
    )


def joined(text: str, units: Iterable[Span], least: int, most: int) -> list[Span]:
    """Short units together with those that follow, as long as these do not lie above them; long ones cut
    at paragraphs.

    A part has the path that most of it lies below.
    """
    parts: list[Span] = []
    held: list[Span] = []

    def flush() -> None:
        if held and held[-1].end - held[0].start > most:
            parts.extend(paragraphs(text, held[0], least, most))  # a long unit is held alone
        elif held:
            parts.append(Span(held[0].start, held[-1].end, told(held)))
        held.clear()

    for unit in units:
        if held:
            start, end = held[0].start, held[-1].end
            beside = len(unit.path) >= len(held[0].path)
            if not beside or end - start >= least or unit.end - start > most:
                flush()
        held.append(unit)
    flush()
    return parts


def told(units: Sequence[Span]) -> Path:
    """The longest path that most of what units hold (two thirds) lies below; without any, the largest one's."""
    path: Path = ()
    whole = sum(one.end - one.start for one in units)
    while True:
        shares: Counter[Path] = Counter()
        for one in units:
            if len(one.path) > len(path) and one.path[: len(path)] == path:
                shares[one.path[: len(path) + 1]] += one.end - one.start
        if not shares:
            return path
        first, share = shares.most_common(1)[0]
        if 3 * share < 2 * whole and (path or 3 * shares.total() < 2 * whole):
            return path
        path = first


def made(text: str, spans: Iterable[Span], separator: str) -> list[Piece]:
    """The pieces of a text, without the blank lines around them; spans come in order."""
    pieces: list[Piece] = []
    line, counted = 1, 0
    for start, end, path in spans:
        begin = _SOMETHING.search(text, start, end)
        if begin is None:
            continue
        first = max(start, text.rfind("\n", start, begin.start()) + 1)
        line += text.count("\n", counted, first)
        counted = first
        body = text[first:end].rstrip()
        pieces.append(Piece(body, line, line + body.count("\n"), separator.join(path)))
    return pieces
