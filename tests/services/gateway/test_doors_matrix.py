"""The matrix of what can go wrong at one of two endpoints, at each door where a conversation is answered.

At the doors of the proxied dialects nothing is seen before the first content; the chat's own stream has begun by then,
and tells what happens in events of its own. Behind all of them the line is the same: before the first content the
other endpoint answers, after it nobody else does, and what is not streamed moves on until it is whole.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import aiohttp
import pytest

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.chat import TurnState
from anamnesis.contracts.keys import Scope

from .chatting import Chats, chats
from .conftest import caller, gateway, settings_for
from .remembering import KEYS
from .upstreams import (
    BAD_FRAMING,
    Cut,
    Frame,
    Head,
    Reset,
    Script,
    Stall,
    Until,
    Upstream,
    refusing,
    respond,
    sse,
    stream,
)

SHORT = 0.7  # seconds, where time running out is the claim
DONE = b"data: [DONE]\n\n"


def chunk(text: str = "", finish: str | None = None) -> bytes:
    choice: JsonObject = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return sse({"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


ROLE = chunk()
HELLO = chunk("Hel")
FINISH = chunk(finish="stop")
SECOND = stream([chunk("second"), FINISH, DONE])
BAD_JSON = b"data: {no json\n\n"
ERROR = sse({"error": {"type": "server_error", "message": "the GPU fell over"}})


class Door(NamedTuple):
    path: str
    body: JsonObject
    streamed: bool


SAYS: JsonObject = {"role": "user", "content": "Say something, please."}
V1: JsonObject = {"model": "auto", "memory": False, "max_tokens": 50, "messages": [SAYS]}
CHAT: JsonObject = {"message": "Say something, please.", "memory": False}
DOORS = {
    "chat, streamed": Door("/api/chat/stream", CHAT, True),
    "chat, whole": Door("/api/chat", CHAT, False),
    "openai, streamed": Door("/v1/chat/completions", {**V1, "stream": True}, True),
    "openai, whole": Door("/v1/chat/completions", V1, False),
    "anthropic, streamed": Door("/v1/messages", {**V1, "stream": True}, True),
    "anthropic, whole": Door("/v1/messages", V1, False),
}
EACH = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


@dataclass
class Told:
    """What a caller got."""

    status: int
    text: str = ""
    ended: bool = False
    """The mark of a whole answer came."""
    error: str = ""
    attempts: list[tuple[str, str]] = field(default_factory=list)
    """Endpoints with their reasons, in the detail of an error."""


class Parts(NamedTuple):
    memory: Chats
    session: aiohttp.ClientSession

    async def ask(self, door: Door) -> Told:
        async with self.session.post(door.path, json=door.body) as answer:
            return read(answer.status, await answer.read())

    async def in_flight(self) -> None:
        """Nothing is left of any turn."""
        await self.memory.until(lambda: all(one.state is not TurnState.RUNNING for one in self.memory.turns.values()))


@contextlib.asynccontextmanager
async def before(*urls: str, first: float = 20.0, idle: float = 20.0) -> AsyncIterator[Parts]:
    """A gateway whose only backend has these endpoints, `a` and `b`."""
    async with chats() as memory:
        settings = settings_for(memory.url).model_copy(
            update={
                "chat_backends": ("openai",),
                "openai_urls": tuple(f"{name}={url}/v1" for name, url in zip("ab", urls, strict=False)),
                "openai_model": "m",
                "chat_first": first,
                "chat_idle": idle,
            }
        )
        async with gateway(settings) as url, caller(url, KEYS[Scope.WRITE]) as session:
            yield Parts(memory, session)


@contextlib.asynccontextmanager
async def upstreams(*scripts: Script) -> AsyncIterator[list[Upstream]]:
    async with contextlib.AsyncExitStack() as opened:
        yield [await opened.enter_async_context(Upstream(script)) for script in scripts]


def read(status: int, body: bytes) -> Told:
    """An answer of any of the doors."""
    told = Told(status)
    text = body.decode().replace("\r\n", "\n")
    if text.startswith("{"):
        _take(told, "", json.loads(text), whole=True)
    for event in text.split("\n\n") if not text.startswith("{") else []:
        lines = [line.partition(": ") for line in event.split("\n")]
        name = next((value for key, _, value in lines if key == "event"), "")
        data = next((value for key, _, value in lines if key == "data"), "")
        if data == "[DONE]":
            told.ended = True
        elif data:
            _take(told, name, json.loads(data))
    return told


def _take(told: Told, name: str, value: JsonObject, whole: bool = False) -> None:
    match value:
        case {"error": {"message": str(message), "detail": [*tries]}}:
            told.error = message
            told.attempts = [(str(one["endpoint"]), str(one["error"])) for one in tries if isinstance(one, dict)]
        case {"error": {"message": str(message)}}:
            told.error = message
        case {"turn": {"answered": str(text)}}:  # the chat's end, or all of its answer
            told.text, told.ended = text, True
        case {"choices": [{"message": {"content": str(text)}}]} | {"content": [{"text": str(text)}]} if whole:
            told.text, told.ended = text, True
        case {"choices": [{"delta": {"content": str(text)}}]} | {"delta": {"text": str(text)}}:
            told.text += text
        case {"text": str(text)} if name == "delta":
            told.text += text
        case {"type": "message_stop"}:
            told.ended = True


BEFORE: dict[str, Script] = {
    "reset at once": (Reset(),),
    "slow headers": (Stall(),),
    "stall before content": stream([b": ping\n\n", ROLE], then=Stall()),
    "reset before content": stream([ROLE], then=Reset()),
    "cut before content": stream([ROLE], then=Cut()),
    "empty 200": (Head(200, {"Content-Type": "text/event-stream", "Content-Length": "0"}),),
    "empty stop": stream([ROLE, FINISH, DONE]),
    "bad chunk": stream([BAD_JSON, HELLO, FINISH, DONE]),
    "bad framing": stream([ROLE], then=BAD_FRAMING),
    "an error within": stream([ROLE, ERROR]),
    "429": respond(429, None, {"Retry-After": "7"}),
    "500": respond(500),
    "503": respond(503),
}


@EACH
@pytest.mark.parametrize("how", BEFORE)
async def test_before_the_content_the_other_answers(door: Door, how: str) -> None:
    """Whatever one endpoint does instead of answering, the caller gets the other's answer, whole."""
    short = any(isinstance(step, Stall) for step in BEFORE[how])
    async with (
        upstreams(BEFORE[how], SECOND) as (one, other),
        before(one.url, other.url, first=SHORT if short else 20.0) as parts,
    ):
        told = await parts.ask(door)
        await asyncio.wait_for(one.seen[0].ended.wait(), 15)
    assert (told.status, told.text, told.ended, told.error) == (200, "second", True, "")
    assert (len(one.seen), len(other.seen)) == (1, 1)


