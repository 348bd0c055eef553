"""The plugin's files: each of the shape that Claude Code reads, naming only what exists."""

import ast
import json
import re
from pathlib import Path

import pytest

from anamnesis import __version__
from services.gateway.hooks.events import HookEvent
from tests.integrations.claude_code.hooking import HOOK, ROOT

PLUGIN = ROOT / "integrations" / "claude-code"
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def read(path: Path) -> dict[str, object]:
    """A JSON object in which no name stands twice."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    value: dict[str, object] = json.loads(path.read_text(), object_pairs_hook=once)
    return value


def tools() -> dict[str, set[str]]:
    """The tools of the gateway, each with its arguments."""
    tree = ast.parse((ROOT / "services" / "gateway" / "surfaces" / "mcp.py").read_text())
    return {
        node.name: {argument.arg for argument in node.args.args}
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef)
        and any("server.tool" in ast.unparse(one) for one in node.decorator_list)
    }


def test_the_marketplace_lists_the_plugin() -> None:
    """The repository's root is a marketplace; the source is a directory below it with the manifest of that name."""
    market = read(ROOT / ".claude-plugin" / "marketplace.json")
    assert set(market) == {"name", "owner", "metadata", "plugins"}
    assert NAME.fullmatch(str(market["name"]))
    assert isinstance(market["owner"], dict)
    assert market["owner"]["name"]
    assert isinstance(market["plugins"], list)
    [plugin] = market["plugins"]
    assert plugin["source"].startswith("./")
    manifest = read(ROOT / plugin["source"] / ".claude-plugin" / "plugin.json")
    assert manifest["name"] == plugin["name"]


def test_the_manifest() -> None:
    """Only fields that Claude Code knows; what lies at its usual place is not named again."""
    manifest = read(PLUGIN / ".claude-plugin" / "plugin.json")
    assert set(manifest) <= {
        "name",
        "version",
        "description",
        "author",
        "license",
        "keywords",
        "homepage",
        "repository",
    }
    assert NAME.fullmatch(str(manifest["name"]))
    assert manifest["version"] == __version__
    assert {path.name for path in (PLUGIN / ".claude-plugin").iterdir()} == {"plugin.json"}


def test_the_hooks() -> None:
    """Every event that the gateway answers, each with the command that exists; none stands in the way when it fails."""
    hooks = read(PLUGIN / "hooks" / "hooks.json")["hooks"]
    assert isinstance(hooks, dict)
    assert set(hooks) == {event.value for event in HookEvent}
    for event, groups in hooks.items():
        [group] = groups
        [hook] = group["hooks"]
        assert set(hook) == {"type", "command", "timeout"}
        assert hook["type"] == "command"
        found = re.fullmatch(
            r'python3 -S -I "\$\{CLAUDE_PLUGIN_ROOT\}/(\S+)" (\w+) 2>/dev/null \|\| true', hook["command"]
        )
        assert found
        assert PLUGIN / found[1] == HOOK
        assert found[2] == event


def test_the_tools() -> None:
    """The gateway's own path over HTTP; address and key come from the environment, and no key stands in the file."""
    servers = read(PLUGIN / ".mcp.json")["mcpServers"]
    assert servers == {
        "anamnesis": {
            "type": "http",
            "url": "${ANAMNESIS_URL:-http://127.0.0.1:3010}/mcp",
            "headers": {"X-API-Key": "${MEMORY_KEY:-}"},
        }
    }


@pytest.mark.parametrize("name", ["recall", "remember", "forget"])
def test_the_commands(name: str) -> None:
    """Each has its words in front, takes what was typed, and names only tools and arguments that there are."""
    _, front, body = (PLUGIN / "commands" / f"{name}.md").read_text().split("---\n", 2)
    fields = dict(line.split(": ", 1) for line in front.splitlines())
    assert set(fields) == {"description", "argument-hint", "allowed-tools"}
    known = tools()
    allowed = fields["allowed-tools"].split(", ")
    assert {one.removeprefix("mcp__plugin_anamnesis_anamnesis__") for one in allowed} <= set(known)
    assert "$ARGUMENTS" in body
    called = set(re.findall(r"[Cc]all (?:the tool )?`(\w+)`", body))
    assert called <= set(known)
    assert called
    named = set(re.findall(r"`(\w+)`", body)) - set(known) - {"anamnesis"}
    arguments = set().union(*(known[one] for one in called))
    assert named <= arguments, named - arguments


def test_forgetting_asks_first() -> None:
    """The one tool that destroys is in nobody's list of what needs no asking."""
    for path in (PLUGIN / "commands").iterdir():
        assert "__forget" not in path.read_text()


def test_the_commands_are_all_tested() -> None:
    assert {path.stem for path in (PLUGIN / "commands").iterdir()} == {"recall", "remember", "forget"}
