"""The whole matrix of what can go wrong at one of two trainers, streamed and not, and what a caller sees of it.

The line is the first content. Before it nobody sees anything: the other trainer answers. After it a stream tells its
failure within the body and is never begun anew, while an answer that is not streamed was given to nobody, and moves on.
"""

import asyncio
import json
from collections.abc import Callable

import pytest

from anamnesis.contracts.base import JsonObject

from ..conftest import Behind
from ..upstreams import (
    BAD_FRAMING,
    Cut,
    Frame,
    Head,
    Raw,
    Reset,
    Script,
    Stall,
    Until,
    refusing,
    respond,
    sse,
    stream,
)
from .fleet import (
    ASK,
    DONE,
    FINISH,
    GENERATE,
    HELLO,
    LO,
    PING,
    ROLE,
    SECOND,
    WHOLE,
    Told,
    ask,
    before,
    read_events,
    states,
    trainers,
)

SHORT = 0.7  # seconds, where time running out is the claim
ERROR = sse({"error": {"code": "internal", "message": "the GPU fell over"}}, name="error")
BAD_JSON = b"data: {no json\n\n"
WRONG_JSON = sse({"words": "of another dialect"})
EMPTY = sse({"finish_reason": "stop"})
HTML = {"Content-Type": "text/html", "Content-Length": "5"}

BEFORE: dict[str, Script] = {
    "reset at once": (Reset(),),
    "cut at once": (Cut(),),
    "slow headers": (Stall(),),
    "stall before content": stream([PING, ROLE], then=Stall()),
    "reset before content": stream([ROLE], then=Reset()),
    "cut before content": stream([ROLE], then=Cut()),
    "end before content": stream([ROLE]),
    "empty 200": (Head(200, {"Content-Type": "text/event-stream", "Content-Length": "0"}),),
    "empty stream": stream([]),
    "empty stop": stream([ROLE, EMPTY, DONE]),
    "nothing but done": stream([DONE]),
    "bad framing": stream([ROLE], then=BAD_FRAMING),
    "bad JSON": stream([BAD_JSON, HELLO, FINISH, DONE]),
    "another dialect": stream([WRONG_JSON, HELLO, FINISH, DONE]),
    "a frame without end": stream([b"data: " + b"x" * (1 << 20) + b"x"], then=Stall()),
    "a page": (Head(200, HTML), Frame(b"<html")),
    "an error within": stream([ROLE, ERROR]),
    "no HTTP": (Raw(b"SSH-2.0-OpenSSH_9.9\r\n"), Cut()),
    "429": respond(429, {"error": {"code": "busy", "message": "full"}}, {"Retry-After": "7"}),
    "404": respond(404, {"error": {"code": "not_found", "message": "no adapter of this name"}}),
    "409": respond(409, {"error": {"code": "conflict", "message": "this trainer trains"}}),
    "500": respond(500, {"error": {"code": "internal", "message": "broken"}}),
    "503 without a reason": respond(503, "away"),
    "a redirect": respond(307, None, {"Location": "http://elsewhere.example/"}),
}


@pytest.mark.parametrize("body", [ASK, WHOLE], ids=["streamed", "whole"])
@pytest.mark.parametrize("how", BEFORE)
async def test_before_the_content_the_other_trainer_answers(behind: Behind, how: str, body: JsonObject) -> None:
    """Whatever one trainer does instead of answering, the caller gets the other's answer, whole, and a 200."""
    short = any(isinstance(step, Stall) for step in BEFORE[how])
    async with trainers(BEFORE[how], SECOND) as (first, second):
        async with before(behind, [first.url, second.url], first=SHORT if short else 20.0) as door:
            told = await ask(door, body)
            after = await states(door)
        await asyncio.wait_for(first.seen[0].ended.wait(), 15)
    assert (told.status, told.text, told.error, told.whole) == (200, "second", {}, True)
    assert told.done == bool(body is ASK)
    assert (told.headers["X-Anamnesis-Endpoint"], told.headers["X-Anamnesis-Attempts"]) == ("b", "2")
    assert told.headers["X-Request-ID"] == second.seen[0].headers["x-request-id"]
    assert (len(first.seen), len(second.seen)) == (1, 1)
    assert [one["in_flight"] for one in after] == [0, 0]
    assert after[0]["breaker"] == ("open" if how == "429" else "closed")
    assert after[0]["failures"] == (0 if how in ("429", "404", "409") else 1)


async def test_a_refused_connection_moves_on(behind: Behind) -> None:
    """Where nobody listens the other trainer answers."""
    with refusing() as nowhere:
        async with trainers(SECOND) as (second,), before(behind, [nowhere, second.url]) as door:
            told = await ask(door)
    assert (told.status, told.text, told.headers["X-Anamnesis-Attempts"]) == (200, "second", "2")


