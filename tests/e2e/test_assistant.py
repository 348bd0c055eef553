"""An assistant's program with everything behind it: hooks that remember and recall, and tools over MCP."""

import json
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from tests.e2e.conftest import KEY, Stack, running

SESSION = "5e551017-0000-4000-8000-00000000000a"
LATER = "5e551017-0000-4000-8000-00000000000b"
CWD = "/home/ada/projects/webshop"
ASKED = "Which port does the payment sandbox listen on?"
ANSWERED = "The payment sandbox listens on 8471, which is set in compose.override.yml beside its certificate."


def write(root: Path) -> None:
    folder = root / "-home-ada-projects-webshop"
    folder.mkdir(parents=True)
    records = [
        {
            "type": role,
            "uuid": f"u{number}",
            "parentUuid": f"u{number - 1}" if number else None,
            "sessionId": SESSION,
            "timestamp": f"2026-03-01T10:0{number}:00Z",
            "cwd": CWD,
            "isSidechain": False,
            "message": {"role": role, "content": text if role == "user" else [{"type": "text", "text": text}]},
        }
        for number, (role, text) in enumerate((("user", ASKED), ("assistant", ANSWERED)))
    ]
    (folder / f"{SESSION}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def hook(stack: Stack, event: str, **fields: str) -> dict[str, Any]:
    body = {"session_id": LATER, "cwd": CWD, "hook_event_name": event, **fields}
    with stack.client() as client:
        answer = client.post(f"/hooks/{event}", json=body)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def until(seconds: float, check: Any) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
    return found


@pytest.mark.slow
def test_hooks_remember_and_recall(tmp_path: Path) -> None:
    """A Stop has the transcript read; a later session is told of it, and its use is counted."""
    roots = tmp_path / "transcripts"
    write(roots)
    extra = {"ANAMNESIS_TRANSCRIPT_ROOTS": str(roots), "ANAMNESIS_INGEST_POLL": "0"}
    with running(tmp_path / "data", extra=extra) as stack:
        assert hook(stack, "Stop", session_id=SESSION) == {}
        with stack.client() as client:
            until(60, lambda: client.get("/api/episodes").json()["total"])
            begun = hook(stack, "session-start", session_id="another", source="startup")
            assert "payment sandbox" in begun["hookSpecificOutput"]["additionalContext"]
            # A machine under load may take longer than a hook waits: then the next prompt is told.
            told = until(60, lambda: hook(stack, "UserPromptSubmit", prompt=f"{time.time()} {ASKED}"))
            assert "8471" in told["hookSpecificOutput"]["additionalContext"]
            hook(stack, "Stop", last_assistant_message="It is 8471, as compose.override.yml says.")
            counts = until(60, lambda: (found := client.get("/api/episodes/usefulness").json())["used"] and found)
            assert counts["used"] == 1


@pytest.mark.slow
async def test_tools_work_on_a_real_memory(stack: Stack) -> None:
    """What an assistant adds it finds again, sees in its time, reads whole, rates, and forgets for good."""

    def ok(result: CallToolResult) -> Any:
        assert not result.is_error, result.content
        return result.structured_content

    headers = {"X-API-Key": KEY, "X-Anamnesis-Project": "tools"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{stack.url()}/mcp", http_client=http)) as assistant,
    ):
        for number, summary in enumerate(
            ("We bake the bread with rye flour.", "The oven is serviced by Katarzyna.", "The shop opens at seven.")
        ):
            arguments = {"summary": summary, "when": f"2026-03-0{number + 1}T08:00:00Z"}
            added = ok(await assistant.call_tool("add", arguments))
            assert added["created"]
        again = ok(await assistant.call_tool("add", {"summary": "The shop opens at seven."}))
        assert again == {"id": added["id"], "created": False}
        (first, *_) = ok(await assistant.call_tool("search", {"query": "Who services the oven?"}))["episodes"]
        assert first["line"] == "The oven is serviced by Katarzyna."
        around = ok(await assistant.call_tool("timeline", {"episode_id": first["id"]}))
        assert [one["line"][:7] for one in around["episodes"]] == ["We bake", "The ove", "The sho"]
        (whole,) = ok(await assistant.call_tool("get", {"ids": [first["id"]]}))["episodes"]
        assert (whole["text"], whole["trust"], whole["source"]) == (first["line"], "assistant", "mcp")
        assert ok(await assistant.call_tool("feedback", {"useful": [first["id"]]})) == {"counted": 1}
        receipt = ok(await assistant.call_tool("forget", {"episode_id": first["id"]}))
        assert receipt["proof"]["by_id"] == 0
        assert ok(await assistant.call_tool("get", {"ids": [first["id"]]}))["missing"] == [first["id"]]
        refused = await assistant.call_tool("add", {"summary": "The oven is serviced by Katarzyna."})
        assert refused.is_error