@EACH
async def test_a_refused_connection_moves_on(door: Door) -> None:
    """Where nobody listens the other endpoint answers."""
    with refusing() as nowhere:
        async with upstreams(SECOND) as (other,), before(nowhere, other.url) as parts:
            told = await parts.ask(door)
    assert (told.status, told.text, told.ended) == (200, "second", True)


Build = Callable[[asyncio.Event], Script]
AFTER: dict[str, Build] = {
    "reset": lambda read: (Until(read), Reset()),
    "cut": lambda read: (Until(read), Cut()),
    "end without a finish": lambda read: stream([])[1:],
    "stall": lambda read: (Stall(),),
    "bad framing": lambda read: (Until(read), *BAD_FRAMING),
    "bad chunk": lambda read: stream([BAD_JSON, FINISH, DONE])[1:],
    "an error within": lambda read: stream([ERROR])[1:],
}


@EACH
@pytest.mark.parametrize("how", AFTER)
async def test_after_the_content(door: Door, how: str) -> None:
    """A stream says what it had and tells the failure within, without the mark of an end; the other endpoint is not
    asked. What is not streamed was given to nobody, and moves on.
    """
    gate = asyncio.Event()
    async with (
        upstreams(stream([HELLO], then=AFTER[how](gate)), SECOND) as (one, other),
        before(one.url, other.url, idle=SHORT if how == "stall" else 20.0) as parts,
    ):
        if door.streamed:
            async with parts.session.post(door.path, json=door.body) as answer:
                body = b""
                while b"Hel" not in body:
                    body += await answer.content.readany()
                gate.set()
                told = read(answer.status, body + await answer.content.read())
        else:
            gate.set()
            told = await parts.ask(door)
        await parts.in_flight()
        turns = [*parts.memory.turns.values()]
    if door.streamed:
        assert (told.status, told.text, told.ended) == (200, "Hel", False)
        assert "broke off" in told.error
        assert other.seen == []
        assert [(one.state, one.answered) for one in turns] in ([], [(TurnState.FAILED, "Hel")])
    else:
        assert (told.status, told.text, told.ended, told.error) == (200, "second", True, "")


