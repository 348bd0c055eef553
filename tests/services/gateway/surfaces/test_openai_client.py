"""OpenAI's surface, used by OpenAI's own client over a real port."""

import asyncio
import json
import socket
from typing import Any

import aiohttp
import openai
import pytest
from pydantic import JsonValue

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.chat import StopReason, Usage
from anamnesis.kit.auth import new_key
from services.gateway.backends.base import (
    BackendFailure,
    Dialect,
    Finish,
    Image,
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
from services.gateway.surfaces.exchange import Patience

from .house import CALLER_KEY, EPISODE, MODEL, REMEMBERED, House, Scripted, house, vector_of

HELLO = [
    Piece(Started("scripted-1")),
    Piece(TextDelta("Hel")),
    Piece(TextDelta("lo")),
    Piece(Finish(StopReason.END, Usage(input_tokens=7, output_tokens=2))),
]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Of a city", "parameters": {"type": "object", "properties": {}}},
}
USER: JsonObject = {"role": "user", "content": "When do deploys go out?"}


def client(at: House, key: str = CALLER_KEY) -> Any:
    """The real client; untyped, as it is made to send what its types do not know."""
    return openai.AsyncOpenAI(base_url=f"{at.url}/v1", api_key=key, max_retries=0, timeout=20)


def frames(*chunks: JsonObject) -> list[bytes]:
    return [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks]


def chunk(delta: JsonObject, reason: str | None = None, index: int = 0, **more: JsonValue) -> JsonObject:
    choice: JsonObject = {"index": index, "delta": delta, "finish_reason": reason}
    return {"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice], **more}


async def test_an_answer_whole() -> None:
    """Without a stream a completion holds the words, the reason and the usage, and headers say who answered."""
    backend = Scripted("first", HELLO)
    async with house(backend) as at, client(at) as api:
        raw = await api.chat.completions.with_raw_response.create(model="auto", messages=[USER])
        answer = raw.parse()
    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "scripted-1"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 2, 9)
    assert raw.headers["x-anamnesis-backend"] == "first"
    assert raw.headers["x-anamnesis-endpoint"] == "first-1"
    assert raw.headers["x-anamnesis-attempts"] == "1"
    assert raw.headers["x-anamnesis-recalled"] == EPISODE
    assert raw.headers["x-request-id"]


async def test_a_stream() -> None:
    """A stream says whose words they are, then the words, then why it ended; the usage comes where it is asked for."""
    async with house(Scripted("first", HELLO)) as at, client(at) as api:
        stream = await api.chat.completions.create(
            model="auto", messages=[USER], stream=True, stream_options={"include_usage": True}
        )
        chunks = [one async for one in stream]
        plain = await api.chat.completions.create(model="auto", messages=[USER], stream=True)
        without = [one async for one in plain]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(one.choices[0].delta.content or "" for one in chunks[:-1]) == "Hello"
    assert [one.choices[0].finish_reason for one in chunks[:-1]] == [None, None, None, "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 9
    assert len({one.id for one in chunks}) == 1
    assert all(one.choices and one.usage is None for one in without)


async def test_thinking_is_told_beside_the_answer() -> None:
    """What a model thinks is no part of its words."""
    async with house(Scripted("first", [Piece(ThinkingDelta("Hm.")), *HELLO[1:]])) as at, client(at) as api:
        answer = await api.chat.completions.create(model="auto", messages=[USER])
    message = answer.choices[0].message
    assert message.content == "Hello"
    assert message.model_extra == {"reasoning_content": "Hm."}


async def test_a_round_of_tools() -> None:
    """A tool is called with its arguments in pieces, and what it gave comes back as a conversation."""
    script = [
        Piece(ToolBegin("call_1", "weather")),
        Piece(ToolInput('{"city": ')),
        Piece(ToolInput('"Oslo"}')),
        Piece(ToolBegin("call_2", "weather")),
        Piece(Finish(StopReason.TOOL)),
    ]
    backend = Scripted("first", script)
    async with house(backend) as at, client(at) as api:
        async with api.chat.completions.stream(model="auto", messages=[USER], tools=[TOOL]) as stream:
            streamed = (await stream.get_final_completion()).choices[0]
        whole = (await api.chat.completions.create(model="auto", messages=[USER], tools=[TOOL])).choices[0]
        for choice in (streamed, whole):
            assert choice.finish_reason == "tool_calls"
            assert choice.message.content is None or choice is streamed
            calls = choice.message.tool_calls
            assert calls is not None
            assert [(one.id, one.function.name, one.function.arguments) for one in calls] == [
                ("call_1", "weather", '{"city": "Oslo"}'),
                ("call_2", "weather", "{}"),
            ]
        results = [
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "sun"}]},
        ]
        backend.script = list(HELLO)
        await api.chat.completions.create(
            model="auto",
            messages=[USER, whole.message.model_dump(exclude_none=True), *results],
            tools=[TOOL],
            tool_choice={"type": "function", "function": {"name": "weather"}},
        )
    ask = backend.asked[-1]
    assert ask.messages[1].parts == (
        ToolUse("call_1", "weather", {"city": "Oslo"}),
        ToolUse("call_2", "weather", {}),
    )
    assert ask.messages[2].role == "user"
    assert ask.messages[2].parts == (ToolResult("call_1", (Text("rain"),)), ToolResult("call_2", (Text("sun"),)))
    assert ask.tools[0].name == "weather"
    assert ask.tool_choice == "tool:weather"


