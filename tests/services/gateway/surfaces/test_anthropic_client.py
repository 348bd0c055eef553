"""Anthropic's surface, used by Anthropic's own client over a real port."""

import asyncio
import json
from typing import Any

import aiohttp
import anthropic
import pytest

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.chat import StopReason, Usage
from anamnesis.contracts.usefulness import EpisodeVerdict, Verdict
from anamnesis.kit.auth import new_key
from services.gateway.backends.base import (
    BackendFailure,
    Delta,
    Dialect,
    Finish,
    Image,
    Native,
    Piece,
    Started,
    Text,
    TextDelta,
    ThinkingDelta,
    ToolBegin,
    ToolInput,
    ToolResult,
    ToolUse,
)

from .house import CALLER_KEY, EPISODE, REMEMBERED, House, Scripted, house

HELLO = [
    Piece(Started("scripted-1")),
    Piece(TextDelta("Hel")),
    Piece(TextDelta("lo")),
    Piece(Finish(StopReason.END, Usage(input_tokens=7, output_tokens=2))),
]
USER = {"role": "user", "content": "When do deploys go out?"}
TOOL = {"name": "weather", "description": "Of a city", "input_schema": {"type": "object", "properties": {}}}
ASKED = {"model": "claude-sonnet-9", "max_tokens": 100}


def client(at: House, key: str = CALLER_KEY) -> Any:
    """The real client; untyped, as it is made to send what its types do not know."""
    return anthropic.AsyncAnthropic(base_url=at.url, api_key=key, max_retries=0, timeout=20)


def native(*events: tuple[JsonObject, Delta | None]) -> list[Piece]:
    """Pieces as a backend of this dialect hands them on."""
    return [Piece(delta, f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()) for event, delta in events]


THOUGHT = native(
    (
        {
            "type": "message_start",
            "message": {
                "id": "msg_up",
                "type": "message",
                "role": "assistant",
                "model": "claude-up",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 5, "output_tokens": 1, "cache_read_input_tokens": 4},
            },
        },
        Started("claude-up"),
    ),
    (
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        None,
    ),
    (
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}},
        ThinkingDelta("Hm."),
    ),
    ({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig=="}}, None),
    ({"type": "content_block_stop", "index": 0}, None),
    ({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}, None),
    ({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hi"}}, TextDelta("Hi")),
    ({"type": "content_block_stop", "index": 1}, None),
    (
        {
            "type": "message_delta",
            "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END"},
            "usage": {"output_tokens": 9},
        },
        None,
    ),
    ({"type": "message_stop"}, Finish(StopReason.END, Usage(input_tokens=9, output_tokens=9))),
)


async def test_an_answer_whole() -> None:
    """Without a stream a message holds the words, the reason and the usage, and headers say who answered."""
    async with house(Scripted("first", HELLO)) as at, client(at) as api:
        raw = await api.messages.with_raw_response.create(**ASKED, messages=[USER])
        answer = await raw.parse()
    assert [block.model_dump(exclude_none=True) for block in answer.content] == [{"type": "text", "text": "Hello"}]
    assert answer.role == "assistant"
    assert answer.stop_reason == "end_turn"
    assert answer.model == "scripted-1"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 2)
    assert raw.headers["x-anamnesis-backend"] == "first"
    assert raw.headers["x-anamnesis-recalled"] == EPISODE
    assert answer._request_id == raw.headers["x-request-id"]


async def test_a_stream() -> None:
    """The events come in the order that the dialect promises, and add up to the message."""
    async with house(Scripted("first", HELLO)) as at, client(at) as api:
        async with api.messages.stream(**ASKED, messages=[USER]) as stream:
            words = [text async for text in stream.text_stream]
            message = await stream.get_final_message()
        raw = await api.messages.create(**ASKED, messages=[USER], stream=True)
        kinds = [event.type async for event in raw]
    assert words == ["Hel", "lo"]
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 2)
    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


