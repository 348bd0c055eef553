"""The chat's page: conversations, the answer as it is written, and what was recalled for it.

It holds no data: its module asks the paths of the chat and of memory with the reader's own identity.
"""

from typing import NamedTuple
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from services.gateway.dashboard.shell import Shell


class Setup(NamedTuple):
    """How a backend is configured: the lines to set, as they stand in `.env`."""

    name: str
    title: str
    about: str
    lines: tuple[str, ...]


SETUPS = (
    Setup(
        "ollama",
        "Ollama",
        "A model on this machine or another one of yours.",
        ("ANAMNESIS_OLLAMA_URL=http://127.0.0.1:11434",),
    ),
    Setup(
        "openai",
        "Any OpenAI-compatible endpoint",
        "vLLM, llama.cpp, LM Studio, or a hosted one with its key.",
        ("ANAMNESIS_OPENAI_URLS=http://127.0.0.1:8000/v1", "ANAMNESIS_OPENAI_API_KEY=the-key-that-it-wants"),
    ),
    Setup("claude", "Claude API", "With a key of your own.", ("ANAMNESIS_CLAUDE_API_KEY=sk-ant-your-key",)),
    Setup(
        "claude-cli",
        "Claude Code",
        "The claude binary where the gateway runs, over its subscription.",
        ("ANAMNESIS_CLAUDE_CLI=claude",),
    ),
    Setup(
        "anamnesis-gpt",
        "AnamnesisGPT",
        "A trainer of this platform, with the vessels that have learned on it.",
        ("TRAINER_URLS=http://127.0.0.1:3011",),
    ),
)


def routes(shell: Shell) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/chat")
    async def page(request: Request) -> Response:
        return shell.page(request, "chat.html", "chat", {"setups": SETUPS})

    @router.get("/chat/{session_id}")
    async def session(request: Request, session_id: str) -> Response:
        """The other way to write a conversation's address."""
        return _to(request, "session=" + quote(session_id, safe=""))

    @router.get("/dashboard/chat")
    async def tab(request: Request) -> Response:
        return _to(request, request.url.query)

    return router


def _to(request: Request, query: str) -> Response:
    root = str(request.scope.get("root_path", "")).rstrip("/")
    return RedirectResponse(f"{root}/chat" + (f"?{query}" if query else ""), 303)
