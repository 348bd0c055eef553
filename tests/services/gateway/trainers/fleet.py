"""A gateway before scripted trainers, and what a caller sees of an answer."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
from pydantic import JsonValue

from anamnesis.contracts.base import JsonObject

from ..conftest import Behind, caller, gateway, settings_for
from ..upstreams import Script, Upstream, respond, sse, stream

GENERATE = "/api/anamnesis-gpt/generate"
STATUS = "/api/anamnesis-gpt/status"
ASK: JsonObject = {"prompt": "Once"}
WHOLE: JsonObject = {**ASK, "stream": False}

HELLO = sse({"text": "Hel"})
LO = sse({"text": "lo"})
PING = b": ping\n\n"
ROLE = sse({"text": ""})
FINISH = sse({"finish_reason": "stop", "usage": {"input_tokens": 1, "output_tokens": 2}})
DONE = b"data: [DONE]\n\n"
GOOD = stream([HELLO, LO, FINISH, DONE])
SECOND = stream([sse({"text": "second"}), FINISH, DONE])
"""What another trainer says."""


@dataclass
class Told:
    """An answer as its caller got it."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    whole: bool = True
    """The body ended with its end mark."""
    text: str = ""
    error: JsonObject = field(default_factory=dict)
    """The error of the envelope, wherever it came."""
    done: bool = False
    """`[DONE]` came."""

    @property
    def attempts(self) -> list[tuple[str, str]]:
        """Endpoint and reason of each try in the error's detail."""
        detail = self.error["detail"]
        assert isinstance(detail, list)
        return [(str(one["endpoint"]), str(one["error"])) for one in detail if isinstance(one, dict)]


async def ask(
    door: aiohttp.ClientSession, body: JsonObject = ASK, headers: Mapping[str, str] | None = None, path: str = GENERATE
) -> Told:
    async with door.post(path, json=body, headers=headers or {}) as answer:
        told = Told(answer.status, answer.headers)
        try:
            async for chunk in answer.content.iter_any():
                told.body += chunk
        except aiohttp.ClientPayloadError:
            told.whole = False
        if answer.content_type == "application/json":
            value = json.loads(told.body)
            told.text, told.error = value.get("text", ""), value.get("error", {})
        else:
            read_events(told)
        return told


def read_events(told: Told) -> None:
    for event in told.body.decode().split("\n\n"):
        name, data = "", ""
        for line in event.split("\n"):
            field_name, _, value = line.partition(": ")
            name = value if field_name == "event" else name
            data = value if field_name == "data" else data
        if name == "error":
            told.error = json.loads(data)["error"]
        elif data == "[DONE]":
            told.done = True
        elif data:
            told.text += json.loads(data).get("text", "")


async def states(door: aiohttp.ClientSession) -> list[dict[str, JsonValue]]:
    async with door.get(STATUS) as answer:
        assert answer.status == 200
        found: list[dict[str, JsonValue]] = (await answer.json())["trainers"]
        return found


@contextlib.asynccontextmanager
async def before(
    behind: Behind, urls: Sequence[str], *, first: float = 20.0, idle: float = 20.0, total: float = 60.0
) -> AsyncIterator[aiohttp.ClientSession]:
    """A caller of a gateway that knows these trainers, called a, b, c."""
    settings = settings_for(behind.url).model_copy(
        update={
            "trainer_urls": tuple(f"{label}={url}" for label, url in zip("abc", urls, strict=False)),
            "chat_first": first,
            "chat_idle": idle,
            "chat_total": total,
        }
    )
    async with gateway(settings) as url, caller(url) as door:
        yield door


@contextlib.asynccontextmanager
async def trainers(*scripts: Script) -> AsyncIterator[list[Upstream]]:
    """Trainers that play these scripts, and say how they are when asked."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                Upstream(
                    script,
                    routes={
                        "GET /inference/status": respond(200, {"loaded": True}),
                        "GET /ready": respond(200, {"status": "ready"}),
                    },
                )
            )
            for script in scripts
        ]