async def test_pictures_and_the_systems_words() -> None:
    """Pictures by data and by address, and what the system says, reach the backend as they were meant."""
    backend = Scripted("first", HELLO)
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://pictures.example/a.png", "detail": "low"}},
    ]
    async with house(backend) as at, client(at) as api:
        raw = await api.chat.completions.with_raw_response.create(
            model="auto",
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
                {"role": "user", "content": content},
            ],
        )
    ask = backend.asked[0]
    assert ask.system == "Be brief.\n\nBe kind."
    assert ask.messages[0].parts == (
        Text("What is this?"),
        Image(media_type="image/png", data="AAAA"),
        Image(url="https://pictures.example/a.png"),
    )
    assert raw.headers["x-anamnesis-left-out"] == "image_url.detail"


async def test_memory_is_added_and_can_be_left_out() -> None:
    """What is remembered goes before the user's words, from where the headers say, unless it is not wanted."""
    backend = Scripted("first", HELLO)
    scope = {"X-Anamnesis-Project": "caf%C3%A9", "X-Anamnesis-Instance": "laptop"}
    async with house(backend) as at, client(at) as api:
        create = api.chat.completions.with_raw_response.create
        with_it = await create(model="auto", messages=[USER], extra_headers=scope)
        by_body = await create(model="auto", messages=[USER], extra_body={"memory": False})
        by_header = await create(model="auto", messages=[USER], extra_headers={"X-Anamnesis-Memory": "off"})
        search = at.memory.searches[0]
        assert len(at.memory.searches) == 1
        at.memory.failing = True
        failed = await create(model="auto", messages=[{"role": "user", "content": "And the others?"}])
        with pytest.raises(openai.BadRequestError, match="X-Anamnesis-Memory must be"):
            await create(model="auto", messages=[USER], extra_headers={"X-Anamnesis-Memory": "perhaps"})
    assert (search.project_filter, search.instance_filter) == ("café", "laptop")
    assert REMEMBERED in backend.asked[0].memory
    assert backend.asked[0].memory_at == 0
    assert [ask.memory for ask in backend.asked[1:]] == ["", "", ""]
    states = [one.headers["x-anamnesis-memory"] for one in (with_it, by_body, by_header, failed)]
    assert states == ["recalled", "off", "off", "failed"]
    assert "x-anamnesis-recalled" not in by_body.headers


