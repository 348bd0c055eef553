"""The programs that can be connected: which of their files say what, and how each learns the key.

No key stands in a file that may be shared: it is in a file of mode 600 that the program reads where it can, else in an
environment variable that is named.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from anamnesis.kit.errors import BadRequest
from services.console.connect import jsontext
from services.console.connect.client import Client
from services.console.connect.edits import Edit, Wanted, read

EVENTS = ("SessionStart", "UserPromptSubmit", "Stop", "SubagentStop", "PreCompact", "SessionEnd")
HOOK = "anamnesis_hook.py"
SERVER = "anamnesis"


class Setup(NamedTuple):
    """What a connection consists of, beside the key."""

    wanted: tuple[Wanted, ...]
    hook: bool = False
    """Whether the command hook is kept beside the key."""
    variable: str | None = None
    """The environment variable that the program takes the key from; none = it reads the file."""
    say: str = ""
    """What is to be known or copied."""


class Where(NamedTuple):
    """Where it is connected."""

    url: str
    folder: Path
    """The directory that keeps key and record."""
    project: Path | None
    home: Path
    environment: Mapping[str, str]


def setup(client: Client, where: Where) -> Setup:
    match client:
        case Client.claude_code:
            return _claude_code(where)
        case Client.codex:
            return _codex(where)
        case Client.cursor:
            return _cursor(where)
        case Client.mcp:
            return _mcp(where)


def source() -> str:
    """The command hook as this project has it."""
    path = Path(__file__).parents[3] / "integrations" / "claude-code" / "hooks" / HOOK
    try:
        return path.read_text()
    except OSError:
        raise BadRequest(f"the hook is not at {path}; run the command from a whole copy of the project") from None


def command() -> list[str]:
    """How the hook starts `anamnesis`."""
    beside = Path(sys.executable).parent / "anamnesis"
    found = str(beside) if beside.is_file() else shutil.which("anamnesis")
    return [os.path.abspath(found)] if found else []


def _claude_code(where: Where) -> Setup:
    named = where.environment.get("CLAUDE_CONFIG_DIR", "").partition(",")[0].strip()
    base = Path(named).expanduser() if named else where.home / ".claude"
    settings = base / "settings.json"
    if where.project is not None:
        # This file names programs of this machine: it is the one that Claude Code keeps out of the repository.
        settings = where.project / ".claude" / "settings.local.json"
        tools, headers = where.project / ".mcp.json", _header("X-API-Key", "${MEMORY_KEY}")
    else:
        tools = base / ".claude.json" if named else where.home / ".claude.json"
        headers = {"headersHelper": f"cat {shlex.quote(str(where.folder / 'headers.json'))}"}
    if where.project is None and _has_plugin(settings):
        return Setup((), variable="MEMORY_KEY", say="The plugin is installed: hooks and tools are its own.")
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else os.path.realpath(sys.executable)
    start = f"{shlex.quote(python)} -S -I {shlex.quote(str(where.folder / HOOK))}"
    hooks = tuple(_hook(event, f"{start} {event} 2>/dev/null || true") for event in EVENTS)
    server: JsonValue = {"type": "http", "url": where.url + "/mcp", **headers}
    return Setup(
        (
            Wanted(settings, "json", hooks),
            Wanted(tools, "json", (Edit(where=("mcpServers", SERVER), value=server),)),
        ),
        hook=True,
        variable="MEMORY_KEY" if where.project is not None else None,
    )


def _hook(event: str, line: str) -> Edit:
    value: JsonValue = {"hooks": [{"type": "command", "command": line, "timeout": 5}]}
    return Edit(where=("hooks", event), value=value, item=True)


def _has_plugin(settings: Path) -> bool:
    """Whether the plugin does already what would be written."""
    try:
        value = jsontext.value(read(settings) or "{}")
    except jsontext.NotJson:
        return False  # said when the file is to be changed
    enabled = value.get("enabledPlugins") if isinstance(value, dict) else None
    return isinstance(enabled, dict) and any(
        name.startswith(f"{SERVER}@") and on is True for name, on in enabled.items()
    )


def _codex(where: Where) -> Setup:
    named = where.environment.get("CODEX_HOME", "").strip()
    base = where.project / ".codex" if where.project else Path(named).expanduser() if named else where.home / ".codex"
    variable = "MEMORY_KEY_CODEX"
    server: JsonValue = {"url": where.url + "/mcp", "bearer_token_env_var": variable}
    wanted = Wanted(base / "config.toml", "toml", (Edit(where=("mcp_servers", SERVER), value=server),))
    return Setup((wanted,), variable=variable)


def _cursor(where: Where) -> Setup:
    variable = "MEMORY_KEY_CURSOR"
    server: JsonValue = {"url": where.url + "/mcp", **_header("X-API-Key", f"${{env:{variable}}}")}
    path = (where.project or where.home) / ".cursor" / "mcp.json"
    return Setup((Wanted(path, "json", (Edit(where=("mcpServers", SERVER), value=server),)),), variable=variable)


def _mcp(where: Where) -> Setup:
    server: JsonValue = {"type": "http", "url": where.url + "/mcp", **_header("X-API-Key", "${MEMORY_KEY}")}
    snippet = jsontext.with_member("{}", ("mcpServers", SERVER), server)
    return Setup((), variable="MEMORY_KEY", say=snippet)


def _header(name: str, value: str) -> dict[str, JsonValue]:
    return {"headers": {name: value}}