@pytest.mark.parametrize("body", [ASK, WHOLE], ids=["streamed", "whole"])
async def test_what_comes_too_late_is_not_taken(behind: Behind, body: JsonObject) -> None:
    """A trainer that answers after its time finds nobody there, and nothing of it reaches the caller."""
    gate = asyncio.Event()
    async with (
        trainers((Until(gate), *stream([HELLO, LO, FINISH, DONE])), SECOND) as (first, second),
        before(behind, [first.url, second.url], first=SHORT) as door,
    ):
        told = await ask(door, body)
        await asyncio.wait_for(first.seen[0].left.wait(), 15)
        gate.set()
    assert (told.status, told.text) == (200, "second")
    assert first.seen[0].left_during == "prefill"


Build = Callable[[asyncio.Event], Script]
AFTER: dict[str, tuple[Build, str]] = {
    "reset": (lambda read: (Until(read), Reset()), "broke off before its answer was whole"),
    "cut": (lambda read: (Until(read), Cut()), "broke off before its answer was whole"),
    "end without a finish": (lambda read: stream([])[1:], "broke off before its answer was whole"),
    "done without a finish": (lambda read: stream([DONE])[1:], "broke off before its answer was whole"),
    "stall": (lambda read: (Stall(),), f"no piece within {SHORT} s"),
    "bad framing": (lambda read: (Until(read), *BAD_FRAMING), "broke off before its answer was whole"),
    "bad JSON": (lambda read: stream([BAD_JSON, FINISH, DONE])[1:], "sent a bad chunk"),
    "another dialect": (lambda read: stream([WRONG_JSON, FINISH, DONE])[1:], "sent a bad chunk"),
    "a frame cut short": (lambda read: (Frame(b'data: {"tex'), Until(read), Cut()), "broke off before its answer"),
    "an error within": (lambda read: stream([ERROR])[1:], "reported: the GPU fell over"),
}


@pytest.mark.parametrize("how", AFTER)
async def test_after_the_content_a_stream_tells_its_failure(behind: Behind, how: str) -> None:
    """What was said stays said; then comes an error event and no `[DONE]`, and the other trainer is not asked."""
    read = asyncio.Event()
    then, reason = AFTER[how]
    async with (
        trainers(stream([HELLO], then=then(read)), SECOND) as (first, second),
        before(behind, [first.url, second.url], idle=SHORT if how == "stall" else 20.0) as door,
    ):
        told = Told(0, {})
        async with door.post(GENERATE, json=ASK) as answer:
            told.status = answer.status
            told.body = await answer.content.readuntil(b"\n\n")
            read.set()
            told.body += await answer.content.read()
        read_events(told)
        after = await states(door)
    assert (told.status, told.text, told.done) == (200, "Hel", False)
    assert told.error["code"] == "upstream_failed"
    assert reason in str(told.error["message"])
    assert second.seen == []
    assert (after[0]["in_flight"], after[0]["failures"]) == (0, 1)


@pytest.mark.parametrize("how", AFTER)
async def test_after_the_content_what_is_not_streamed_moves_on(behind: Behind, how: str) -> None:
    """Nothing was given out yet, so the other trainer's answer is given, and nothing of the first."""
    read = asyncio.Event()
    read.set()
    then, _ = AFTER[how]
    async with (
        trainers(stream([HELLO], then=then(read)), SECOND) as (first, second),
        before(behind, [first.url, second.url], idle=SHORT if how == "stall" else 20.0) as door,
    ):
        told = await ask(door, WHOLE)
        after = await states(door)
    assert (told.status, told.text, told.headers["X-Anamnesis-Attempts"]) == (200, "second", "2")
    assert (after[0]["in_flight"], after[0]["failures"]) == (0, 1)


@pytest.mark.parametrize("body", [ASK, WHOLE], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("status", "seen_as", "code"),
    [(400, 400, "bad_request"), (422, 422, "invalid"), (413, 413, "too_large"), (401, 502, "upstream_failed")],
)
async def test_a_bad_request_does_not_move_on(
    behind: Behind, status: int, seen_as: int, code: str, body: JsonObject
) -> None:
    """What every trainer would refuse is told at once with the trainer's words; a 401 concerns our own key."""
    refusal = respond(status, {"error": {"code": code, "message": "use a smaller max_tokens"}})
    async with trainers(refusal, SECOND) as (first, second), before(behind, [first.url, second.url]) as door:
        told = await ask(door, body)
        after = await states(door)
    assert (told.status, told.error["code"]) == (seen_as, code)
    assert told.attempts == [("a", f"answered {status}: use a smaller max_tokens")]
    assert second.seen == []
    assert (after[0]["breaker"], after[0]["failures"]) == ("closed", 0)


FULL = respond(429, None, {"Retry-After": "7"})
FULLER = respond(429, None, {"Retry-After": "30"})