async def test_frames_of_the_same_dialect_pass_as_they_came() -> None:
    """What only an upstream of this dialect knows reaches the client, and our own fields do not reach the upstream."""
    upstream = frames(
        chunk({"role": "assistant", "content": ""}, system_fingerprint="fp"),
        chunk({"content": "Hi", "flavour": "sour"}),
        chunk({"content": "Ho"}, index=1),
        chunk({}, "stop"),
        chunk({}, "length", index=1),
        {**chunk({}), "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}},
    )
    deltas = [Started("up"), TextDelta("Hi"), None, None, None, None]
    script = [Piece(delta, raw) for delta, raw in zip(deltas, upstream, strict=True)]
    backend = Scripted("own", [*script, Piece(Finish(StopReason.END), b"data: [DONE]\n\n")], Dialect.OPENAI)
    body = {"model": "auto", "messages": [USER], "n": 2, "logit_bias": {"50": 1}, "memory": False}
    async with house(backend) as at, client(at) as api:
        headers = {"Authorization": f"Bearer {CALLER_KEY}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            async with http.post(f"{at.url}/v1/chat/completions", json={**body, "stream": True}) as streamed:
                assert streamed.headers["Content-Type"].startswith("text/event-stream")
                assert await streamed.read() == b"".join(upstream) + b"data: [DONE]\n\n"
            async with http.post(f"{at.url}/v1/chat/completions", json=body) as answered:
                whole = await answered.json()
        parsed = await api.chat.completions.create(model="auto", messages=[USER], n=2)
    first, second = backend.asked[0].native, backend.asked[1].native
    assert first is not None
    assert first.body == {name: value for name, value in body.items() if name != "memory"} | {"stream": True}
    assert second is not None
    assert second.body["stream_options"] == {"include_usage": True}
    assert whole["object"] == "chat.completion"
    assert whole["system_fingerprint"] == "fp"
    assert whole["usage"]["total_tokens"] == 3
    assert [one["finish_reason"] for one in whole["choices"]] == ["stop", "length"]
    assert whole["choices"][0]["message"]["flavour"] == "sour"
    assert [one.message.content for one in parsed.choices] == ["Hi", "Ho"]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True, "top_logprobs": 3}, "logprobs, top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"functions": [{"name": "f"}], "function_call": "auto"}, "functions"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "ash", "format": "wav"}}, "audio"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"invented": 1}, "invented"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, r"tools\[0\] \(custom\)"),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
            r"messages\[0\].content\[0\] \(file\)",
        ),
        ({"messages": [USER, {"role": "assistant", "content": "It is"}]}, r"messages\[1\]"),
    ],
)
async def test_what_a_backend_cannot_be_asked_is_refused_by_name(more: JsonObject, named: str) -> None:
    """A field that only this dialect knows is a 400 that names it, where no backend of the dialect is asked."""
    stranger = Scripted("stranger", HELLO)
    body = {"model": "auto", "messages": [USER], **more}
    async with house(stranger) as at, aiohttp.ClientSession(headers={"X-API-Key": CALLER_KEY}) as http:
        async with http.post(f"{at.url}/v1/chat/completions", json=body) as answer:
            assert answer.status == 400
            error = (await answer.json())["error"]
        async with client(at) as api:
            with pytest.raises(openai.BadRequestError, match=named):
                await api.chat.completions.create(model="auto", messages=[USER], extra_body=more)
    assert error["type"] == "invalid_request_error"
    assert not stranger.asked


