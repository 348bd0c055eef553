"""Patterns of `.gitignore` as regular expressions, and globs as small automata that know which directories to enter.

All matching is on bytes, as Git does it: `plain` gives a name as text of one character a byte. A library that turns
a list of patterns into one test of whole paths would not do: what is ignored is decided directory by directory, and a
glob has to say beforehand whether anything below a directory could be meant.
"""

import os
import re
from typing import NamedTuple

ANY_DEPTH = "**"
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "\\x21-\\x7e",
    "lower": "a-z",
    "print": "\\x20-\\x7e",
    "punct": "\\x21-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7e",
    "space": " \\t\\n\\r\\f\\v",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


class InvalidGlob(ValueError):
    """A pattern that could never match."""


def plain(name: str) -> str:
    """A name or path of the operating system, one character a byte."""
    return name if name.isascii() else os.fsencode(name).decode("latin-1")


def segments(pattern: str) -> list[str]:
    """The parts between slashes; `**` and longer ones are all `**`."""
    return [ANY_DEPTH if len(part) > 1 and not part.strip("*") else part for part in pattern.split("/")]


def segment(pattern: str) -> str:
    """The expression of one part, in which nothing matches a slash. Raises `InvalidGlob`.

    What follows a star is taken where it is met first: nothing is won by a later place, and no pattern takes long.
    """
    pieces: list[list[str]] = [[]]
    at, end = 0, len(pattern)
    while at < end:
        character = pattern[at]
        at += 1
        if character == "*":
            pieces.append([])
        elif character == "?":
            pieces[-1].append("[^/]")
        elif character == "[":
            bracket, at = _bracket(pattern, at)
            pieces[-1].append(bracket)
        elif character == "\\":
            if at == end:
                raise InvalidGlob(f"nothing follows the last backslash of {pattern!r}")
            pieces[-1].append(re.escape(pattern[at]))
            at += 1
        else:
            pieces[-1].append(re.escape(character))
    first, *others = ("".join(piece) for piece in pieces)
    if not others:
        return first
    return first + "".join(f"(?>[^/]*?{piece})" for piece in others[:-1] if piece) + "[^/]*" + others[-1]


def _parts(pattern: str) -> list[str]:
    """As `segments`, by Git's letter: a slash divides also behind a backslash, but not in a bracket."""
    parts: list[str] = []
    start = at = 0
    while at < len(pattern):
        escaped = pattern[at] == "\\"
        if pattern[at + escaped : at + escaped + 1] == "/":
            parts.append(pattern[start:at])
            start = at = at + escaped + 1
        elif pattern[at] == "[":
            _, at = _bracket(pattern, at + 1)
        else:
            at += 1 + escaped
    parts.append(pattern[start:])
    return [ANY_DEPTH if len(part) > 1 and not part.strip("*") else part for part in parts]


def path(pattern: str) -> str:
    """The expression of a pattern with slashes, for a whole path relative to where the pattern stands.

    Raises `InvalidGlob`.
    """
    groups: list[list[str]] = [[]]
    """Parts that follow each other; any number of directories lies between two groups."""
    for part in _parts(pattern.removeprefix("/")):
        if part == ANY_DEPTH:
            groups.append([])
        else:
            groups[-1].append(segment(part))
    first, *others = groups
    if not others:
        return "/".join(first)
    # As with stars: what follows is taken where it is met first.
    between = "".join(f"(?>(?:[^/]*/)*?{'/'.join(group)}/)" for group in others[:-1] if group)
    start = "/".join(first) + "/" if first else ""
    return start + between + ("(?:.*/)?" + "/".join(others[-1]) if others[-1] else ".*")


def _bracket(pattern: str, at: int) -> tuple[str, int]:
    """The expression of `[...]` from behind its opening, and where it ends."""
    end = len(pattern)
    negated = at < end and pattern[at] in "!^"
    at += negated
    out: list[str] = []
    first = True
    while True:
        if at >= end:
            raise InvalidGlob(f"a bracket of {pattern!r} is not closed")
        if pattern[at] == "]" and not first:
            break
        first = False
        if pattern.startswith("[:", at) and (close := pattern.find(":]", at + 2)) > 0 and "]" not in pattern[at:close]:
            named = _CLASSES.get(pattern[at + 2 : close])
            if named is None:
                raise InvalidGlob(f"{pattern!r} names an unknown class of characters")
            out.append(named)
            at = close + 2
            continue
        low, at = _member(pattern, at)
        if at + 1 < end and pattern[at] == "-" and pattern[at + 1] != "]":
            high, at = _member(pattern, at + 1)
            # A range that runs backwards holds its beginning alone, for Git.
            out.append(f"{_hexadecimal(low)}-{_hexadecimal(high)}" if low <= high else _hexadecimal(low))
        else:
            out.append(_hexadecimal(low))
    inside = "".join(out)
    if negated:
        return f"[^/{inside}]", at + 1
    return (f"(?!/)[{inside}]" if inside else "(?!)"), at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at] == "\\":
        at += 1
        if at >= len(pattern):
            raise InvalidGlob(f"a bracket of {pattern!r} is not closed")
    return pattern[at], at + 1