async def test_a_round_of_tools() -> None:
    """A tool is called with its input in pieces after some words, and what it gave comes back as a conversation."""
    script = [
        Piece(TextDelta("Let me see.")),
        Piece(ToolBegin("toolu_1", "weather")),
        Piece(ToolInput('{"city": ')),
        Piece(ToolInput('"Oslo"}')),
        Piece(ToolBegin("toolu_2", "weather")),
        Piece(Finish(StopReason.END)),
    ]
    backend = Scripted("first", script)
    async with house(backend) as at, client(at) as api:
        async with api.messages.stream(**ASKED, messages=[USER], tools=[TOOL]) as stream:
            streamed = await stream.get_final_message()
        whole = await api.messages.create(**ASKED, messages=[USER], tools=[TOOL])
        for message in (streamed, whole):
            assert message.stop_reason == "tool_use"
            assert [block.type for block in message.content] == ["text", "tool_use", "tool_use"]
            assert [block.input for block in message.content if block.type == "tool_use"] == [{"city": "Oslo"}, {}]
        backend.script = list(HELLO)
        results = [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"},
            {
                "type": "tool_result",
                "tool_use_id": "toolu_2",
                "is_error": True,
                "content": [
                    {"type": "text", "text": "no"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                ],
            },
            {"type": "text", "text": "Go on."},
        ]
        said = [block.model_dump(exclude_none=True) for block in whole.content]
        messages = [USER, {"role": "assistant", "content": said}, {"role": "user", "content": results}]
        await api.messages.create(**ASKED, messages=messages, tools=[TOOL], tool_choice={"type": "any"})
    ask = backend.asked[-1]
    assert ask.messages[1].parts == (
        Text("Let me see."),
        ToolUse("toolu_1", "weather", {"city": "Oslo"}),
        ToolUse("toolu_2", "weather", {}),
    )
    assert ask.messages[2].parts == (
        ToolResult("toolu_1", (Text("rain"),)),
        ToolResult("toolu_2", (Text("no"), Image("image/png", "AAAA")), is_error=True),
        Text("Go on."),
    )
    assert ask.tool_choice == "required"


async def test_a_turn_of_tools_is_reported_once() -> None:
    """However many calls a turn goes on for, its memories are weighed over all of them, and reported at its end."""
    calls = [
        Piece(ToolBegin("toolu_1", "weather")),
        Piece(ToolInput('{"city": "Deploys on Tuesdays, after the smoke test"}')),
        Piece(Finish(StopReason.TOOL)),
    ]
    backend = Scripted("first", calls)
    conversation: list[Any] = [USER]
    async with house(backend) as at, client(at) as api:
        for number in range(3):
            if number == 2:
                backend.script = list(HELLO)
            said = await api.messages.create(**ASKED, messages=conversation, tools=[TOOL])
            content = [block.model_dump(exclude_none=True) for block in said.content]
            result = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}]
            conversation += [{"role": "assistant", "content": content}, {"role": "user", "content": result}]
        memory = at.memory
    assert len(memory.searches) == 1
    assert [one.verdicts for one in memory.reports] == [(EpisodeVerdict(episode_id=EPISODE, verdict=Verdict.USED),)]


