"""Requests and frames that travel as they came, because client and backend speak the same dialect."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from pydantic import JsonValue

from anamnesis.contracts.base import JsonObject
from services.gateway.backends.base import Ask, BackendFailure, Dialect, Finish, Message, Native, Text, ToolResult
from services.gateway.backends.claude import Claude

from ..upstreams import respond, sse, stream
from .stands import CLAUDE_KEY, OPENAI_KEY, SERVICE_KEY, HttpStand, Scene, pieces, stand_for

OPENAI_BODY: JsonObject = {
    "model": "whatever the client says",
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "first question"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": {}}]},
        {"role": "tool", "tool_call_id": "a", "content": "given back"},
        {"role": "user", "content": [{"type": "text", "text": "second question"}, {"type": "input_audio", "x": 1}]},
    ],
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True}},
    "n": 1,
    "logit_bias": {"50256": -100},
    "unheard_of": {"deep": [1, 2.5, None, "ü", 12345678901234567890123]},
}
ANTHROPIC_BODY: JsonObject = {
    "model": "whatever the client says",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": "first question"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "given back"},
                {"type": "text", "text": "second question", "cache_control": {"type": "ephemeral"}},
            ],
        },
    ],
    "thinking": {"type": "enabled", "budget_tokens": 50},
    "metadata": {"user_id": "u"},
    "unheard_of": {"deep": [1, 2.5, None, "ü"]},
}
TURNS = (
    Message("user", (Text("first question"),)),
    Message("assistant", (Text("hm"),)),
    Message("user", (ToolResult("a", (Text("given back"),)), Text("second question"))),
)
BODIES: Mapping[str, JsonObject] = {"openai": OPENAI_BODY, "anamnesis-gpt": OPENAI_BODY, "claude": ANTHROPIC_BODY}
NATIVE = ("openai", "claude")


def ask(name: str, *, memory: str = "", at: int = -1, headers: Mapping[str, str] | None = None) -> Ask:
    dialect = Dialect.ANTHROPIC if name == "claude" else Dialect.OPENAI
    native = Native(dialect, BODIES[name], headers or {})
    return Ask(TURNS, memory=memory, memory_at=at, model="some-model", native=native)


@pytest.fixture
async def stand(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HttpStand]:
    async with stand_for(request.param, tmp_path) as one:
        yield cast(HttpStand, one)


native = pytest.mark.parametrize("stand", NATIVE, indirect=True)
claude = pytest.mark.parametrize("stand", ["claude"], indirect=True)
openai = pytest.mark.parametrize("stand", ["openai"], indirect=True)


def without(body: JsonObject, *names: str) -> JsonObject:
    return {name: value for name, value in body.items() if name not in names}


def messages(body: JsonObject) -> list[JsonValue]:
    listed = body["messages"]
    assert isinstance(listed, list)
    return listed


@native
async def test_a_request_travels_as_it_came(stand: HttpStand) -> None:
    """Everything of the request reaches the upstream, known to us or not, but for the model and how it streams."""
    assert stand.backend.cannot(ask(stand.name)) is None
    await pieces(stand.backend, ask(stand.name))
    body = (await stand.asked()).body
    ours = ("model", "stream", "stream_options")
    assert without(body, *ours) == without(BODIES[stand.name], *ours)
    assert body["model"] == "some-model"
    assert body["stream"] is True


@native
async def test_the_frames_come_back_as_they_came(stand: HttpStand) -> None:
    """The bytes of the answer are those that the upstream sent, comments, unknown events and odd line ends included."""
    frames = stand.dialect.frames(Scene(calls=True))
    odd = [b": keep-alive\r\n\r\n", b"id: 7\ndata:  {\ndata: }\n\n" if stand.name == "claude" else b": hm\n\n"]
    if stand.name == "claude":
        odd[1] = b'event: unheard\r\nid: 7\r\ndata: {"type": "unheard",\r\ndata:  "of": 1}\r\n\r\n'
    if stand.name == "openai":
        frames = [frame for frame in frames if b'"usage"' not in frame]
    sent = [odd[0], *frames[:-1], odd[1], frames[-1]]
    # Cut where it hurts: within lines, within characters, and between the two line ends of a blank line.
    whole = b"".join(sent)
    stand.upstream.play(stream([whole[at : at + 7] for at in range(0, len(whole), 7)]))
    given = await pieces(stand.backend, ask(stand.name))
    assert b"".join(piece.raw for piece in given) == whole
    assert isinstance(given[-1].delta, Finish)


@openai
async def test_usage_that_was_not_asked_for(stand: HttpStand) -> None:
    """A client that did not ask for the usage does not get its chunk, which old ones stumble over; we still count."""
    given = await pieces(stand.backend, ask("openai"))
    assert b'"usage"' not in b"".join(piece.raw for piece in given)
    assert isinstance(given[-1].delta, Finish)
    assert given[-1].delta.usage is not None
    assert (await stand.asked()).body["stream_options"] == {"include_usage": True}


@openai
async def test_usage_that_was_asked_for(stand: HttpStand) -> None:
    """A client that asks for the usage gets its chunk, and what else it sets about the stream travels along."""
    asked = ask("openai")
    options: JsonObject = {"include_usage": True, "include_obfuscation": False}
    asked = replace(asked, native=Native(Dialect.OPENAI, OPENAI_BODY | {"stream_options": options}))
    given = await pieces(stand.backend, asked)
    assert b"".join(piece.raw for piece in given) == b"".join(stand.dialect.frames(Scene()))
    assert (await stand.asked()).body["stream_options"] == options


@native
@pytest.mark.parametrize("at", [0, 2])
async def test_memory_in_a_request_that_travels(stand: HttpStand, at: int) -> None:
    """What was recalled goes before the words of the message that it belongs to; all else stays as it came."""
    await pieces(stand.backend, ask(stand.name, memory="[recalled]", at=at))
    told = messages((await stand.asked()).body)
    before = messages(BODIES[stand.name])
    changed = [number for number, (one, other) in enumerate(zip(told, before, strict=True)) if one != other]
    position = {("openai", 0): 1, ("openai", 2): 4, ("claude", 0): 0, ("claude", 2): 2}[stand.name, at]
    assert changed == [position]
    message, was = told[position], before[position]
    assert isinstance(message, dict)
    assert isinstance(was, dict)
    if at == 0:
        assert message == was | {"content": "[recalled]\n\nfirst question"}
        return
    content, original = message["content"], was["content"]
    assert isinstance(content, list)
    assert isinstance(original, list)
    place = 1 if stand.name == "claude" else 0  # after what a tool gave back, which has to come first
    assert content == [*original[:place], {"type": "text", "text": "[recalled]"}, *original[place:]]


@native
async def test_what_came_is_not_changed(stand: HttpStand) -> None:
    """The client's own request is left alone: the next backend in order starts from it again."""
    asked = ask(stand.name, memory="[recalled]", at=2)
    before = repr(BODIES[stand.name])
    await pieces(stand.backend, asked)
    assert repr(BODIES[stand.name]) == before


