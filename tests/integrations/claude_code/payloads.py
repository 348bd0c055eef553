"""What Claude Code posts to its hooks, an event each, with fields that nobody here knows."""

import json
from collections.abc import Callable, Mapping

from anamnesis.contracts.base import JsonObject

SESSION = "6f1c2d34-0000-4000-8000-5a5b5c5d5e5f"
AGENT = "/agent-a1b2c3d.jsonl"


def payload(event: str, transcript: str, cwd: str = "/srv/shop", **told: str | bool) -> bytes:
    """An event as it arrives on standard input."""
    common: JsonObject = {
        "session_id": SESSION,
        "transcript_path": transcript,
        "cwd": cwd,
        "permission_mode": "acceptEdits",
        "hook_event_name": event,
        "effort": {"level": "high"},
        "not_known_yet": [1, None, {"deep": ["\u00fc", "\U0001f9e0"]}],
    }
    return json.dumps({**common, **_OWN[event](transcript), **told}).encode()


_OWN: Mapping[str, Callable[[str], JsonObject]] = {
    "SessionStart": lambda _: {"source": "startup", "model": "claude-opus-4-6", "session_title": "shop"},
    "UserPromptSubmit": lambda _: {"prompt": "Why did the upload test fail?", "prompt_id": "p_1"},
    "Stop": lambda _: {
        "stop_hook_active": False,
        "last_assistant_message": "It waited two seconds for a server that needs four.",
        "background_tasks": [],
    },
    "SubagentStop": lambda transcript: {
        "stop_hook_active": False,
        "agent_id": "a1b2c3d",
        "agent_type": "Explore",
        "agent_transcript_path": transcript.removesuffix(".jsonl") + "/subagents" + AGENT,
        "last_assistant_message": "Found it.",
    },
    "PreCompact": lambda _: {"trigger": "auto", "custom_instructions": ""},
    "SessionEnd": lambda _: {"reason": "prompt_input_exit"},
}
EVENTS = tuple(_OWN)