async def test_a_request_as_claude_code_sends_it() -> None:
    """System as blocks, marks for the cache, labels, betas, a bearer key: all is taken; what is left out is told."""
    backend = Scripted("first", HELLO)
    body = {
        **ASKED,
        "stream": True,
        "system": [
            {"type": "text", "text": "You write code."},
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "<system-reminder>Today is Monday.</system-reminder>"},
                    {"type": "text", "text": "When do deploys go out?", "cache_control": {"type": "ephemeral"}},
                    {"type": "image", "source": {"type": "url", "url": "https://pictures.example/a.png"}},
                ],
            }
        ],
        "tools": [{**TOOL, "cache_control": {"type": "ephemeral"}, "eager_input_streaming": True}],
        "metadata": {"user_id": "user_1"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"},
    }
    headers = {
        "Authorization": f"Bearer {CALLER_KEY}",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "interleaved-thinking-2025-05-14",
    }
    async with (
        house(backend) as at,
        aiohttp.ClientSession(headers=headers) as http,
        http.post(f"{at.url}/v1/messages?beta=true", json=body) as answer,
    ):
        assert answer.status == 200
        left_out = answer.headers["x-anamnesis-left-out"].split(", ")
        content = await answer.read()
    ask = backend.asked[0]
    assert ask.system == "You write code.\n\nBe brief."
    assert ask.messages[0].parts[2] == Image(url="https://pictures.example/a.png")
    assert ask.native is not None
    assert ask.native.body == body
    assert ask.native.headers == {name: headers[name] for name in ("anthropic-version", "anthropic-beta")}
    assert REMEMBERED in ask.memory
    assert {"cache_control", "metadata", "thinking", "context_management", "output_config.effort"} <= set(left_out)
    assert content.rstrip().endswith(b'data: {"type":"message_stop"}')


async def test_the_same_dialect_passes_as_it_came() -> None:
    """Signed thinking, cached tokens and stop sequences of a backend of this dialect reach the client whole."""
    backend = Scripted("claude", THOUGHT, Dialect.ANTHROPIC)
    async with house(backend) as at, client(at) as api:
        async with api.messages.stream(**ASKED, messages=[USER]) as stream:
            streamed = await stream.get_final_message()
        whole = await api.messages.create(**ASKED, messages=[USER])
        async with aiohttp.ClientSession(headers={"X-API-Key": CALLER_KEY}) as http:
            body = {**ASKED, "messages": [USER], "stream": True, "container": "c", "memory": False}
            async with http.post(f"{at.url}/v1/messages", json=body) as answer:
                assert "x-anamnesis-left-out" not in answer.headers
                assert await answer.read() == b"".join(piece.raw for piece in THOUGHT)
    for message in (streamed, whole):
        assert message.id == "msg_up"
        assert [block.model_dump(exclude_none=True) for block in message.content] == [
            {"type": "thinking", "thinking": "Hm.", "signature": "sig=="},
            {"type": "text", "text": "Hi"},
        ]
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")
        assert (message.usage.output_tokens, message.usage.cache_read_input_tokens) == (9, 4)
    ask = backend.asked[-1]
    assert ask.native is not None
    assert ask.native.body == {name: value for name, value in body.items() if name != "memory"}


async def test_thinking_of_another_model() -> None:
    """It is told only to a client that asked for it, and never sent on to Claude, which would refuse it unsigned."""
    backend = Scripted("first", [Piece(ThinkingDelta("Hm.")), *HELLO[1:]])
    claude = Scripted("claude", THOUGHT, Dialect.ANTHROPIC)
    thinking = {"type": "enabled", "budget_tokens": 1024}
    async with house(claude, backend) as at, client(at) as api:
        asked = {**ASKED, "model": "first", "max_tokens": 2000}
        silent = await api.messages.create(**asked, messages=[USER])
        answer = await api.messages.create(**asked, messages=[USER], thinking=thinking)
        said = [block.model_dump(exclude_none=True) for block in answer.content]
        await api.messages.create(
            **ASKED,
            messages=[
                USER,
                {"role": "assistant", "content": said},
                USER,
                {"role": "assistant", "content": said[:1]},
                USER,
            ],
        )
    assert [block.type for block in silent.content] == ["text"]
    assert said[0] == {"type": "thinking", "thinking": "Hm.", "signature": ""}
    assert claude.asked[0].native is not None
    assert claude.asked[0].native.body["messages"] == [
        USER,
        {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]},
        USER,
        USER,
    ]


