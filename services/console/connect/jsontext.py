"""Changes single entries of a JSON text, and leaves every other character of it where it was.

Comments and trailing commas are read, since some programs' files have them. Parsing is strict beyond that: what is not
understood as a whole is not changed at all.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

MAX_DEPTH = 100
_SPACE = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_SCALAR = re.compile(r"true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_REST_OF_LINE = re.compile(r"[ \t]*(?://[^\n]*|/\*[^\n]*?\*/)")
_INDENT = re.compile(r"^([ \t]+)\S", re.MULTILINE)


class NotJson(ValueError):
    """The text is no JSON; says where."""


@dataclass
class _Node:
    """A value and where it stands; `name` and `name_at` where it is a member."""

    at: int
    end: int = 0
    value: JsonValue = None
    children: "list[_Node]" = field(default_factory=list)
    name: str = ""
    start: int = 0
    """Where its entry begins: at its name, else at itself."""
    comma: int = -1
    """The comma behind it."""


def value(text: str) -> JsonValue:
    """Raises `NotJson`."""
    return _parse(text).value


def with_member(text: str, path: Sequence[str], new: JsonValue) -> str:
    """With a member that is not there yet; objects on the way to it are made."""
    for depth in range(1, len(path)):
        if _find(_parse(text), path[:depth]) is None:
            return with_member(text, path[:depth], _nested(path[depth:], new))
    parent = _container(_parse(text), path[:-1], dict)
    return _insert(text, parent, f"{json.dumps(path[-1], ensure_ascii=False)}: ", new)


def with_item(text: str, path: Sequence[str], new: JsonValue) -> str:
    """With one more item at the end of a list; the list, and objects on the way to it, are made."""
    if _find(_parse(text), path) is None:
        return with_member(text, path, [new])
    return _insert(text, _container(_parse(text), path, list), "", new)


def without(text: str, path: Sequence[str], item: JsonValue | None = None) -> str:
    """Without a member, or without each item of a list that is this one; what is not there is no error."""
    node = _find(_parse(text), path if item is not None else path[:-1])
    if node is None:
        return text
    if item is None:
        found = next((one for one in node.children if one.name == path[-1] and isinstance(node.value, dict)), None)
    else:
        found = next((one for one in node.children if one.value == item and isinstance(node.value, list)), None)
    if found is None:
        return text
    text = _remove(text, node, found)
    return text if item is None else without(text, path, item)


def _nested(path: Sequence[str], new: JsonValue) -> JsonValue:
    for name in reversed(path):
        new = {name: new}
    return new


def _find(node: _Node, path: Sequence[str]) -> _Node | None:
    for name in path:
        inner = next((one for one in node.children if one.name == name), None)
        if inner is None or not isinstance(node.value, dict):
            return None
        node = inner
    return node


def _container(root: _Node, path: Sequence[str], kind: type[dict[str, JsonValue]] | type[list[JsonValue]]) -> _Node:
    node = _find(root, path)
    if node is None or not isinstance(node.value, kind):
        raise NotJson(f"{'.'.join(path) or 'the whole'} is no {'object' if kind is dict else 'list'}")
    return node


def _insert(text: str, parent: _Node, label: str, new: JsonValue) -> str:
    unit = found[1] if (found := _INDENT.search(text)) else "  "
    line = text.rfind("\n", 0, parent.at) + 1
    base = text[line : parent.at][: len(text[line : parent.at]) - len(text[line : parent.at].lstrip(" \t"))]
    if not parent.children:
        inner = text[parent.at + 1 : parent.end - 1].rstrip()
        entry = _rendered(label, new, base + unit, unit)
        return f"{text[: parent.at + 1]}{inner}\n{base}{unit}{entry}\n{base}{text[parent.end - 1 :]}"
    last = parent.children[-1]
    before = text[text.rfind("\n", 0, last.start) + 1 : last.start]
    separate, indent = (f"\n{before}", before) if not before.strip() and "\n" in text[: last.start] else (" ", base)
    end = last.end if last.comma < 0 else last.comma + 1
    behind = remark.end() if (remark := _REST_OF_LINE.match(text, end)) and separate != " " else end
    comma = "," if last.comma < 0 else ""
    return text[:end] + comma + text[end:behind] + separate + _rendered(label, new, indent, unit) + text[behind:]


def _rendered(label: str, new: JsonValue, indent: str, unit: str) -> str:
    lines = json.dumps(new, indent=unit, ensure_ascii=False).split("\n")
    return label + f"\n{indent}".join(lines)


def _remove(text: str, parent: _Node, gone: _Node) -> str:
    place = parent.children.index(gone)
    start = len(text[: gone.start].rstrip())
    if gone.comma >= 0 and place + 1 < len(parent.children):
        return text[:start] + text[gone.comma + 1 :]
    end = gone.comma + 1 if gone.comma >= 0 else gone.end
    if place:
        comma = parent.children[place - 1].comma
        keeps = gone.comma >= 0  # a trailing comma stays one
        return text[:comma] + text[comma + (0 if keeps else 1) : start] + text[end:]
    rest = text[parent.at + 1 : start] + text[end : parent.end - 1]
    return text[: parent.at + 1] + (rest if rest.strip() else "") + text[parent.end - 1 :]


def _parse(text: str) -> _Node:
    node = _value(text, _skip(text, 0), 0)
    if _skip(text, node.end) != len(text):
        raise _wrong(text, node.end)
    return node


def _value(text: str, at: int, depth: int) -> _Node:
    if depth > MAX_DEPTH:
        raise NotJson("it is nested too deeply")
    node = _Node(at, start=at)
    opening = text[at : at + 1]
    if opening == '"':
        node.value, node.end = _string(text, at)
    elif opening in ("{", "["):
        _inside(text, node, depth, "}" if opening == "{" else "]")
    elif scalar := _SCALAR.match(text, at):
        node.value, node.end = json.loads(scalar[0]), scalar.end()
    else:
        raise _wrong(text, at)
    return node


def _inside(text: str, node: _Node, depth: int, closing: str) -> None:
    at = _skip(text, node.at + 1)
    while text[at : at + 1] != closing:
        start, name = at, ""
        if closing == "}":
            name, at = _string(text, at)
            at = _skip(text, at)
            if text[at : at + 1] != ":":
                raise _wrong(text, at)
            at = _skip(text, at + 1)
            if any(one.name == name for one in node.children):
                raise NotJson(f"{name!r} stands twice in one object")
        child = _value(text, at, depth + 1)
        child.name, child.start = name, start
        node.children.append(child)
        at = _skip(text, child.end)
        if text[at : at + 1] == ",":
            child.comma = at
            at = _skip(text, at + 1)
        elif text[at : at + 1] != closing:
            raise _wrong(text, at)
    node.end = at + 1
    values = [(one.name, one.value) for one in node.children]
    node.value = dict(values) if closing == "}" else [one for _, one in values]


def _string(text: str, at: int) -> tuple[str, int]:
    found = _STRING.match(text, at)
    try:
        return str(json.loads(found[0] if found else "")), found.end() if found else at
    except ValueError:
        raise _wrong(text, at) from None


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _wrong(text: str, at: int) -> NotJson:
    line = text.count("\n", 0, at) + 1
    return NotJson(f"line {line}, column {at - text.rfind(chr(10), 0, at)}")