@EACH
@pytest.mark.parametrize(
    ("one", "other", "status"),
    [
        ((Reset(),), (Reset(),), 503),
        (respond(500), respond(500), 502),
        (respond(429, None, {"Retry-After": "7"}), respond(429, None, {"Retry-After": "30"}), 429),
        ((Stall(),), stream([ROLE], then=Stall()), 504),
        (stream([ROLE, FINISH, DONE]), stream([BAD_JSON]), 502),
    ],
    ids=["reset", "500", "429", "stall", "empty and bad"],
)
async def test_when_all_fail_every_reason_is_told(door: Door, one: Script, other: Script, status: int) -> None:
    """One error with the status that fits, and each endpoint's reason; the chat's own stream tells it within."""
    short = any(isinstance(step, Stall) for step in one)
    async with (
        upstreams(one, other) as (first, second),
        before(first.url, second.url, first=SHORT if short else 20.0) as parts,
    ):
        told = await parts.ask(door)
        await parts.in_flight()
    assert told.status == (200 if door.path == "/api/chat/stream" else status)
    assert (told.text, told.ended) == ("", False)
    assert told.error
    assert [endpoint for endpoint, _ in told.attempts] == ["a", "b"]
    assert all(reason for _, reason in told.attempts)


@EACH
async def test_a_bad_request_does_not_move_on(door: Door) -> None:
    """What everybody would refuse is told at once."""
    async with upstreams(respond(400), SECOND) as (one, other), before(one.url, other.url) as parts:
        told = await parts.ask(door)
    assert told.status == (200 if door.path == "/api/chat/stream" else 400)
    assert told.attempts == [("a", "answered 400")]
    assert other.seen == []


@EACH
@pytest.mark.parametrize(
    ("script", "during"),
    [
        ((Stall(),), "prefill"),
        (stream([ROLE], then=()), "decode"),
        (stream([HELLO], then=()), "decode"),
    ],
    ids=["before the headers", "in prefill", "in decode"],
)
async def test_a_caller_that_leaves_ends_the_work(door: Door, script: Script, during: str) -> None:
    """The endpoint sees its client go at once, within the piece that it was at, and nobody else is asked."""
    gate = asyncio.Event()
    if during == "decode":
        script = (*script, Until(gate), *(Frame(chunk("more")) for _ in range(1000)))
    async with upstreams(script, SECOND) as (one, other), before(one.url, other.url) as parts:
        asking = asyncio.create_task(parts.ask(door))
        seen = await one.request()
        if during == "decode":
            await asyncio.wait_for(seen.said.wait(), 15)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.wait_for(seen.left.wait(), 15)
        gate.set()
        await parts.in_flight()
        states = {one.state for one in parts.memory.turns.values()}
    assert seen.left_during == during
    assert seen.frames <= 1
    assert other.seen == []
    assert states <= {TurnState.STOPPED}