async def test_a_claude_name_goes_to_claude_and_then_to_the_others() -> None:
    """A program made for Claude is answered by whoever can, Claude first."""
    first = Scripted("first", HELLO)
    claude = Scripted("claude", [BackendFailure("no credit")], Dialect.ANTHROPIC)
    async with house(first, claude) as at, client(at) as api:
        raw = await api.messages.with_raw_response.create(**ASKED, messages=[USER])
    assert raw.headers["x-anamnesis-attempts"] == "2"
    assert raw.headers["x-anamnesis-backend"] == "first"


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"top_k": 5}, "top_k"),
        ({"mcp_servers": []}, "mcp_servers"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "output_config.format"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, r"tools\[0\] \(web_search_20250305\)"),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}, "disable_parallel_tool_use"),
        ({"messages": [USER, {"role": "assistant", "content": "It"}]}, r"messages\[1\] \(an answer begun"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "document", "source": {"type": "text", "data": "x"}}],
                    }
                ]
            },
            r"messages\[0\].content\[0\] \(document\)",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "t",
                                "content": [{"type": "search_result", "title": "x"}],
                            }
                        ],
                    }
                ]
            },
            r"content\[0\].content\[0\] \(search_result\)",
        ),
    ],
)
async def test_what_a_backend_cannot_be_asked_is_refused_by_name(more: JsonObject, named: str) -> None:
    """What only this dialect knows is a 400 that names it, where no backend of the dialect is asked."""
    backend = Scripted("first", HELLO)
    async with house(backend) as at, client(at) as api:
        with pytest.raises(anthropic.BadRequestError, match=named):
            await api.messages.create(**{**ASKED, "messages": [USER]}, extra_body=more)
    assert not backend.asked


async def test_errors_become_the_clients_own() -> None:
    """Every kind of refusal is the exception that the client's users know, in this dialect's envelope."""
    refusing = Scripted("refusing", [BackendFailure("the model is not there", status=400, moves_on=False)])
    away = Scripted("away", [BackendFailure("cannot be reached")])
    async with house(refusing, away) as at:
        async with client(at, new_key()) as api:
            with pytest.raises(anthropic.AuthenticationError, match="send a valid API key"):
                await api.messages.create(**ASKED, messages=[USER])
        async with client(at) as api:
            asked = {**ASKED, "messages": [USER]}
            with pytest.raises(anthropic.BadRequestError, match="the model is not there") as caught:
                await api.messages.create(**asked)
            assert isinstance(caught.value.body, dict)
            assert caught.value.body["type"] == "error"
            assert caught.value.body["error"]["type"] == "invalid_request_error"
            assert caught.value.request_id
            with pytest.raises(anthropic.InternalServerError, match="away: cannot be reached"):
                await api.messages.create(**{**asked, "model": "away"})
            with pytest.raises(anthropic.NotFoundError, match="nothing at this path"):
                await api.post("/v1/messages/nothing", cast_to=object)
            with pytest.raises(anthropic.BadRequestError, match="max_tokens: Input should be greater"):
                await api.messages.create(**{**asked, "max_tokens": 0})


@pytest.mark.parametrize("script", [[BackendFailure("the connection broke")], []])
async def test_an_answer_that_breaks_off_says_so(script: list[BackendFailure]) -> None:
    """After content a failure, or an end that is none, is an event `error`, and one of the server without a stream."""
    async with house(Scripted("first", [*HELLO[:2], *script])) as at, client(at) as api:
        stream = await api.messages.create(**ASKED, messages=[USER], stream=True)
        kinds = []

        async def read() -> None:
            async for event in stream:
                kinds.append(event.type)

        with pytest.raises(anthropic.APIStatusError, match="first broke off its answer"):
            await read()
        assert kinds == ["message_start", "content_block_start", "content_block_delta"]
        with pytest.raises(anthropic.InternalServerError, match="first: "):
            await api.messages.create(**ASKED, messages=[USER])