@claude
async def test_headers_of_the_dialect(stand: HttpStand) -> None:
    """Version and betas are the client's own, its other headers stay here; and the key is ours."""
    headers = {"Anthropic-Version": "2099-01-01", "anthropic-beta": "a,b", "x-api-key": "theirs", "cookie": "c"}
    await pieces(stand.backend, ask("claude", headers=headers))
    sent = (await stand.asked()).headers
    assert (sent["anthropic-version"], sent["anthropic-beta"]) == ("2099-01-01", "a,b")
    assert sent["x-api-key"] == CLAUDE_KEY
    assert "cookie" not in sent


@pytest.mark.parametrize("stand", ["openai", "anamnesis-gpt"], indirect=True)
async def test_the_key_of_each(stand: HttpStand) -> None:
    """A hosted endpoint gets the key for it, a trainer the key between services."""
    await pieces(stand.backend, Ask((Message("user", (Text("hello"),)),)))
    key = {"openai": OPENAI_KEY, "anamnesis-gpt": SERVICE_KEY}[stand.name]
    assert (await stand.asked()).headers["authorization"] == f"Bearer {key}"


@claude
async def test_counting_tokens(stand: HttpStand) -> None:
    """`count_tokens` is asked as the client asked, and answered as the API answers."""
    stand.upstream.route("POST /v1/messages/count_tokens", respond(200, {"input_tokens": 42, "more": [1]}))
    assert isinstance(stand.backend, Claude)
    body = without(ANTHROPIC_BODY, "max_tokens")
    native = Native(Dialect.ANTHROPIC, body, {"anthropic-beta": "token-counting"})
    assert await stand.backend.count_tokens(native, "some-model") == {"input_tokens": 42, "more": [1]}
    (seen,) = [one for one in stand.upstream.asides if one.path.endswith("count_tokens")]
    assert seen.json() == body | {"model": "some-model"}
    assert seen.headers["anthropic-beta"] == "token-counting"


