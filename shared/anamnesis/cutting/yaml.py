"""YAML at its keys: the top level first, then the levels below where an entry is long."""

import re
from typing import NamedTuple

from anamnesis.cutting.spans import Span

DEPTH = 3
NAME = 100  # characters of a key that are kept

_ENTRY = re.compile(
    r"""
    ^(?P<indent>[ ]*)
    (?: (?P<item>-)(?=\s)
      | (?: "(?P<double>[^"\n]{1,200})"
          | '(?P<single>[^'\n]{1,200})'
          | (?P<plain>[^\s\#\-"'&*!|>%@`{}\[\],:][^\n:\#]{0,200})
        )
        [ ]*:(?=\s|$)
    )""",
    re.MULTILINE | re.VERBOSE,
)


def entries(text: str, most: int) -> list[Span]:
    """One span an entry of the top level, comments above it included; long ones by the entries within."""
    return _level(text, Span(0, len(text)), 0, most, DEPTH)


def _level(text: str, span: Span, inner: int, most: int, depth: int) -> list[Span]:
    """The entries of the outermost level that is indented by `inner` spaces or more."""
    marks = [mark for mark in _marks(text, span) if mark.indent >= inner]
    level = min((mark.indent for mark in marks), default=0)
    found: list[Span] = []
    start, path = span.start, span.path
    for mark in marks:
        if mark.indent != level:
            continue
        at = _with_comments(text, mark.at, start)
        if at > start:
            found.append(Span(start, at, path))
        start, path = at, (*span.path, mark.key) if mark.key else span.path
    found.append(Span(start, span.end, path))
    whole: list[Span] = []
    for one in found:
        long = depth > 1 and one.end - one.start > most and one.path != span.path
        whole += _level(text, one, level + 1, most, depth - 1) if long else [one]
    return whole


class _Mark(NamedTuple):
    """Where an entry begins; of a list's there is no key."""

    at: int
    indent: int
    key: str


def _marks(text: str, span: Span) -> list[_Mark]:
    found: list[_Mark] = []
    for match in _ENTRY.finditer(text, span.start, span.end):
        key = match["double"] or match["single"] or match["plain"] or ""
        found.append(_Mark(match.start(), len(match["indent"]), "" if match["item"] else key.strip()[:NAME]))
    return found


def _with_comments(text: str, at: int, lowest: int) -> int:
    """Where the comment lines right above an entry begin."""
    while at > lowest:
        line = text.rfind("\n", lowest, at - 1) + 1 if at - 1 > lowest else lowest
        line = max(line, lowest)
        if not text[line:at].lstrip(" ").startswith("#"):
            break
        at = line
    return at