@pytest.mark.parametrize("body", [ASK, WHOLE], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("one", "other", "status"),
    [
        ((Reset(),), (Cut(),), 503),
        (respond(500), respond(500), 502),
        (respond(503), (Reset(),), 503),
        (respond(500), FULL, 502),
        (FULLER, FULL, 429),
        ((Stall(),), stream([ROLE], then=Stall()), 504),
        (stream([ROLE, EMPTY, DONE]), stream([]), 502),
        (stream([BAD_JSON]), stream([BAD_JSON]), 502),
        (stream([BAD_JSON]), stream([ROLE, ERROR]), 502),
        (respond(404), respond(404), 404),
        (respond(409), respond(409), 409),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
async def test_when_both_fail_no_200_leaks(
    behind: Behind, one: Script, other: Script, status: int, body: JsonObject
) -> None:
    """Two failures are one error with the status that fits both, and the reason of each trainer."""
    short = any(isinstance(step, Stall) for step in one)
    async with (
        trainers(one, other) as (first, second),
        before(behind, [first.url, second.url], first=SHORT if short else 20.0) as door,
    ):
        told = await ask(door, body)
    assert (told.status, told.text, told.done) == (status, "", False)
    assert [endpoint for endpoint, _ in told.attempts] == ["a", "b"]
    assert all(reason for _, reason in told.attempts)
    assert told.headers.get("Retry-After") == ("7" if status == 429 else None)


@pytest.mark.parametrize("body", [ASK, WHOLE], ids=["streamed", "whole"])
async def test_one_deadline_is_over_both(behind: Behind, body: JsonObject) -> None:
    """When the time of the request is over it is over, whoever is left."""
    async with (
        trainers((Stall(),), SECOND) as (first, second),
        before(behind, [first.url, second.url], first=60, total=SHORT) as door,
    ):
        told = await ask(door, body)
    assert (told.status, second.seen) == (504, [])
    assert told.attempts == [("a", f"out of time after {SHORT} s in all")]


@pytest.mark.parametrize("body", [ASK, WHOLE], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("script", "during"),
    [
        ((Stall(),), "prefill"),
        (stream([], then=Stall()), "prefill"),
        (stream([HELLO], then=Stall()), "decode"),
    ],
    ids=["before its headers", "in prefill", "in decode"],
)
async def test_a_caller_that_leaves_ends_the_work(
    behind: Behind, script: Script, during: str, body: JsonObject
) -> None:
    """The trainer sees its client go at once, nobody else is asked, and nobody is blamed."""
    async with trainers(script, SECOND) as (first, second), before(behind, [first.url, second.url]) as door:
        asking = asyncio.create_task(ask(door, body))
        seen = await first.request()
        if during == "decode":
            await asyncio.wait_for(seen.said.wait(), 15)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.wait_for(seen.left.wait(), 15)
        after = await states(door)
    assert seen.left_during == during
    assert second.seen == []
    assert (after[0]["in_flight"], after[0]["failures"], after[0]["breaker"]) == (0, 0, "closed")


async def test_a_trainer_stops_within_a_token(behind: Behind) -> None:
    """A trainer that goes on writing sees its client gone after the frame that the caller left at."""
    frames = [sse({"text": "word "})] * 3
    gate = asyncio.Event()
    script = (*stream(frames, then=()), Until(gate), *stream(frames * 1000)[1:])
    async with trainers(script) as (first,), before(behind, [first.url]) as door:
        async with door.post(GENERATE, json=ASK) as answer:
            await answer.content.readuntil(b"\n\n")
        seen = first.seen[0]
        await asyncio.wait_for(seen.left.wait(), 15)
        gate.set()
    assert seen.frames == 3


async def test_frames_pass_as_they_came(behind: Behind) -> None:
    """Frames reach the caller byte for byte, held-back ones included, whatever their line ends; then one `[DONE]`."""
    odd = b'id: 7\r\ndata: {"text":\r\ndata:  "lo"}\r\n\r\n'
    both = sse({"text": "!", "finish_reason": "length"})
    frames = [PING, ROLE, HELLO, odd, PING, both, DONE]
    async with (
        trainers(stream(frames)) as (first,),
        before(behind, [first.url]) as door,
        door.post(GENERATE, json=ASK) as answer,
    ):
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert await answer.content.read() == b"".join(frames)
    assert json.loads(first.seen[0].body)["stream"] is True


async def test_a_frame_arrives_before_the_next_is_made(behind: Behind) -> None:
    """Nothing is gathered: each frame is with the caller before the trainer makes the next."""
    gate = asyncio.Event()
    script = (*stream([HELLO], then=()), Until(gate), *stream([LO, FINISH, DONE])[1:])
    async with (
        trainers(script) as (first,),
        before(behind, [first.url]) as door,
        door.post(GENERATE, json=ASK) as answer,
    ):
        assert await answer.content.readuntil(b"\n\n") == HELLO
        gate.set()
        assert await answer.content.read() == LO + FINISH + DONE


async def test_chunks_that_split_frames_are_put_together(behind: Behind) -> None:
    """However the network cuts the bytes, the answer is the same, and so is what the caller gets."""
    stream_of = HELLO + LO + FINISH + DONE
    pieces = [stream_of[at : at + 3] for at in range(0, len(stream_of), 3)]
    async with trainers(stream(pieces)) as (first,), before(behind, [first.url]) as door:
        assert (await ask(door)).body == stream_of
        assert (await ask(door, WHOLE)).text == "Hello"
    assert first.connected == 1
