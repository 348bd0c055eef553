"""`anamnesis login` and `anamnesis keys`: what they print, where, and what they ask for."""

import json
from pathlib import Path

import pytest
from aiohttp import web

from anamnesis.contracts.base import now
from anamnesis.contracts.keys import KeyCreated, KeyInfo, KeyKind, KeyList, KeysRevoked, LoginLink, Scope
from anamnesis.kit.auth import new_key

from .conftest import Command, Memory

LINK = LoginLink(path="/login?token=abc_-123", expires_at=now())
MADE = KeyInfo(key_id="key_1", name="editor", scope=Scope.WRITE, created_at=now())


def _json(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/json")


async def test_login_prints_a_link_and_nothing_else(anamnesis: Command, memory: Memory) -> None:
    """The link stands alone on standard output, so that it can be handed on; how long it is good is a remark."""
    memory.answers["/api/login-links"] = _json(LINK.model_dump_json())
    done = await anamnesis("login")
    assert (done.status, done.out) == (0, f"{memory.url}/login?token=abc_-123\n")
    assert "works once" in done.err


async def test_login_opens_a_browser_when_asked_to(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """The browser of this machine gets the address."""
    memory.answers["/api/login-links"] = _json(LINK.model_dump_json())
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" >"{tmp_path}/opened"\n')
    browser.chmod(0o755)
    done = await anamnesis("login", "--open", BROWSER=f"{browser} %s")
    assert done.status == 0, done.err
    assert (tmp_path / "opened").read_text() == f"{memory.url}/login?token=abc_-123"


async def test_login_without_a_browser_says_so(anamnesis: Command, memory: Memory) -> None:
    """Where none can be opened, the printed address is what remains."""
    memory.answers["/api/login-links"] = _json(LINK.model_dump_json())
    done = await anamnesis("login", "--open", BROWSER="/bin/false %s", PATH="/nonexistent", DISPLAY="")
    assert done.status == 0
    assert done.out.startswith(memory.url)
    assert "open the address yourself" in done.err


async def test_keys_are_listed(anamnesis: Command, memory: Memory) -> None:
    """One line a key with tabs where no terminal is, and JSON when asked to."""
    session = KeyInfo(
        key_id="key_2",
        name="browser on\tFirefox\x1b[31m",
        scope=Scope.ADMIN,
        created_at=now(),
        kind=KeyKind.BROWSER,
        last_used=now(),
        expires_at=now(),
    )
    memory.answers["/api/keys"] = _json(KeyList(keys=(MADE, session)).model_dump_json())
    done = await anamnesis("keys", "list")
    assert done.status == 0, done.err
    head, first, second = done.out.splitlines()
    assert head.split("\t")[:4] == ["KEY", "NAME", "SCOPE", "KIND"]
    assert first.split("\t")[:4] == ["key_1", "editor", "write", "api"]
    assert first.split("\t")[5:] == ["never", "never"]
    assert second.split("\t")[2:4] == ["admin", "browser"]
    assert "\x1b" not in second
    shown = await anamnesis("keys", "list", "--json")
    assert [key["key_id"] for key in json.loads(shown.out)["keys"]] == ["key_1", "key_2"]


async def test_a_made_key_stands_alone(anamnesis: Command, memory: Memory) -> None:
    """Standard output has the key and nothing else; what was asked for is what was said."""
    made = KeyCreated(**MADE.model_dump(), key=new_key())
    memory.answers["/api/keys"] = _json(made.model_dump_json())
    done = await anamnesis("keys", "create", "editor", "--scope", "read", "--days", "30")
    assert (done.status, done.out) == (0, made.key + "\n")
    assert "shown this once" in done.err
    path, body = memory.asked[-1]
    assert path == "/api/keys"
    assert json.loads(body) == {"name": "editor", "scope": "read", "expires_in_days": 30.0, "kind": "api"}


@pytest.mark.parametrize("arguments", [("editor", "--scope", "service"), ("editor", "--days", "0"), ("",)])
async def test_what_is_no_key_is_not_asked_for(anamnesis: Command, memory: Memory, arguments: tuple[str, ...]) -> None:
    """A scope that nobody may have, an end in the past, no name: refused here, in one line or with the usage."""
    done = await anamnesis("keys", "create", *arguments)
    assert done.status != 0
    assert [path for path, _ in memory.asked if path != "/health"] == []


async def test_a_key_is_revoked_after_a_yes(anamnesis: Command, memory: Memory) -> None:
    """Without a yes nothing is asked; with one it says what has ended, and a refusal is one line."""
    assert (await anamnesis("keys", "revoke", "key_1")).status == 1
    assert memory.asked == []
    memory.answers["/api/keys/key_1"] = _json(KeysRevoked(key_ids=("key_1", "key_2")).model_dump_json())
    done = await anamnesis("keys", "revoke", "key_1", "--yes")
    assert (done.status, done.out) == (0, "key_1 opens nothing any more\n")
    assert "Logged out with it: key_2" in done.err
    refusal = {"error": {"code": "conflict", "message": "this is the last admin key", "detail": None}}
    memory.answers["/api/keys/key_1"] = web.json_response(refusal, status=409)
    refused = await anamnesis("keys", "revoke", "key_1", "--yes")
    assert (refused.status, refused.err) == (1, "anamnesis: this is the last admin key\n")