async def test_a_stranger_is_passed_over_for_what_it_cannot_be_asked() -> None:
    """Of several backends those of the dialect are asked, where another would lose something."""
    stranger = Scripted("stranger", HELLO)
    own = Scripted("own", [Piece(TextDelta("yes"), frames(chunk({"content": "yes"}, "stop"))[0]), *HELLO[-1:]])
    own.dialect = Dialect.OPENAI
    async with house(stranger, own) as at, client(at) as api:
        answer = await api.chat.completions.create(
            model="auto", messages=[USER], response_format={"type": "json_object"}
        )
    assert answer.choices[0].message.content == "yes"
    assert not stranger.asked


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "messages: Field required"),
        ({"messages": []}, "messages: "),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, r"messages\[0\].content\[0\].text: Field"),
        ({"messages": [{"role": "tool", "content": "x"}]}, r"messages\[0\].tool_call_id: Field"),
        ({"messages": [USER], "temperature": 9}, "temperature: Input should be less"),
        ({"messages": [USER], "max_tokens": 0}, "max_tokens: Input should be greater"),
        ({"messages": [USER], "memory": "perhaps"}, "memory: Input should be a valid boolean"),
    ],
)
async def test_a_request_that_does_not_fit_says_where(body: JsonObject, where: str) -> None:
    """A malformed field is a 400 with its path, as the real service answers."""
    async with house(Scripted("first", HELLO)) as at, client(at) as api:
        with pytest.raises(openai.BadRequestError, match=where):
            await api.post("/chat/completions", body=body, cast_to=object)


async def test_errors_become_the_clients_own() -> None:
    """Every kind of refusal is the exception that the client's users know, with a message that can be read."""
    refusing = Scripted("refusing", [BackendFailure("the model is not there", status=400, moves_on=False)])
    away = Scripted("away", [BackendFailure("cannot be reached")])
    async with house(refusing, away) as at:
        async with client(at, new_key()) as api:
            with pytest.raises(openai.AuthenticationError, match="send a valid API key"):
                await api.chat.completions.create(model="auto", messages=[USER])
        async with client(at) as api:
            with pytest.raises(openai.BadRequestError, match="the model is not there"):
                await api.chat.completions.create(model="auto", messages=[USER])
            with pytest.raises(openai.InternalServerError, match="away: cannot be reached") as caught:
                await api.chat.completions.create(model="away", messages=[USER])
            assert (caught.value.status_code, caught.value.type) == (503, "server_error")
            assert caught.value.request_id
            with pytest.raises(openai.NotFoundError, match="nothing at this path"):
                await api.post("/chat/nothing", cast_to=object)
            with pytest.raises(openai.BadRequestError, match="not JSON"):
                await api.post("/chat/completions", content=b"{", cast_to=object)
            with pytest.raises(openai.APIStatusError, match="may hold at most") as large:
                await api.post("/chat/completions", content=b" " * (33 << 20), cast_to=object)
            assert large.value.status_code == 413


async def test_elsewhere_errors_keep_our_own_form() -> None:
    """Only paths below /v1 speak another house's dialect of errors."""
    async with (
        house(Scripted("first", HELLO)) as at,
        aiohttp.ClientSession() as http,
        http.get(f"{at.url}/api/nothing") as ours,
        http.get(f"{at.url}/v1/models") as theirs,
    ):
        assert set((await ours.json())["error"]) == {"code", "message", "detail"}
        assert set((await theirs.json())["error"]) == {"code", "message", "type", "param"}
        assert (ours.status, theirs.status) == (401, 401)
        assert theirs.headers["WWW-Authenticate"] == "Bearer"


async def test_the_next_backend_is_asked_before_content() -> None:
    """A backend that fails before it says anything is passed over, and the headers count it."""
    away = Scripted("away", [Piece(Started("x")), BackendFailure("connection refused")])
    async with house(away, Scripted("second", HELLO)) as at, client(at) as api:
        raw = await api.chat.completions.with_raw_response.create(model="auto", messages=[USER], stream=True)
        assert raw.headers["x-anamnesis-backend"] == "second"
        assert raw.headers["x-anamnesis-attempts"] == "2"


