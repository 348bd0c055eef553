"""Tool calls in one line each: what was called on what, and whether it worked."""

import os.path
from typing import NamedTuple

from pydantic import JsonValue

from anamnesis.contracts.base import JsonObject
from anamnesis.transcripts.records import ToolUse

_LINE = 240  # characters of a condensed call
_WHY = 160  # characters of why it failed
_EDITS = frozenset(("Edit", "MultiEdit", "Write", "NotebookEdit", "Update", "Create"))
_SHELLS = frozenset(("Bash", "BashOutput", "PowerShell", "Shell"))
_AGENTS = frozenset(("Task", "Agent"))
_SUBJECTS = (
    "file_path",
    "path",
    "notebook_path",
    "url",
    "query",
    "pattern",
    "command",
    "skill",
    "name",
    "description",
    "prompt",
)


class Done(NamedTuple):
    """A tool call as people would tell it."""

    line: str
    kind: str
    """`edit`, `read`, `run`, `search`, `agent` or `other`."""
    subject: str
    """The file, command, query or task."""
    failed: bool


def condense(use: ToolUse, cwd: str, finished: bool, failure: str | None) -> Done:
    """One line for a call; `failure` is what the tool said when it failed."""
    kind, verb, subject = _tell(use, cwd)
    # Only commands are worth saying that they worked; of all others one hears when they did not.
    if failure is not None:
        reason = one_line(_reason(failure), _WHY)
        outcome = f" (failed: {reason})" if reason else " (failed)"
    else:
        outcome = " (ok)" if kind == "run" and finished else ""
    line = f"{verb} {subject}".strip()
    return Done(one_line(line, _LINE) + outcome, kind, subject, failure is not None)


def one_line(text: str, length: int) -> str:
    """Text on one line of at most `length` characters."""
    flat = " ".join(text[: length * 4].split())
    return flat if len(flat) <= length else flat[: length - 1].rstrip() + "…"


def _tell(use: ToolUse, cwd: str) -> tuple[str, str, str]:
    """Kind, verb and subject of a call."""
    name, given = use.name, use.input
    if name in _EDITS:
        return "edit", "Edit" if name != "Write" else "Write", _path(given, cwd)
    if name == "Read":
        return "read", "Read", _path(given, cwd)
    if name in _SHELLS:
        return "run", "Bash:", _command(_string(given, "command") or _string(given, "bash_id"))
    if name in ("Grep", "Glob"):
        where = _relative(_string(given, "path"), cwd)
        return "search", name, f'"{_string(given, "pattern")}"' + (f" in {where}" if where else "")
    if name == "WebSearch":
        return "search", "WebSearch", f'"{_string(given, "query")}"'
    if name == "WebFetch":
        return "read", "WebFetch", _string(given, "url")
    if name in _AGENTS:
        kind = _string(given, "subagent_type")
        return "agent", f"Task {kind}:" if kind else "Task:", _string(given, "description") or _string(given, "prompt")
    if name == "TodoWrite":
        return "other", "Todos:", _todos(given.get("todos"))
    subject = next((value for key in _SUBJECTS if (value := _string(given, key))), "")
    return "other", _plain(name), _relative(subject, cwd)


def _path(given: JsonObject, cwd: str) -> str:
    return _relative(_string(given, "file_path") or _string(given, "notebook_path") or _string(given, "path"), cwd)


def _relative(path: str, cwd: str) -> str:
    """A path as seen from the working directory, where it lies within."""
    if cwd and path.startswith(cwd.rstrip("/") + "/"):
        return os.path.relpath(path, cwd)
    return path


def _command(command: str) -> str:
    """The first telling line of a command; a change of directory before it is left out."""
    for line in command.strip().splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            first, joined, rest = line.strip().partition(" && ")
            return rest if joined and first.startswith("cd ") and rest else line.strip()
    return ""


def _todos(todos: JsonValue) -> str:
    items = [item for item in todos if isinstance(item, dict)] if isinstance(todos, list) else []
    done = sum(item.get("status") == "completed" for item in items)
    now = [_string(item, "content") for item in items if item.get("status") == "in_progress"]
    later = [_string(item, "content") for item in items if item.get("status") == "pending"]
    told = [f"{done} of {len(items)} done"]
    told += [f"now: {', '.join(now)}"] if now else []
    told += [f"to do: {', '.join(later)}"] if later else []
    return "; ".join(told)


def _plain(name: str) -> str:
    """`mcp__github__get_issue` as `github get_issue`."""
    return name.removeprefix("mcp__").replace("__", " ") if name.startswith("mcp__") else name


def _reason(text: str) -> str:
    """The first line that says something."""
    cleaned = text.replace("<tool_use_error>", "").replace("</tool_use_error>", "")
    return next((line for line in cleaned.splitlines() if len(line.strip()) > 3), "")


def _string(given: JsonObject, key: str) -> str:
    value = given.get(key)
    return value if isinstance(value, str) else ""
