"""`anamnesis connect` and `disconnect` as people run them, on configurations of all kinds, against scripted keys."""

import json
import stat
import subprocess
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from anamnesis.contracts.base import now
from anamnesis.contracts.keys import Identity, KeyCreated, KeysRevoked, Scope, Session
from anamnesis.kit.auth import new_key
from tests.services.console.conftest import KEY, Command, Outcome

CLIENTS = ("claude-code", "codex", "cursor", "mcp")
SETTINGS = (
    '{\n  "model": "opus",\n  "hooks": {\n    "Stop": [{"hooks": [{"type": "command", "command": "mine"}]}]\n  }\n}\n'
)
CLAUDE = '{"numStartups": 12, "mcpServers": {"docs": {"type": "http", "url": "https://docs.example/mcp"}}}'
CODEX = '# my settings\nmodel = "o"\n\n[mcp_servers.docs]\nurl = "https://docs.example/mcp" # theirs\n'
CURSOR = '{\n  // my servers\n  "mcpServers": {}\n}\n'


class Gateway:
    """Makes and knows keys as a gateway does."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, Scope]] = {"key_admin": (KEY, Scope.ADMIN)}
        self.url = ""
        self.refuses_revoking = False

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/api/session", self._session)
        app.router.add_post("/api/keys", self._create)
        app.router.add_delete("/api/keys/{key_id}", self._revoke)
        return app

    def _who(self, request: web.Request) -> tuple[str, Scope] | None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return next(((key_id, scope) for key_id, (key, scope) in self.keys.items() if key == given), None)

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _session(self, request: web.Request) -> web.Response:
        who = self._who(request)
        if who is None:
            return _error(401, "unauthorized", "send a valid API key")
        session = Session(identity=Identity(key_id=who[0], name="x", scope=who[1]), csrf_token=None)
        return web.Response(text=session.model_dump_json(), content_type="application/json")

    async def _create(self, request: web.Request) -> web.Response:
        who = self._who(request)
        if who is None or who[1] is not Scope.ADMIN:
            return _error(403, "forbidden", "this needs a key of scope 'admin'")
        asked = json.loads(await request.read())
        made = KeyCreated(
            key_id=f"key_{len(self.keys)}", name=asked["name"], scope=asked["scope"], created_at=now(), key=new_key()
        )
        self.keys[made.key_id] = made.key, made.scope
        return web.Response(text=made.model_dump_json(), content_type="application/json", status=201)

    async def _revoke(self, request: web.Request) -> web.Response:
        key_id = request.match_info["key_id"]
        if self.refuses_revoking:
            return _error(403, "forbidden", "not with this key")
        if self.keys.pop(key_id, None) is None:
            return _error(404, "not_found", "there is no such key")
        return web.Response(text=KeysRevoked(key_ids=(key_id,)).model_dump_json(), content_type="application/json")


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message, "detail": None}}, status=status)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    one = Gateway()
    runner = web.AppRunner(one.application(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield one
    finally:
        await runner.cleanup()


class Person:
    """Somebody with configurations, who connects programs."""

    def __init__(self, home: Path, gateway: Gateway) -> None:
        self.home = home
        self.gateway = gateway
        self.command = Command(gateway.url, home)
        self.folder = home / ".config" / "anamnesis" / "clients"

    async def __call__(self, *arguments: str, **environment: str) -> Outcome:
        plain = {"XDG_CONFIG_HOME": "", "CLAUDE_CONFIG_DIR": "", "CODEX_HOME": ""}
        return await self.command(*arguments, **{**plain, **environment})

    def has(self, path: str, text: str) -> Path:
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def all(self) -> dict[str, str]:
        """Every file but what is kept beside keys."""
        return {
            str(path.relative_to(self.home)): path.read_text()
            for path in self.home.rglob("*")
            if path.is_file() and ".config" not in path.parts and "data" not in path.parts
        }


@pytest.fixture
def person(gateway: Gateway, tmp_path: Path) -> Person:
    home = tmp_path / "home"
    home.mkdir()
    return Person(home, gateway)


def equip(person: Person) -> None:
    person.has(".claude/settings.json", SETTINGS)
    person.has(".claude.json", CLAUDE)
    person.has(".codex/config.toml", CODEX)
    person.has(".cursor/mcp.json", CURSOR)


@pytest.mark.parametrize("equipped", [True, False])
@pytest.mark.parametrize("scope", ["--user", "--project"])
@pytest.mark.parametrize("client", CLIENTS)
async def test_there_and_back(person: Person, client: str, scope: str, equipped: bool) -> None:
    """Connected twice is connected once; disconnected, every file is byte for byte what it was, and the key is gone."""
    if equipped:
        equip(person)
    before = person.all()
    done = await person("connect", client, scope, "--yes")
    assert done.status == 0, done.err
    assert len(person.gateway.keys) == 2
    connected = person.all()
    assert (connected != before) == (client != "mcp")
    again = await person("connect", client, scope, "--yes")
    assert again.status == 0, again.err
    assert "there is nothing to change" in again.out
    assert person.all() == connected
    assert len(person.gateway.keys) == 2
    undone = await person("disconnect", client, scope, "--yes")
    assert undone.status == 0, undone.err
    assert person.all() == before
    assert list(person.gateway.keys) == ["key_admin"]
    assert not list(person.folder.iterdir())


@pytest.mark.parametrize("scope", ["--user", "--project"])
@pytest.mark.parametrize("client", CLIENTS)
async def test_no_key_is_shown_or_shared(person: Person, client: str, scope: str) -> None:
    """The key is in files of mode 600 outside every configuration, and on no screen."""
    equip(person)
    done = await person("connect", client, scope, "--yes")
    key, found_scope = person.gateway.keys["key_1"]
    assert found_scope is Scope.WRITE
    for text in (*person.all().values(), done.out, done.err):
        assert key not in text
    [folder] = person.folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    holding = [path for path in folder.rglob("*") if path.is_file() and key in path.read_text()]
    assert {path.name for path in holding} == {"client.json", "headers.json", "key"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()} == {0o600}


def shell(line: str) -> bytes:
    """What a line prints, as Claude Code runs it."""
    ran = subprocess.run(["sh", "-c", line], input=b"{}", capture_output=True, timeout=30, env={"HOME": "/none"})
    assert (ran.returncode, ran.stderr) == (0, b"")
    return ran.stdout


async def test_what_is_written_for_claude_code(person: Person) -> None:
    """Hooks for every event beside those that were there, and the tools, which read the key from its file."""
    equip(person)
    shown = await person("connect", "claude-code", "--yes")
    settings = json.loads((person.home / ".claude" / "settings.json").read_text())
    assert settings["model"] == "opus"
    assert settings["hooks"]["Stop"][0]["hooks"][0]["command"] == "mine"
    ours = {event: groups[-1]["hooks"][0]["command"] for event, groups in settings["hooks"].items()}
    assert set(ours) == {"SessionStart", "UserPromptSubmit", "Stop", "SubagentStop", "PreCompact", "SessionEnd"}
    for event, line in ours.items():
        assert line.endswith(f"anamnesis_hook.py {event} 2>/dev/null || true")
        assert shell(line) == b""
    server = json.loads((person.home / ".claude.json").read_text())["mcpServers"]["anamnesis"]
    assert server["url"] == f"{person.gateway.url}/mcp"
    assert json.loads(shell(server["headersHelper"])) == {"X-API-Key": person.gateway.keys["key_1"][0]}
    assert "+++ " in shown.out
    assert "anamnesis_hook.py" in shown.out


async def test_a_project_says_nothing_of_this_machine(person: Person) -> None:
    """What is likely committed names a variable; what names programs of this machine is Claude Code's local file."""
    await person("connect", "claude-code", "--project", "--yes")
    shared = (person.home / ".mcp.json").read_text()
    assert "${MEMORY_KEY}" in shared
    assert str(person.home) not in shared
    assert "anamnesis_hook.py" in (person.home / ".claude" / "settings.local.json").read_text()
    assert not (person.home / ".claude.json").exists()


