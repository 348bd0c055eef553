"""The events that are answered, how their names and bodies are read, and which project they belong to."""

import json
import re
from enum import StrEnum

import orjson
from pydantic import JsonValue, ValidationError

from anamnesis.contracts.base import MAX_NAME
from anamnesis.contracts.hooks import HookInput
from anamnesis.kit.errors import BadRequest
from anamnesis.transcripts.projects import basename

_JOINTS = re.compile(r"[-_\s]")
_WORKTREES = re.compile(r"[/\\]\.claude[/\\]worktrees[/\\]")
"""Where Claude Code keeps the worktrees of a repository: below the repository itself."""


class HookEvent(StrEnum):
    SESSION_START = "SessionStart"
    USER_PROMPT_SUBMIT = "UserPromptSubmit"
    STOP = "Stop"
    SUBAGENT_STOP = "SubagentStop"
    PRE_COMPACT = "PreCompact"
    SESSION_END = "SessionEnd"


_BY_NAME = {event.value.lower(): event for event in HookEvent}


def named(name: str) -> HookEvent | None:
    """The event of a name in any of its spellings (`SessionStart`, `session-start`); none = it is not answered."""
    return _BY_NAME.get(_JOINTS.sub("", name[:100]).lower())


def parse(body: bytes) -> HookInput:
    """Raises `BadRequest` where this is no JSON object."""
    try:
        value = _json(body)
    except ValueError:
        raise BadRequest("post the hook's JSON, as the program gives it to a hook") from None
    if not isinstance(value, dict):
        raise BadRequest("the hook's JSON must be an object")
    try:
        return HookInput.model_validate(value)
    except ValidationError:
        raise BadRequest("the hook's JSON cannot be read") from None


def _json(body: bytes) -> JsonValue:
    try:
        value: JsonValue = orjson.loads(body)
    except orjson.JSONDecodeError:
        if b"\\u" not in body:
            raise
        # A program may cut a text in the middle of a character, and write half of it as an escape.
        try:
            value = json.loads(body)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
    return value


def project_of(cwd: str) -> str | None:
    """The project of a working directory, by its name alone: the directory may be on another machine."""
    place = _WORKTREES.split(cwd, maxsplit=1)[0]
    return basename(place)[:MAX_NAME].strip() or None if place.strip("/\\ ") else None
