"""What is written into one configuration file, and how it is taken out again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import JsonValue

from anamnesis.contracts.base import Contract
from anamnesis.kit.errors import BadRequest, Conflict
from services.console.connect import jsontext, tomltext

MAX_FILE = 50 << 20  # bytes of a configuration file


class Edit(Contract):
    """A member of an object, or (`item`) one item of a list."""

    where: tuple[str, ...]
    value: JsonValue
    item: bool = False
    made: tuple[tuple[str, ...], ...] = ()
    """Containers that had to be made for it, the innermost first: they go again once they are empty."""


class Wanted(NamedTuple):
    """Entries that a file is to have."""

    path: Path
    kind: Literal["json", "toml"]
    edits: tuple[Edit, ...]


def done(text: str, kind: str, wanted: Sequence[Edit], written: Sequence[Edit]) -> tuple[str, tuple[Edit, ...]]:
    """The text with all entries, those that were `written` before and are not wanted any more gone, and what to undo.

    Raises `Conflict` where an entry is somebody else's.
    """
    if all(_is_there(text, kind, edit) for edit in wanted):
        return text, tuple(_as_written(edit, written) for edit in wanted)
    text = undone(text, kind, written)
    result: list[Edit] = []
    for edit in wanted:
        if not edit.item and _found(text, kind, edit.where) is not None:
            raise Conflict(
                f"has an entry {'.'.join(edit.where)} already that 'anamnesis connect' has not written; "
                "remove it or give it another name, and connect again"
            )
        containers = [edit.where[:depth] for depth in range(len(edit.where) - (not edit.item), 0, -1)]
        made = tuple(one for one in containers if _found(text, kind, one) is None)
        text = _added(text, kind, edit)
        result.append(edit.model_copy(update={"made": made}))
    return text, tuple(result)


def undone(text: str, kind: str, edits: Sequence[Edit]) -> str:
    """The text without these entries; one that somebody has changed since goes by its name."""
    for edit in reversed(edits):
        if kind == "toml":
            text = tomltext.without_table(text, edit.where)
            continue
        text = jsontext.without(text, edit.where, edit.value if edit.item else None)
        for container in edit.made:
            if _found(text, kind, container) in ({}, []):
                text = jsontext.without(text, container)
    return text


def read(path: Path) -> str | None:
    """None = there is no such file. Raises `BadRequest` where it cannot be changed."""
    try:
        with path.open("rb") as file:
            found = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return None
    if len(found) > MAX_FILE:
        raise BadRequest(f"{path} is larger than any configuration; look at it, and connect again")
    try:
        return found.decode()
    except UnicodeDecodeError:
        raise BadRequest(f"{path} is no text in UTF-8; look at it, and connect again") from None


def _is_there(text: str, kind: str, edit: Edit) -> bool:
    found = _found(text, kind, edit.where)
    return edit.value in found if edit.item and isinstance(found, list) else found == edit.value


def _found(text: str, kind: str, where: Sequence[str]) -> object:
    if kind == "toml":
        return tomltext.table(text, where)
    found: object = jsontext.value(text)
    for name in where:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _added(text: str, kind: str, edit: Edit) -> str:
    if kind == "toml":
        assert isinstance(edit.value, dict)
        return tomltext.with_table(text, edit.where, {name: str(one) for name, one in edit.value.items()})
    add = jsontext.with_item if edit.item else jsontext.with_member
    return add(text, edit.where, edit.value)


def _as_written(edit: Edit, written: Sequence[Edit]) -> Edit:
    return next((one for one in written if (one.where, one.value) == (edit.where, edit.value)), edit)