async def test_what_is_written_for_codex_and_cursor(person: Person) -> None:
    """Their own ways to name a variable; comments stay."""
    equip(person)
    done = await person("connect", "codex", "--yes")
    await person("connect", "cursor", "--yes")
    text = (person.home / ".codex" / "config.toml").read_text()
    assert text.startswith(CODEX)
    servers = tomllib.loads(text)["mcp_servers"]
    assert servers["anamnesis"] == {"url": f"{person.gateway.url}/mcp", "bearer_token_env_var": "MEMORY_KEY_CODEX"}
    assert "export MEMORY_KEY_CODEX=" in done.err
    cursor = (person.home / ".cursor" / "mcp.json").read_text()
    assert "// my servers" in cursor
    assert "${env:MEMORY_KEY_CURSOR}" in cursor


async def test_the_snippet_is_json(person: Person) -> None:
    done = await person("connect", "mcp", "--yes")
    snippet = done.out[done.out.index("{") :]
    assert json.loads(snippet)["mcpServers"]["anamnesis"]["url"] == f"{person.gateway.url}/mcp"


@pytest.mark.parametrize("client", ["claude-code", "codex", "cursor"])
async def test_nothing_happens_without_a_yes(person: Person, client: str) -> None:
    """Neither a dry run nor a missing answer changes a file or makes a key, but what would change is shown."""
    equip(person)
    before = person.all()
    for arguments in ((), ("--dry-run",)):
        done = await person("connect", client, *arguments)
        assert "+++ " in done.out
        assert person.all() == before
        assert list(person.gateway.keys) == ["key_admin"]
        assert not person.folder.exists()
    dry = await person("connect", client, "--dry-run", ANAMNESIS_URL="http://127.0.0.1:9")
    assert dry.status == 0, dry.err