@pytest.mark.parametrize("script", [[BackendFailure("the connection broke")], []])
async def test_an_answer_that_breaks_off_says_so(script: list[BackendFailure]) -> None:
    """After content a failure, or an end that is none, is an error in the stream without [DONE]; whole, it fails."""
    backend = Scripted("first", [*HELLO[:2], *script])
    async with house(backend) as at, client(at) as api:
        stream = await api.chat.completions.create(model="auto", messages=[USER], stream=True)
        said = []

        async def read() -> None:
            async for one in stream:
                said.append(one.choices[0].delta.content)

        with pytest.raises(openai.APIError, match="first broke off its answer"):
            await read()
        assert said == ["", "Hel"]
        with pytest.raises(openai.InternalServerError, match="first: "):
            await api.chat.completions.create(model="auto", messages=[USER])
        async with aiohttp.ClientSession(headers={"X-API-Key": CALLER_KEY}) as http:
            body = {"messages": [USER], "stream": True}
            async with http.post(f"{at.url}/v1/chat/completions", json=body) as answer:
                content = await answer.read()
    assert b"[DONE]" not in content
    assert content.rstrip().rpartition(b"\n")[2].startswith(b'data: {"error":')


async def test_a_whole_answer_that_breaks_off_is_asked_of_the_next() -> None:
    """Where nothing has been given out yet, half an answer is as good as none."""
    half = Scripted("half", [*HELLO[:2], BackendFailure("the connection broke")])
    async with house(half, Scripted("second", HELLO)) as at, client(at) as api:
        raw = await api.chat.completions.with_raw_response.create(model="auto", messages=[USER])
    assert raw.parse().choices[0].message.content == "Hello"
    assert raw.headers["x-anamnesis-backend"] == "second"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_ends_the_work(stream: bool) -> None:
    """Leaving in the middle of an answer closes it at the backend at once."""
    never = asyncio.Event()
    backend = Scripted("first", [*HELLO[:2], never])
    async with house(backend) as at, aiohttp.ClientSession(headers={"X-API-Key": CALLER_KEY}) as http:
        body: JsonObject = {"messages": [USER], "stream": stream}
        asking = asyncio.create_task(_read_on(http, f"{at.url}/v1/chat/completions", body))
        await asyncio.wait_for(backend.reached.wait(), 10)
        asking.cancel()
        await asyncio.wait_for(backend.closed.wait(), 10)


async def test_a_client_that_leaves_before_the_first_word_ends_the_work() -> None:
    """Leaving while the backend still thinks closes it as well."""
    backend = Scripted("first", [asyncio.Event()])
    async with house(backend) as at, aiohttp.ClientSession(headers={"X-API-Key": CALLER_KEY}) as http:
        body: JsonObject = {"messages": [USER], "stream": True}
        asking = asyncio.create_task(_read_on(http, f"{at.url}/v1/chat/completions", body))
        await asyncio.wait_for(backend.reached.wait(), 10)
        asking.cancel()
        await asyncio.wait_for(backend.closed.wait(), 10)


async def _read_on(http: aiohttp.ClientSession, url: str, body: JsonObject) -> bytes:
    async with http.post(url, json=body) as answer:
        return await answer.read()


async def test_a_silent_stream_is_kept_alive_once_it_has_begun() -> None:
    """Comments come while the backend pauses after content, and none before: they would commit the answer."""
    go_on = asyncio.Event()
    backend = Scripted("first", [*HELLO[:2], go_on, *HELLO[2:]])
    patience = Patience(keep_alive=0.05)
    async with (
        house(backend, patience=patience) as at,
        aiohttp.ClientSession(headers={"X-API-Key": CALLER_KEY}) as http,
    ):
        body = {"messages": [USER], "stream": True}
        async with http.post(f"{at.url}/v1/chat/completions", json=body) as answer:
            lines = [await answer.content.readline() for _ in range(8)]
            go_on.set()
            rest = await answer.content.read()
    assert lines[0].startswith(b"data:")
    assert b": keep-alive\n" in lines
    assert rest.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [True, False])
async def test_nothing_is_sent_before_the_first_content(stream: bool) -> None:
    """However long a backend thinks, no comment commits an answer that may still become an error."""
    go_on = asyncio.Event()
    backend = Scripted("first", [Piece(Started("x")), go_on, BackendFailure("gave up")])
    headers = {"X-API-Key": CALLER_KEY}
    async with house(backend, patience=Patience(keep_alive=0.02)) as at, aiohttp.ClientSession(headers=headers) as http:
        asking = http.post(f"{at.url}/v1/chat/completions", json={"messages": [USER], "stream": stream})
        answering = asyncio.ensure_future(asking)
        await asyncio.wait_for(backend.reached.wait(), 10)
        await asyncio.sleep(0.3)  # many times the pause after which a comment would come
        assert not answering.done()
        go_on.set()
        async with await answering as answer:
            assert answer.status == 503
            assert "gave up" in (await answer.json())["error"]["message"]


