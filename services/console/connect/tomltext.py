"""Adds a table to a TOML text and removes it again; every other character stays, comments included.

A table that is added stands at the end, which is valid wherever it is not there yet. What comes out is parsed and
compared with what is meant before anybody sees it.
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence

_HEADER = re.compile(r"^[ \t]*\[")


class NotToml(ValueError):
    """The text is no TOML, or not one that can be changed here; says why."""


def value(text: str) -> dict[str, object]:
    """Raises `NotToml`."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotToml(str(error)) from None


def table(text: str, path: Sequence[str]) -> object:
    """What stands at a path; none = nothing."""
    found: object = value(text)
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def with_table(text: str, path: Sequence[str], new: Mapping[str, str]) -> str:
    """With a table of strings that is not there yet."""
    lines = [f"[{'.'.join(path)}]", *(f"{name} = {json.dumps(one, ensure_ascii=False)}" for name, one in new.items())]
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    result = text + gap + "\n".join(lines) + "\n"
    meant = value(text)
    inner = meant
    for name in path[:-1]:
        below = inner.setdefault(name, {})
        if not isinstance(below, dict):
            raise NotToml(f"{name} is no table")
        inner = below
    inner[path[-1]] = dict(new)
    return _checked(result, meant)


def without_table(text: str, path: Sequence[str]) -> str:
    """Without a table and those below it; comments between it and the next one belong to the next one."""
    if table(text, path) is None:
        return text
    name = r"\s*\.\s*".join(f"(?:{re.escape(part)}|\"{re.escape(part)}\"|'{re.escape(part)}')" for part in path)
    own = re.compile(rf"^[ \t]*\[\s*{name}\s*[.\]]")
    kept: list[str] = []
    inside = False
    held: list[str] = []  # blank lines and comments of which it is not known yet whose they are
    for line in text.splitlines(keepends=True):
        if _HEADER.match(line):
            now = own.match(line) is not None
            if not now:
                kept += held
            elif not inside and kept and not kept[-1].strip():
                kept.pop()
            held = []
            inside = now
        if not inside:
            kept.append(line)
        elif line.strip() and not line.lstrip().startswith("#"):
            held = []
        else:
            held.append(line)
    kept += [] if not any(line.strip() for line in held) else held
    meant = value(text)
    _drop(meant, path)
    return _checked("".join(kept), meant)


def _drop(meant: dict[str, object], path: Sequence[str]) -> None:
    inner = meant.get(path[0])
    if len(path) == 1:
        del meant[path[0]]
    elif isinstance(inner, dict):
        _drop(inner, path[1:])
        if not inner:
            del meant[path[0]]


def _checked(text: str, meant: dict[str, object]) -> str:
    if value(text) != meant:
        raise NotToml("it is written in a way that cannot be changed here")
    return text