async def test_disconnecting_leaves_what_others_wrote(person: Person) -> None:
    """The files were edited meanwhile: exactly what was written goes, entries and comments of others stay."""
    equip(person)
    for client in ("claude-code", "codex", "cursor"):
        await person("connect", client, "--yes")
    settings = json.loads((person.home / ".claude" / "settings.json").read_text())
    settings["hooks"]["Stop"].append({"hooks": [{"type": "command", "command": "later"}]})
    settings["theme"] = "dark"
    person.has(".claude/settings.json", json.dumps(settings))
    servers = json.loads((person.home / ".claude.json").read_text())
    servers["mcpServers"]["anamnesis"]["alwaysLoad"] = True
    person.has(".claude.json", json.dumps(servers))
    toml = person.home / ".codex" / "config.toml"
    toml.write_text(toml.read_text() + '\n# new\n[projects."/srv"]\ntrust_level = "trusted"\n')
    cursor = person.home / ".cursor" / "mcp.json"
    cursor.write_text(cursor.read_text().replace("// my servers", "// our servers"))
    for client in ("claude-code", "codex", "cursor"):
        assert (await person("disconnect", client, "--yes")).status == 0
    left = json.loads((person.home / ".claude" / "settings.json").read_text())
    commands = [group["hooks"][0]["command"] for group in left["hooks"]["Stop"]]
    assert (left["model"], left["theme"], list(left["hooks"]), commands) == (
        "opus",
        "dark",
        ["Stop"],
        ["mine", "later"],
    )
    assert json.loads((person.home / ".claude.json").read_text()) == json.loads(CLAUDE)
    assert toml.read_text().startswith(CODEX.rstrip())
    assert tomllib.loads(toml.read_text()) == {**tomllib.loads(CODEX), "projects": {"/srv": {"trust_level": "trusted"}}}
    assert "# new" in toml.read_text()
    assert "anamnesis" not in cursor.read_text()
    assert "// our servers" in cursor.read_text()


async def test_an_entry_of_somebody_else_is_not_taken(person: Person) -> None:
    """A server of this name that was written by hand: refused with what to do, and nothing has changed."""
    person.has(".cursor/mcp.json", '{"mcpServers": {"anamnesis": {"url": "http://other"}}}')
    before = person.all()
    done = await person("connect", "cursor", "--yes")
    assert done.status == 1
    assert "remove it or give it another name" in done.err
    assert (person.all(), list(person.gateway.keys)) == (before, ["key_admin"])


@pytest.mark.parametrize(
    ("client", "path", "text"),
    [
        ("claude-code", ".claude/settings.json", "{"),
        ("claude-code", ".claude.json", "[]"),
        ("codex", ".codex/config.toml", "a = "),
        ("cursor", ".cursor/mcp.json", "servers: yaml"),
    ],
)
async def test_what_cannot_be_read_is_not_changed(person: Person, client: str, path: str, text: str) -> None:
    """One line says which file and what to do; no other file has changed either, and no key was made."""
    file = person.has(path, text)
    done = await person("connect", client, "--yes")
    assert done.status == 1
    assert str(file) in done.err
    assert "mend it" in done.err
    assert len(done.err.splitlines()) == 1
    assert (person.all(), list(person.gateway.keys)) == ({path: text}, ["key_admin"])


async def test_links_and_rights_stay(person: Person) -> None:
    """A configuration that is a link into somebody's own repository is changed there, with the rights that it had."""
    real = person.has("dotfiles/settings.json", SETTINGS)
    real.chmod(0o640)
    (person.home / ".claude").mkdir()
    (person.home / ".claude" / "settings.json").symlink_to(real)
    await person("connect", "claude-code", "--yes")
    assert (person.home / ".claude" / "settings.json").is_symlink()
    assert "anamnesis_hook.py" in real.read_text()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