async def test_a_slow_reader_is_dropped() -> None:
    """A client that takes nothing of a long answer is cut off, and the backend's work ends."""
    endless = [Piece(TextDelta("x" * 60_000))] * 2_000
    backend = Scripted("first", endless)
    async with house(backend, patience=Patience(send=0.5)) as at:
        host, _, port = at.url.removeprefix("http://").partition(":")
        body = json.dumps({"messages": [USER], "stream": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {CALLER_KEY}\r\n"
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, (host, int(port)))
            await loop.sock_sendall(connection, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await asyncio.wait_for(backend.closed.wait(), 30)
    assert backend.said < len(endless)


async def test_models_are_listed() -> None:
    """Models have the names that they can be asked for by; the trainers' own name stands for itself."""
    trainers = Scripted("anamnesis-gpt", HELLO)
    trainers.listed = ("smollm2-135m", "poet")
    other = Scripted("openai", HELLO)
    other.listed = ("org/big", "small")
    absent = Scripted("ollama", HELLO)
    absent.missing = "set ANAMNESIS_OLLAMA_URL"
    async with house(trainers, other, absent) as at, client(at) as api:
        listed = [one.id async for one in api.models.list()]
        one = await api.models.retrieve("openai:org/big")
        with pytest.raises(openai.NotFoundError, match="GET /v1/models"):
            await api.models.retrieve("nobody")
        await api.chat.completions.create(model="small", messages=[USER])
    assert listed == ["anamnesis-gpt", "anamnesis-gpt:poet", "openai:org/big", "openai:small", MODEL]
    assert (one.id, one.owned_by) == ("openai:org/big", "openai")
    assert len(other.asked) == 1


async def test_embeddings() -> None:
    """Texts are embedded by memory's model, the same as numbers and as base64, in portions that memory takes."""
    texts = [f"text {number}" for number in range(300)]
    async with house(Scripted("first", HELLO)) as at, client(at) as api:
        answer = await api.embeddings.create(model=MODEL, input=texts)  # this client asks for base64
        single = await api.embeddings.create(
            model="auto", input="a question", encoding_format="float", extra_body={"input_type": "query"}
        )
        portions = [(len(one.texts), one.kind) for one in at.memory.embedded]
    assert [one.embedding for one in answer.data] == [vector_of(text) for text in texts]
    assert [one.index for one in answer.data] == list(range(300))
    assert answer.model == MODEL
    assert answer.usage.total_tokens > 0
    assert single.data[0].embedding == vector_of("a question")
    assert portions == [(256, "passage"), (44, "passage"), (1, "query")]


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"model": "text-embedding-3-small", "input": "x"}, openai.NotFoundError, MODEL),
        ({"model": MODEL, "input": "x", "dimensions": 2}, openai.BadRequestError, "dimensions"),
        ({"model": MODEL, "input": [1, 2]}, openai.BadRequestError, "send text, not tokens"),
        ({"model": MODEL, "input": ""}, openai.BadRequestError, r"input\[0\]"),
        ({"model": MODEL, "input": "x" * 8_001}, openai.BadRequestError, "at most 8000"),
        ({"model": MODEL, "input": ["x"] * 2_049}, openai.BadRequestError, "at most 2048"),
    ],
)
async def test_embeddings_that_cannot_be_made(asked: JsonObject, error: type[Exception], words: str) -> None:
    """What memory's model cannot do is refused with what to do instead."""
    async with house(Scripted("first", HELLO)) as at, client(at) as api:
        with pytest.raises(error, match=words):
            await api.embeddings.create(**asked)
