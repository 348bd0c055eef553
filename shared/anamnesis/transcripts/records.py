"""One line of a transcript, read tolerantly: whatever is missing or of another type counts as absent."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

from anamnesis.contracts.base import JsonObject


class ToolUse(NamedTuple):
    id: str
    name: str
    input: JsonObject


class ToolResult(NamedTuple):
    id: str
    failed: bool
    text: str
    """The beginning of what the tool said; read only where it failed."""


class Record(NamedTuple):
    """What the cutting of exchanges needs of a line."""

    type: str
    uuid: str
    parent: str
    session: str
    agent: str
    sidechain: bool | None
    injected: bool
    """Written by the program, not by the user: meta records and compact summaries."""
    timestamp: datetime | None
    cwd: str
    branch: str
    texts: tuple[str, ...]
    uses: tuple[ToolUse, ...]
    results: tuple[ToolResult, ...]
    api_error: bool


_STARTS = re.compile(
    r'\{\s*"(?:parentUuid|logicalParentUuid|uuid|sessionId|isSidechain|timestamp|cwd"\s*:'
    r'|type"\s*:\s*"(?:user|assistant|attachment|system|summary)")'
)
"""How records begin, and what lies within records does not."""
_MAX_STARTS = 64
_JSON = json.JSONDecoder()

_TALK = frozenset(("user", "assistant", "attachment"))
_INPUT = 2_000  # characters kept of a string in a tool's input, at most
_ERROR_TEXT = 600  # characters kept of what a failed tool said, at most


def load(data: bytes) -> JsonObject | None:
    """The JSON object of a line, or none when it is torn or something else."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        if b"\\u" not in data:
            return None
        try:  # JavaScript writes lone surrogates, which orjson refuses
            value = json.loads(data)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def salvage(data: bytes) -> Iterator[JsonObject]:
    """The whole records of a line that is none.

    A writer that was killed in the middle of a line is followed by one that begins behind the torn piece.
    """
    text = data.decode("utf-8", "replace")
    end = 0
    for tries, start in enumerate(_STARTS.finditer(text)):
        if tries == _MAX_STARTS:
            return
        if start.start() < end:
            continue
        try:
            value, stop = _JSON.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        # What lies within a torn record is followed by the rest of it.
        if isinstance(value, dict) and (not (rest := text[stop : stop + 1].strip()) or rest == "{"):
            end = stop
            yield value


def read(line: JsonObject) -> Record | None:
    """The record of a line, or none when it holds nothing that was said or done.

    `continued-in`, with which a session points to the next one, says nothing that is needed: what the next one copies
    is told by its uuids, and what it adds is its own.
    """
    kind = line.get("type")
    if not isinstance(kind, str) or kind not in _TALK:
        return None
    texts: list[str] = []
    uses: list[ToolUse] = []
    results: list[ToolResult] = []
    if kind == "attachment":
        attached = line.get("attachment")
        # What the user typed while an answer was under way.
        if not isinstance(attached, dict) or attached.get("type") != "queued_command":
            return None
        _read_content(attached.get("prompt"), texts, uses, results)
    else:
        message = line.get("message")
        if not isinstance(message, dict):
            return None
        _read_content(message.get("content"), texts, uses, results)
    sidechain = line.get("isSidechain")
    return Record(
        type=kind,
        uuid=_text(line, "uuid"),
        parent=_text(line, "parentUuid"),
        session=_text(line, "sessionId"),
        agent=_text(line, "agentId"),
        sidechain=sidechain if isinstance(sidechain, bool) else None,
        injected=any(line.get(mark) is True for mark in ("isMeta", "isCompactSummary", "isVisibleInTranscriptOnly")),
        timestamp=moment(line.get("timestamp")),
        cwd=_text(line, "cwd"),
        branch=_text(line, "gitBranch"),
        texts=tuple(texts),
        uses=tuple(uses),
        results=tuple(results),
        api_error=line.get("isApiErrorMessage") is True,
    )


def moment(value: object) -> datetime | None:
    """An ISO 8601 time as UTC, or none."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _read_content(content: object, texts: list[str], uses: list[ToolUse], results: list[ToolResult]) -> None:
    if isinstance(content, str):
        texts.append(content)
        return
    if not isinstance(content, list):
        return
    for block in content:
        if not isinstance(block, dict):
            continue
        kind = block.get("type")
        if kind == "text":
            text = block.get("text")
            if isinstance(text, str):
                texts.append(text)
        elif kind == "tool_use":
            uses.append(ToolUse(_text(block, "id"), _text(block, "name"), _brief(block.get("input"))))
        elif kind == "tool_result":
            failed = block.get("is_error") is True
            said = _said(block.get("content")) if failed else ""
            results.append(ToolResult(_text(block, "tool_use_id"), failed, said))
        elif kind in ("image", "document"):
            texts.append(f"[{kind}]")


def _brief(given: object) -> JsonObject:
    """The short strings of a tool's input and its to-do list; whole files that it writes are let go at once."""
    if not isinstance(given, dict):
        return {}
    brief: JsonObject = {key: _begin(value, _INPUT) for key, value in given.items() if isinstance(value, str)}
    if isinstance(given.get("todos"), list):
        brief["todos"] = given["todos"]
    return brief


def _said(content: object) -> str:
    """The beginning of what a tool said."""
    if isinstance(content, str):
        return _begin(content, _ERROR_TEXT)
    if isinstance(content, list):
        for block in content:
            text = block.get("text") if isinstance(block, dict) else None
            if isinstance(text, str):
                return _begin(text, _ERROR_TEXT)
    return ""


def _begin(text: str, length: int) -> str:
    """The beginning of a text, without the word that the cut goes through: half a secret is not known for one."""
    if len(text) <= length:
        return text
    words = text[: length + 1].rsplit(None, 1)
    return words[0] if len(words) == 2 else ""


def _text(line: JsonObject, key: str) -> str:
    value = line.get(key)
    return value if isinstance(value, str) else ""