async def test_a_revoked_key_is_replaced(person: Person) -> None:
    """Connecting again mends it: a new key, and the files as they are."""
    await person("connect", "claude-code", "--yes")
    person.gateway.keys.pop("key_1")
    before = person.all()
    done = await person("connect", "claude-code", "--yes")
    assert done.status == 0, done.err
    assert person.all() == before
    kept = (person.folder / "claude-code" / "key").read_text().strip()
    assert kept in [key for key, _ in person.gateway.keys.values()]


async def test_another_address_moves_the_connection(person: Person) -> None:
    """Connected to another gateway, the entries are replaced, not doubled."""
    equip(person)
    before = person.all()
    await person("connect", "cursor", "--yes")
    other = person.gateway.url.replace("127.0.0.1", "localhost")
    moved = await person("--url", other, "connect", "cursor", "--yes")
    text = (person.home / ".cursor" / "mcp.json").read_text()
    assert f"{other}/mcp" in text
    assert person.gateway.url not in text
    assert "still opens" in moved.err
    assert (await person("--url", other, "disconnect", "cursor", "--yes")).status == 0
    assert person.all() == before


async def test_a_key_that_is_handed_in(person: Person) -> None:
    """It is checked, used and never revoked; one that may only read, or that nobody knows, is refused."""
    write, read = new_key(), new_key()
    person.gateway.keys |= {"key_w": (write, Scope.WRITE), "key_r": (read, Scope.READ)}
    for wrong in (read, new_key(), "short"):
        refused = await person("connect", "codex", "--client-key", wrong, "--yes", ANAMNESIS_API_KEY="")
        assert refused.status == 1
        assert "--client-key" in refused.err
        assert wrong not in refused.err
    done = await person("connect", "codex", "--client-key", write, "--yes", ANAMNESIS_API_KEY="")
    assert done.status == 0, done.err
    assert (person.folder / "codex" / "key").read_text().strip() == write
    assert (await person("disconnect", "codex", "--yes")).status == 0
    assert "key_w" in person.gateway.keys


async def test_without_the_right_to_make_keys(person: Person) -> None:
    """It says which key is needed or how to hand one in, and has changed nothing."""
    write = new_key()
    person.gateway.keys["key_w"] = (write, Scope.WRITE)
    done = await person("connect", "codex", "--yes", ANAMNESIS_API_KEY=write)
    assert done.status == 1
    assert "--client-key" in done.err
    assert person.all() == {}


async def test_disconnecting_while_the_gateway_is_away(person: Person) -> None:
    """The files are put back; the key that is left is named, and ends with the next try."""
    await person("connect", "cursor", "--yes")
    person.gateway.refuses_revoking = True
    for _ in range(2):
        done = await person("disconnect", "cursor", "--yes")
        assert done.status == 1
        assert "keys revoke key_1" in done.err
        assert person.all() == {}
    person.gateway.refuses_revoking = False
    assert (await person("disconnect", "cursor", "--yes")).status == 0
    assert list(person.gateway.keys) == ["key_admin"]
    unknown = await person("disconnect", "cursor", "--yes")
    assert (unknown.status, "is not connected here" in unknown.err) == (1, True)


async def test_with_the_plugin_only_the_key_is_made(person: Person) -> None:
    """The plugin brings its own hooks and tools: doubled, everything would be told twice."""
    person.has(".claude/settings.json", json.dumps({"enabledPlugins": {"anamnesis@anamnesis": True}}))
    before = person.all()
    done = await person("connect", "claude-code", "--yes")
    assert done.status == 0, done.err
    assert person.all() == before
    assert (person.folder / "claude-code" / "client.json").exists()
    assert "The plugin is installed" in done.out


async def test_it_reads_other_places(person: Person) -> None:
    """CLAUDE_CONFIG_DIR, CODEX_HOME and XDG_CONFIG_HOME say where files are."""
    places = {
        "CLAUDE_CONFIG_DIR": str(person.home / "cc"),
        "CODEX_HOME": str(person.home / "cx"),
        "XDG_CONFIG_HOME": str(person.home / "xdg"),
    }
    for client in ("claude-code", "codex"):
        assert (await person("connect", client, "--yes", **places)).status == 0
    found = {str(path.relative_to(person.home)) for path in person.home.rglob("*") if path.is_file()}
    assert {"cc/settings.json", "cc/.claude.json", "cx/config.toml", "xdg/anamnesis/clients/codex/key"} <= found
    assert not (person.home / ".claude").exists()
