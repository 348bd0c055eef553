"""The command hook against real services: recorded events recall and remember, also what came while they were away."""

import json
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Stack, running
from tests.e2e.reading import stored
from tests.integrations.claude_code.hooking import Home
from tests.integrations.claude_code.payloads import EVENTS, SESSION, payload
from tests.services.console.conftest import write_transcripts

FACT = {
    "instance": "laptop",
    "project": "shop",
    "summary": "Asked: Why does the upload test fail? Outcome: The storage server listens on port 9417 only after four "
    "seconds; tests/test_upload.py now waits for the port instead of sleeping.",
}


def house(tmp_path: Path, stack: Stack) -> Home:
    """A home whose `anamnesis` is the real command."""
    environment = f'PYTHONPATH="{ROOT}:{ROOT / "shared"}"'
    line = f'{environment} "{sys.executable}" -m services.console.main "$@" 2>>"{tmp_path}/errors"'
    home = Home(tmp_path / "home", stack.url(), line)
    with stack.client() as client:
        made = client.post("/api/keys", json={"name": "claude-code", "scope": "write"}).raise_for_status().json()
    home.environment["MEMORY_KEY"] = made["key"]
    return home


def transcripts(tmp_path: Path) -> tuple[str, str]:
    """The transcript of a session and of a subagent of it."""
    root = write_transcripts(tmp_path, sessions=2, exchanges=3)
    first, second = sorted(root.rglob("*.jsonl"))
    below = first.with_suffix("") / "subagents"
    below.mkdir(parents=True)
    second.rename(below / "agent-a1b2c3d.jsonl")
    return str(first), str(below)


@pytest.mark.slow
def test_every_event_recalls_or_remembers(tmp_path: Path, stack: Stack) -> None:
    """A prompt gets what bears on it; after the session its transcript is remembered, with its subagent's."""
    first, _ = transcripts(tmp_path)
    home = house(tmp_path, stack)
    with stack.client() as client:
        client.post("/api/episodes", json=FACT).raise_for_status()
    before = stored(stack)
    for event in EVENTS:
        ended = home.hook(event, payload(event, first))
        assert (ended.status, ended.err) == (0, b"")
        if event in ("SessionStart", "UserPromptSubmit"):
            # What was told at the start of a session is not told again with a prompt of it.
            told = ended.out or home.hook(event, payload(event, first, session_id="another")).out
            output = json.loads(told)["hookSpecificOutput"]
            assert output["hookEventName"] == event
            assert "9417" in output["additionalContext"]
        else:
            assert ended.out == b""
    home.wait(lambda: not home.noted() and stored(stack) > before, within=120)
    with stack.client() as client:
        found = client.get("/api/episodes", params={"project": "shop", "limit": 100}).json()["episodes"]
    said = " ".join(one["summary"] for one in found)
    assert "session 0" in said
    assert "session 1" in said, "the subagent's"
    assert SESSION not in said


@pytest.mark.slow
def test_what_came_while_the_services_were_away(tmp_path: Path) -> None:
    """Nobody answers at the end of a session; the first prompt of the next one has it read."""
    first, _ = transcripts(tmp_path)
    with running(tmp_path / "stack", "memory", "gateway") as stack:
        home = house(tmp_path, stack)
        stack.kill("gateway")
        ended = home.hook("SessionEnd", payload("SessionEnd", first))
        assert (ended.status, ended.out, ended.err) == (0, b"", b"")
        assert len(home.noted()) == 1
        stack.start("gateway")
        home.hook("UserPromptSubmit", payload("UserPromptSubmit", first))
        home.wait(lambda: not home.noted(), within=120)
        assert stored(stack) >= 3
