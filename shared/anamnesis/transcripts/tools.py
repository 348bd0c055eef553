"""Tool calls in one line each: what was called on what, and whether it worked.

Lines are short, and half a secret is not known for one: what was given to a tool, and what it said, is made safe
before anything is cut off.
"""

import os.path
from collections.abc import Callable
from typing import NamedTuple

from pydantic import JsonValue

from anamnesis.contracts.base import JsonObject
from anamnesis.transcripts.records import ToolUse

_LINE = 240  # characters of a condensed call
_WHY = 160  # characters of why it failed
_EDITS = frozenset(("Edit", "MultiEdit", "Write", "NotebookEdit", "Update", "Create"))
_SHELLS = frozenset(("Bash", "BashOutput", "PowerShell", "Shell"))
_AGENTS = frozenset(("Task", "Agent"))
_PATHS = ("file_path", "notebook_path", "path")
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


Safe = Callable[[str], str]
"""Takes secrets out of a text."""


class Done(NamedTuple):
    """A tool call as people would tell it."""

    line: str
    kind: str
    """`edit`, `read`, `run`, `search`, `agent` or `other`."""
    subject: str
    """The file, command, query or task."""
    failed: bool


def condense(use: ToolUse, cwd: str, finished: bool, failure: str | None, safe: Safe) -> Done:
    """One line for a call; `failure` is what the tool said when it failed. `safe` is given whole texts, each once."""
    kind, verb, subject = _tell(use, cwd, safe)
    # Only commands are worth saying that they worked; of all others one hears when they did not.
    if failure is not None:
        reason = one_line(_reason(safe(failure)), _WHY)
        outcome = f" (failed: {reason})" if reason else " (failed)"
    else:
        outcome = " (ok)" if kind == "run" and finished else ""
    line = f"{verb} {subject}".strip()
    return Done(one_line(line, _LINE) + outcome, kind, subject, failure is not None)


def one_line(text: str, length: int) -> str:
    """Text on one line of at most `length` characters."""
    flat = " ".join(text[: length * 4].split())
    return flat if len(flat) <= length else flat[: length - 1].rstrip() + "…"


def _tell(use: ToolUse, cwd: str, safe: Safe) -> tuple[str, str, str]:
    """Kind, verb and subject of a call."""
    name, given = use.name, use.input

    def first(*keys: str) -> str:
        return safe(next((value for key in keys if (value := _string(given, key))), ""))

    if name in _EDITS:
        return "edit", "Edit" if name != "Write" else "Write", _relative(first(*_PATHS), cwd)
    if name == "Read":
        return "read", "Read", _relative(first(*_PATHS), cwd)
    if name in _SHELLS:
        return "run", "Bash:", _command(first("command", "bash_id"))
    if name in ("Grep", "Glob"):
        where = _relative(first("path"), cwd)
        return "search", name, f'"{first("pattern")}"' + (f" in {where}" if where else "")
    if name == "WebSearch":
        return "search", "WebSearch", f'"{first("query")}"'
    if name == "WebFetch":
        return "read", "WebFetch", first("url")
    if name in _AGENTS:
        kind = first("subagent_type")
        return "agent", f"Task {kind}:" if kind else "Task:", first("description", "prompt")
    if name == "TodoWrite":
        return "other", "Todos:", safe(_todos(given.get("todos")))
    return "other", safe(_plain(name)), _relative(first(*_SUBJECTS), cwd)


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