async def test_input_of_a_tool_that_is_no_json_is_an_error() -> None:
    """A call that cannot be read is not handed on as one without input."""
    script = [Piece(ToolBegin("toolu_1", "weather")), Piece(ToolInput('{"city')), Piece(Finish(StopReason.TOOL))]
    async with house(Scripted("first", script)) as at, client(at) as api:
        with pytest.raises(anthropic.InternalServerError, match="no JSON object"):
            await api.messages.create(**ASKED, messages=[USER], tools=[TOOL])


async def test_a_client_that_leaves_ends_the_work() -> None:
    """Closing the stream in the middle closes the answer at the backend at once."""
    backend = Scripted("first", [*HELLO[:2], asyncio.Event()])
    async with house(backend) as at, client(at) as api:
        stream = await api.messages.create(**ASKED, messages=[USER], stream=True)
        async for event in stream:
            if event.type == "content_block_delta":
                break
        await stream.close()
        await asyncio.wait_for(backend.closed.wait(), 10)


async def test_models_are_listed() -> None:
    """Anthropic's client lists models in its own form."""
    backend = Scripted("claude", HELLO)
    backend.listed = ("claude-sonnet-9",)
    async with house(backend) as at, client(at) as api:
        assert [one.id async for one in api.models.list()] == ["claude:claude-sonnet-9"]
        assert (await api.models.retrieve("claude:claude-sonnet-9")).type == "model"


# Counting -----------------------------------------------------------------------------------------


class Counting:
    """Counts as the Claude API does, or fails."""

    def __init__(self) -> None:
        self.failure: BackendFailure | None = None
        self.seen: list[tuple[Native, str | None]] = []

    async def count_tokens(self, native: Native, model: str | None = None) -> JsonObject:
        self.seen.append((native, model))
        if self.failure is not None:
            raise self.failure
        return {"input_tokens": 42}


async def test_tokens_are_counted_by_claude_where_claude_would_answer() -> None:
    """The Claude API counts; where it cannot, an estimate says why, and a bad request is one."""
    counting = Counting()
    async with house(Scripted("claude", HELLO, Dialect.ANTHROPIC), counter=counting) as at, client(at) as api:
        ask = api.messages.with_raw_response.count_tokens
        counted = await ask(model="claude-sonnet-9", messages=[USER], system="Be brief.", tools=[TOOL])
        counting.failure = BackendFailure("is overloaded", status=529)
        estimated = await ask(model="auto", messages=[USER])
        counting.failure = BackendFailure("no such model", status=400, moves_on=False)
        with pytest.raises(anthropic.BadRequestError, match="no such model"):
            await ask(model="claude-sonnet-9", messages=[USER])
    native, model = counting.seen[0]
    assert (await counted.parse()).input_tokens == 42
    assert "x-anamnesis-estimated" not in counted.headers
    assert model == "claude-sonnet-9"
    assert native.body["system"] == "Be brief."
    assert "stream" not in native.body
    assert estimated.headers["x-anamnesis-estimated"] == "claude: is overloaded"
    assert (await estimated.parse()).input_tokens > 0
    assert counting.seen[1][1] is None


async def test_tokens_are_estimated_where_another_would_answer() -> None:
    """Four characters a token, a picture as a picture and not as its base64, and the header says that it is a guess."""
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 400_000}}
    counting = Counting()
    async with house(Scripted("first", HELLO), counter=counting) as at, client(at) as api:
        ask = api.messages.with_raw_response.count_tokens
        words = await ask(model="auto", messages=[{"role": "user", "content": "word " * 400}])
        seen = await ask(model="auto", messages=[{"role": "user", "content": [picture]}])
    assert not counting.seen
    assert 500 <= (await words.parse()).input_tokens <= 520
    assert 1_500 <= (await seen.parse()).input_tokens <= 1_520
    assert "another backend" in words.headers["x-anamnesis-estimated"]
