"""An `.env` file: reading its names, replacing values, and writing it whole or not at all, mode 600.

Values are written so that Compose and a shell read the same text, and neither expands or runs any of it. Lines
that are not changed keep their place and their bytes, comments included.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

MAX_NAME = 100  # characters
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_ENTRY = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(.*)", re.DOTALL)
_CLOSED = {"'": re.compile(r"'[^']*'"), '"': re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)}
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+=,~^-]*")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "$": "\\$"}


class BadName(ValueError):
    """A name that must not come into an `.env` file."""


class BadValue(ValueError):
    """A value that an `.env` file cannot hold."""


class Changes(NamedTuple):
    """What a merge did, by name; never by value."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    kept: tuple[str, ...]
    """Names that only this file has."""


def check_name(name: str) -> str:
    """The name, if it is one that every reader of the file takes for a variable."""
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise BadName(f"{name[:MAX_NAME]!r} is no variable name: capitals, digits and _, at most {MAX_NAME}")
    return name


def quote(value: str) -> str:
    """A value as `.env` text: bare where that is safe, single quotes, else double quotes with escapes."""
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise BadValue("it holds line breaks or other control characters")
    if _PLAIN.fullmatch(value) and not value.startswith("~"):
        return value
    if not set(value) & {"'", "\\"}:
        return f"'{value}'"
    if (
        "`" in value
    ):  # a shell needs it escaped in double quotes, Compose keeps the escape: no text means the same to both
        raise BadValue("it holds a backtick together with a single quote or a backslash")
    return '"' + "".join(_ESCAPES.get(character, character) for character in value) + '"'


def merge(text: str, values: Mapping[str, str]) -> tuple[str, Changes]:
    """`text` of an `.env` file with `values` in it, and what that changed."""
    wanted = {check_name(name): f"{name}={quote(value)}" for name, value in values.items()}
    lines: list[str] = []
    seen: set[str] = set()
    kept: list[str] = []
    changed: set[str] = set()
    for entry in _entries(text):
        match = _ENTRY.fullmatch(entry)
        if match is None or entry.lstrip().startswith("#"):
            lines.append(entry)
        elif (name := match[1]) not in wanted:
            lines.append(entry)
            kept.append(name)
        elif name in seen:
            changed.add(name)  # readers take the last of two lines: only the new one may stay
        else:
            seen.add(name)
            lines.append(wanted[name])
            if entry.strip() != wanted[name]:
                changed.add(name)
    added = [name for name in wanted if name not in seen]
    lines.extend(wanted[name] for name in added)
    unchanged = [name for name in wanted if name in seen and name not in changed]
    merged = "".join(line + "\n" for line in lines)
    return merged, Changes(tuple(added), tuple(sorted(changed)), tuple(unchanged), tuple(dict.fromkeys(kept)))


def _entries(text: str) -> list[str]:
    """The lines of a file, those of one quoted value joined."""
    entries: list[str] = []
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    at = 0
    while at < len(lines):
        entry, end = lines[at], at + 1
        match = _ENTRY.fullmatch(entry)
        if match and not entry.lstrip().startswith("#") and (closed := _CLOSED.get(match[2][:1])):
            joined = match[2]
            while not closed.match(joined) and end < len(lines):
                joined += "\n" + lines[end]
                end += 1
            if closed.match(joined):
                entry = "\n".join(lines[at:end])
            else:  # never closed: a broken line stays one line
                end = at + 1
        entries.append(entry)
        at = end
    return entries


def write(path: Path, text: str) -> None:
    """Replace the file in one step: readers see the old one or the new one, and only the owner can read it."""
    path = path.resolve()
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".env.")  # made with mode 600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