def _hexadecimal(character: str) -> str:
    return f"\\x{ord(character):02x}"


def any_of(expressions: list[str]) -> re.Pattern[str] | None:
    """One expression for a whole name or path, that matches where any does; none where there are none."""
    if not expressions:
        return None
    return re.compile(r"(?:" + "|".join(expressions) + r")\Z", re.DOTALL)


class _Glob(NamedTuple):
    parts: tuple[str, ...]
    steps: tuple[re.Pattern[str] | None, ...]
    """None = any depth."""


class State:
    """How far the globs have come on the way to a directory."""

    __slots__ = ("_globs", "_moving", "_places", "loose", "spelled", "whole")

    def __init__(self, globs: "Globs", places: frozenset[tuple[int, int]]) -> None:
        self._globs = globs
        self._places = places
        spelled: list[str] = []
        loose: list[str] = []
        self.whole = False
        """Whether the directory itself is meant, with all below."""
        self._moving: list[tuple[re.Pattern[str], bool, int, int]] = []
        for number, at in places:
            parts, steps = globs.globs[number]
            if at == len(parts):
                self.whole = True
                continue
            step = steps[at]
            if step is None:
                if at == len(parts) - 1:
                    self.whole = True
                continue
            self._moving.append((step, parts[at].startswith("."), number, at + 1))
            if at == len(parts) - 1:
                (loose if parts[at][-1] in "*?]" else spelled).append(step.pattern.removesuffix(r"\Z"))
        self.spelled = any_of(spelled)
        """Names that globs spell to their end: these files are meant whatever their extension is."""
        self.loose = any_of(loose)
        """Names that globs mean if the extension fits."""

    def enter(self, name: str, hidden: bool) -> "State | None":
        """The state within a directory; none where nothing below it can be meant.

        Hidden directories are entered only where a part of a glob begins with a dot.
        """
        places: set[tuple[int, int]] = set()
        if not hidden:
            if self.whole:
                return self._globs.all
            places.update(one for one in self._places if self._globs.globs[one[0]].steps[one[1]] is None)
        for step, dotted, number, at in self._moving:
            if hidden <= dotted and step.match(name):
                places.add((number, at))
        return self._globs.state(places) if places else None


class Globs:
    """Some globs together, as in `.gitignore` without negation: one without a slash matches at any depth."""

    def __init__(self, globs: tuple[str, ...]) -> None:
        """Raises `InvalidGlob`."""
        self.globs = tuple(self._compiled(plain(glob)) for glob in globs)
        self._states: dict[frozenset[tuple[int, int]], State] = {}
        self.start = self.state({(number, 0) for number in range(len(self.globs))})
        self.all = self.state({(0, len(self.globs[0].parts))})

    def state(self, places: set[tuple[int, int]]) -> State:
        # What lies behind "any depth" may also begin here.
        for number, at in tuple(places):
            steps = self.globs[number].steps
            while at < len(steps) - 1 and steps[at] is None:
                at += 1
                places.add((number, at))
        if any(at == len(self.globs[number].parts) for number, at in places):
            places = {(0, len(self.globs[0].parts))}
        key = frozenset(places)
        known = self._states.get(key)
        if known is None:
            known = self._states[key] = State(self, key)
        return known

    @staticmethod
    def _compiled(glob: str) -> _Glob:
        cleaned = glob.rstrip("/")
        parts = segments(cleaned.removeprefix("/"))
        if "/" not in cleaned and parts != [ANY_DEPTH]:
            parts = [ANY_DEPTH, *parts]
        if not all(parts) or ".." in parts:
            raise InvalidGlob(f"{glob!r} has an empty part or leads upwards")
        return _Glob(tuple(parts), tuple(None if part == ANY_DEPTH else any_of([segment(part)]) for part in parts))
