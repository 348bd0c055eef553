"""Source code at its definitions, each with what is said above it."""

import re
from collections.abc import Iterator, Sequence

from anamnesis.cutting.definitions import DEPTH, Definition, definitions
from anamnesis.cutting.spans import Span

SCRAP = 5  # so many times less than a piece should have is too little to stand alone
ABOVE = 60  # lines of comments and decorators right above a definition that are taken to be its own
LEAD = 80  # characters of its line before a definition: `export const`

_ABOVE = re.compile(r"[ \t]*(?:#(?!!|include|define|undef|pragma|if|el|endif)|//|/\*|\*|@|\[\[|template\b)")
"""How a line begins that speaks of the definition below."""
_BEHIND = re.compile(r"[ \t;,)]*(?:(?://|#)[^\n]*)?(?:\n|$)|[;,)]*")
"""What belongs to a definition behind its end."""
_ELSEWHERE = re.compile(r"[;{}]")
"""What ends another statement on the same line."""


def parts(text: str, language: str, least: int, most: int) -> list[Span]:
    """One span a definition, and what is between; those that are too long for one piece by the definitions within.

    Raises what a parser fails with.
    """
    whole = Span(0, len(text))
    return _gathered(text, _units(text, whole, definitions(text, language), most, DEPTH), least // SCRAP, most)


def _units(text: str, span: Span, within: Sequence[Definition], most: int, depth: int) -> Iterator[Span]:
    at = span.start
    for one in within:
        start = _opening(text, one.start, at)
        behind = _BEHIND.match(text, one.end, span.end)
        end = behind.end() if behind else one.end
        if end <= at:  # of two on one line the first has taken it
            continue
        if start > at:
            yield Span(at, start, span.path)
        unit = Span(start, end, one.path)
        if end - start > most and one.within and depth:
            yield from _units(text, unit, one.within, most, depth - 1)
        else:
            yield unit
        at = end
    if span.end > at:
        yield Span(at, span.end, span.path)


def _opening(text: str, start: int, lowest: int) -> int:
    """Where the lines begin that belong to a definition: its own, and the comments and decorators above."""
    line = max(lowest, text.rfind("\n", lowest, start) + 1)
    if start - line > LEAD or _ELSEWHERE.search(text, line, start):
        return start
    for _ in range(ABOVE):
        if line <= lowest or text[line - 1] != "\n":
            break
        above = max(lowest, text.rfind("\n", lowest, line - 1) + 1)
        if not _ABOVE.match(text, above, line):
            break
        line = above
    return line


def _gathered(text: str, units: Iterator[Span], scrap: int, most: int) -> list[Span]:
    """Scraps of code (an import, a closing bracket) with the definition before them, or else with the next."""
    found: list[Span] = []
    for unit in units:
        before = found[-1] if found else None
        if before is None or unit.end - before.start > most:
            found.append(unit)
        elif _short(text, before, scrap) and len(before.path) <= len(unit.path):
            found[-1] = Span(before.start, unit.end, unit.path)
        elif _short(text, unit, scrap) and len(unit.path) < len(before.path):
            found[-1] = Span(before.start, unit.end, before.path)
        else:
            found.append(unit)
    return found


def _short(text: str, span: Span, length: int) -> bool:
    return span.end - span.start < 8 * length and len(text[span.start : span.end].strip()) < length