@claude
async def test_another_dialect_does_not_travel(stand: HttpStand) -> None:
    """A request in OpenAI's dialect is translated for the Claude API, and no frame of it comes back."""
    asked = replace(ask("openai"), system="Be brief.")
    given = await pieces(stand.backend, asked)
    assert {piece.raw for piece in given} == {b""}
    body = (await stand.asked()).body
    assert body["system"] == "Be brief."
    assert "response_format" not in body


@openai
@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        ("application/json", b'{"error": {"type": "server_error"}}', "application/json instead of a stream (server_er"),
        ("text/html", b"<h1>hello</h1>", "text/html instead of a stream"),
    ],
)
async def test_a_200_that_is_no_stream(stand: HttpStand, kind: str, body: bytes, told: str) -> None:
    """A 200 that holds something else than a stream is a failure that names what it held."""
    stand.upstream.play(stream([body], kind=kind))
    with pytest.raises(BackendFailure, match="answered") as raised:
        await pieces(stand.backend, ask("openai"))
    assert told in raised.value.reason


@openai
async def test_done_without_a_reason(stand: HttpStand) -> None:
    """`[DONE]` of an answer that never said why it stopped is an answer cut off, not an empty one."""
    stand.upstream.play(stream([sse({"choices": [{"index": 0, "delta": {}}]}), b"data: [DONE]\n\n"]))
    with pytest.raises(BackendFailure, match="before its answer was whole"):
        await pieces(stand.backend, ask("openai"))


@openai
async def test_a_redirect_is_not_followed(stand: HttpStand) -> None:
    """A key goes nowhere but where it was meant to go."""
    stand.upstream.play(respond(307, None, {"Location": stand.upstream.url + "/elsewhere"}))
    with pytest.raises(BackendFailure, match="answered 307"):
        await pieces(stand.backend, ask("openai"))
    assert len(stand.upstream.seen) == 1


@openai
async def test_a_connection_is_used_again(stand: HttpStand) -> None:
    """An answer that was read to its end leaves its connection for the next."""
    for _ in range(3):
        await pieces(stand.backend, ask("openai"))
    assert stand.upstream.connected == 1


@openai
async def test_the_list_of_models_is_remembered(stand: HttpStand) -> None:
    """A default model costs one request, not one a turn; when it is gone, the list is asked for again."""
    asked = replace(ask("openai"), model=None)
    await pieces(stand.backend, asked)
    await pieces(stand.backend, asked)
    assert len(stand.upstream.asides) == 1
    stand.refuses(404)
    with pytest.raises(BackendFailure, match="404"):
        await pieces(stand.backend, asked)
    stand.plays(Scene())
    await pieces(stand.backend, asked)
    assert len(stand.upstream.asides) == 2
