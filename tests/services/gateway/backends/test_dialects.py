"""Translation to and from the two dialects, for any conversation and any cut of a stream."""

import contextlib
import json
from collections.abc import Iterator, Sequence

import pytest
from anthropic.types import MessageParam
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessageParam
from pydantic import JsonValue, TypeAdapter

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.chat import StopReason, Usage
from services.gateway.backends.base import (
    Ask,
    BackendFailure,
    Delta,
    Finish,
    Image,
    Message,
    Part,
    Started,
    Text,
    TextDelta,
    ThinkingDelta,
    Tool,
    ToolBegin,
    ToolInput,
    ToolResult,
    ToolUse,
)
from services.gateway.backends.dialects.anthropic import MAX_TOKENS, AnthropicReader, to_anthropic
from services.gateway.backends.dialects.frames import MAX_FRAME, Events, FrameTooLarge, Lines, Reader
from services.gateway.backends.dialects.openai import FAILED, OpenAIReader, to_openai
from services.gateway.backends.dialects.values import object_in, objects_in, text_in

from ..upstreams import sse

OPENAI_MESSAGE: TypeAdapter[ChatCompletionMessageParam] = TypeAdapter(ChatCompletionMessageParam)
ANTHROPIC_MESSAGE: TypeAdapter[MessageParam] = TypeAdapter(MessageParam)

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
names = st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True)
inputs = st.dictionaries(names, st.none() | st.integers(-9, 9) | words | st.lists(words, max_size=2), max_size=3)
texts = st.builds(Text, words)
images = st.builds(Image, st.just("image/png"), st.sampled_from(["aGk=", "YQ=="])) | st.builds(
    Image, url=st.just("https://example.org/a.png")
)
calls = st.builds(ToolUse, names, names, inputs)
results = st.builds(ToolResult, names, st.lists(texts, min_size=1, max_size=1).map(tuple), st.booleans())
tools = st.builds(Tool, names, words, inputs)
choices = st.sampled_from(["auto", "none", "required", "tool:weather"])


def parts(*kinds: st.SearchStrategy[Part]) -> st.SearchStrategy[tuple[Part, ...]]:
    """At least one part, those of a kind together, in the order of the kinds."""
    lists = st.tuples(*(st.lists(kind, max_size=2) for kind in kinds))
    return lists.map(lambda several: tuple(part for one in several for part in one)).filter(bool)


said = st.builds(Message, st.just("assistant"), parts(texts.map(lambda text: text), calls))
asked = st.builds(Message, st.just("user"), parts(results, images, texts))


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    """Conversations in which each role speaks in its turn, and the user last."""
    turns: list[Message] = []
    for _ in range(draw(st.integers(0, 2))):
        turns += [draw(asked), draw(said)]
    given_tools = tuple(draw(st.lists(tools, max_size=2)))
    return Ask(
        (*turns, draw(asked)),
        system=draw(st.just("") | words),
        tools=given_tools,
        tool_choice=draw(choices) if given_tools else "auto",
        model=draw(st.none() | names),
        max_tokens=draw(st.integers(1, 9000)),
        temperature=draw(st.none() | st.floats(0, 1)),
        top_p=draw(st.none() | st.floats(0, 1)),
        stop=tuple(draw(st.lists(words, max_size=2))),
    )


# The request --------------------------------------------------------------------------------------


def read_openai(body: JsonObject) -> Ask:
    """What a request in OpenAI's dialect means, read as a client of it would write it."""
    turns: list[Message] = []
    system = ""
    for message in objects_in(body, "messages"):
        found: list[Part] = []
        role = text_in(message, "role")
        if role == "system":
            system = text_in(message, "content")
            continue
        if role == "tool":
            content = text_in(message, "content")
            found = [
                ToolResult(
                    text_in(message, "tool_call_id"), (Text(content.removeprefix(FAILED)),), content.startswith(FAILED)
                )
            ]
        elif isinstance(message.get("content"), list):
            found = [_openai_part(part) for part in objects_in(message, "content")]
        elif message.get("content"):
            found = [Text(text_in(message, "content"))]
        for call in objects_in(message, "tool_calls"):
            function = object_in(call, "function")
            found.append(
                ToolUse(text_in(call, "id"), text_in(function, "name"), json.loads(text_in(function, "arguments")))
            )
        if role == "assistant":
            turns.append(Message("assistant", tuple(found)))
        elif turns and turns[-1].role == "user":
            turns[-1] = Message("user", (*turns[-1].parts, *found))
        else:
            turns.append(Message("user", tuple(found)))
    functions = [object_in(tool, "function") for tool in objects_in(body, "tools")]
    choice = body.get("tool_choice", "auto")
    return Ask(
        tuple(turns),
        system=system,
        tools=tuple(Tool(text_in(f, "name"), text_in(f, "description"), object_in(f, "parameters")) for f in functions),
        tool_choice=f"tool:{text_in(object_in(choice, 'function'), 'name')}"
        if isinstance(choice, dict)
        else str(choice),
        **_parameters(body, "stop"),  # type: ignore[arg-type]  # as they are called in both
    )


def _openai_part(part: JsonObject) -> Part:
    if part["type"] == "text":
        return Text(text_in(part, "text"))
    url = text_in(object_in(part, "image_url"), "url")
    if url.startswith("data:"):
        kind, _, data = url.removeprefix("data:").partition(";base64,")
        return Image(kind, data)
    return Image(url=url)


def read_anthropic(body: JsonObject) -> Ask:
    turns = [
        Message(
            "user" if message["role"] == "user" else "assistant",
            tuple(_anthropic_part(part) for part in objects_in(message, "content")),
        )
        for message in objects_in(body, "messages")
    ]
    choice = object_in(body, "tool_choice")
    kind = text_in(choice, "type") or "auto"
    return Ask(
        tuple(turns),
        system=text_in(body, "system"),
        tools=tuple(
            Tool(text_in(tool, "name"), text_in(tool, "description"), object_in(tool, "input_schema"))
            for tool in objects_in(body, "tools")
        ),
        tool_choice={"any": "required", "tool": f"tool:{choice.get('name')}"}.get(kind, kind),
        **_parameters(body, "stop_sequences"),  # type: ignore[arg-type]  # as they are called in both
    )


def _anthropic_part(part: JsonObject) -> Part:
    match part["type"]:
        case "text":
            return Text(text_in(part, "text"))
        case "image":
            source = object_in(part, "source")
            return Image(text_in(source, "media_type"), text_in(source, "data"), text_in(source, "url"))
        case "tool_use":
            return ToolUse(text_in(part, "id"), text_in(part, "name"), object_in(part, "input"))
    inner = tuple(Text(text_in(one, "text")) for one in objects_in(part, "content"))
    return ToolResult(text_in(part, "tool_use_id"), inner, part.get("is_error") is True)


def _parameters(body: JsonObject, stop: str) -> dict[str, object]:
    stops = body.get(stop, [])
    assert isinstance(stops, list)
    return {name: body.get(name) for name in ("model", "max_tokens", "temperature", "top_p")} | {"stop": tuple(stops)}


def joined(ask: Ask) -> list[tuple[str, list[Part]]]:
    """The turns with neighbouring texts as one, as OpenAI's dialect keeps them in places."""
    turns = list[tuple[str, list[Part]]]()
    for message in ask.messages:
        found: list[Part] = []
        for part in message.parts:
            if isinstance(part, Text) and found and isinstance(found[-1], Text):
                found[-1] = Text(f"{found[-1].text}\n{part.text}")
            else:
                found.append(part)
        turns.append((message.role, found))
    return turns


def settings(ask: Ask) -> tuple[object, ...]:
    return (ask.system, ask.tools, ask.tool_choice, ask.model, ask.max_tokens, ask.temperature, ask.top_p, ask.stop)


@given(asks())
def test_anthropic_holds_the_whole_conversation(ask: Ask) -> None:
    """Whatever a conversation holds can be read back from the request that is made of it."""
    back = read_anthropic(json.loads(json.dumps(to_anthropic(ask))))
    assert back.messages == ask.messages
    assert settings(back) == settings(ask)


@given(asks())
def test_openai_holds_the_whole_conversation(ask: Ask) -> None:
    """The same in OpenAI's dialect, which joins neighbouring texts."""
    back = read_openai(json.loads(json.dumps(to_openai(ask))))
    assert [(role, _flat(found)) for role, found in joined(back)] == [
        (role, _flat(found)) for role, found in joined(ask)
    ]
    assert settings(back) == settings(ask)


def _flat(found: Sequence[Part]) -> list[Part]:
    """Texts without the line ends that joining puts in: how many there are is not meaning."""
    flat: list[Part] = []
    for part in found:
        flat.append(Text(part.text.replace("\n", "")) if isinstance(part, Text) else part)
    return flat


@given(asks())
def test_requests_fit_the_vendors_own_types(ask: Ask) -> None:
    """Every message is one that the vendors' own clients could have sent, as far as their types say."""
    for dialect, body in ((OPENAI_MESSAGE, to_openai(ask)), (ANTHROPIC_MESSAGE, to_anthropic(ask))):
        for message in objects_in(body, "messages"):
            content = dialect.validate_python(message).get("content")
            if content is not None and not isinstance(content, str):
                assert list(content)  # a part is looked at when it is taken


def test_anthropic_wants_a_bound() -> None:
    """Where an ask has no bound the dialect's default is sent, as it refuses requests without one."""
    assert to_anthropic(Ask((Message("user", (Text("hello"),)),)))["max_tokens"] == MAX_TOKENS


def test_an_empty_answer_of_before() -> None:
    """A turn whose answer stayed empty does not make the next request one that Anthropic refuses."""
    turns = (Message("user", (Text("a"),)), Message("assistant", (Text(""),)), Message("user", (Text("b"),)))
    assert [message["role"] for message in objects_in(to_anthropic(Ask(turns)), "messages")] == ["user", "user"]


# The answer ---------------------------------------------------------------------------------------

spoken = st.lists(
    st.builds(TextDelta, words)
    | st.builds(ThinkingDelta, words)
    | st.tuples(names, names, st.lists(words, max_size=3)),
    max_size=6,
)
cuts = st.lists(st.integers(1, 40), min_size=1, max_size=8)
Spoken = Sequence[TextDelta | ThinkingDelta | tuple[str, str, list[str]]]
END = Finish(StopReason.LENGTH, Usage(input_tokens=3, output_tokens=4))


def expected(spoken: Spoken) -> list[Delta]:
    told: list[Delta] = [Started("m")]
    for one in spoken:
        if isinstance(one, TextDelta | ThinkingDelta):
            told.append(one)
        else:
            told += [ToolBegin(one[0], one[1]), *(ToolInput(part) for part in one[2])]
    return [*told, END]


def openai_frames(spoken: Spoken) -> Iterator[bytes]:
    def chunk(delta: JsonObject, reason: str | None = None) -> bytes:
        return sse({"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    number = 0
    for one in spoken:
        match one:
            case TextDelta(text):
                yield chunk({"content": text})
            case ThinkingDelta(text):
                yield chunk({"reasoning_content": text})
            case (id, name, inputs):
                for position, part in enumerate(inputs or [""]):
                    function: JsonObject = {"arguments": part, "name": name} if position == 0 else {"arguments": part}
                    yield chunk({"tool_calls": [{"index": number, "id": id, "function": function}]})
                number += 1
    yield chunk({}, "length")
    yield sse({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
    yield b"data: [DONE]\n\n"


def anthropic_frames(spoken: Spoken) -> Iterator[bytes]:
    def event(kind: str, **fields: JsonValue) -> bytes:
        return sse({"type": kind, **fields}, name=kind)

    yield event("message_start", message={"model": "m", "usage": {"input_tokens": 3}})
    for index, one in enumerate(spoken):
        match one:
            case TextDelta(text):
                yield event("content_block_start", index=index, content_block={"type": "text", "text": ""})
                yield event("content_block_delta", index=index, delta={"type": "text_delta", "text": text})
            case ThinkingDelta(text):
                yield event("content_block_start", index=index, content_block={"type": "thinking", "thinking": ""})
                yield event("content_block_delta", index=index, delta={"type": "thinking_delta", "thinking": text})
                yield event("content_block_delta", index=index, delta={"type": "signature_delta", "signature": "s"})
            case (id, name, inputs):
                block: JsonValue = {"type": "tool_use", "id": id, "name": name, "input": {}}
                yield event("content_block_start", index=index, content_block=block)
                for part in inputs:
                    yield event(
                        "content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": part}
                    )
        yield event("content_block_stop", index=index)
    yield event("message_delta", delta={"stop_reason": "max_tokens"}, usage={"output_tokens": 4})
    yield event("message_stop")


def read(reader: Reader, whole: bytes, cuts: Sequence[int]) -> tuple[list[Delta], bytes]:
    """What is understood of a stream that arrives in such pieces, and the bytes that are kept."""
    events, deltas, raw, at, number = Events(), list[Delta](), b"", 0, 0
    while at < len(whole):
        size = cuts[number % len(cuts)]
        for frame in events.feed(whole[at : at + size]):
            for piece in reader.read(frame):
                raw += piece.raw
                deltas += [piece.delta] if piece.delta is not None else []
        at, number = at + size, number + 1
    return deltas, raw


@given(spoken, cuts)
def test_openais_stream_is_understood(spoken: Spoken, cuts: Sequence[int]) -> None:
    """Whatever is said, and wherever the stream is cut into pieces, it means the same and its bytes are kept."""
    whole = b"".join(openai_frames(spoken))
    reader = OpenAIReader(raw=True, usage=True)
    # Tools that are called have an order there, not a place among the words; the order of all is the stream's.
    assert read(reader, whole, cuts) == (expected(spoken), whole)
    assert reader.whole


@given(spoken, cuts)
def test_anthropics_stream_is_understood(spoken: Spoken, cuts: Sequence[int]) -> None:
    """The same for Anthropic's events."""
    whole = b"".join(anthropic_frames(spoken))
    reader = AnthropicReader(raw=True)
    assert read(reader, whole, cuts) == (expected(spoken), whole)
    assert reader.whole


@given(st.binary(max_size=300), cuts)
def test_nonsense_is_a_failure_at_most(noise: bytes, cuts: Sequence[int]) -> None:
    """Bytes of any kind are either read over or a `BackendFailure`, and never end an answer well."""
    for reader in (OpenAIReader(raw=True, usage=True), AnthropicReader(raw=True)):
        with contextlib.suppress(BackendFailure):
            read(reader, b"data: " + noise + b"\n\n", cuts)
        assert not reader.whole


@given(st.recursive(st.none() | st.integers() | words, lambda x: st.lists(x) | st.dictionaries(words, x), max_leaves=8))
@pytest.mark.parametrize("key", ["choices", "usage", "model", "delta", "message", "content_block"])
def test_json_of_the_wrong_shape(key: str, value: JsonValue) -> None:
    """JSON of any shape where another is promised is a bad chunk, never an error of ours."""
    for kind in ("message_start", "content_block_start", "content_block_delta", "message_delta"):
        for reader in (OpenAIReader(raw=False, usage=True), AnthropicReader(raw=False)):
            with contextlib.suppress(BackendFailure):
                read(reader, sse({"type": kind, key: value}), [1000])
            assert not reader.whole


def test_tool_calls_without_index() -> None:
    """Servers that send whole calls without their index are understood: each name is another call."""
    chunk: JsonValue = [{"function": {"name": name, "arguments": "{}"}} for name in ("one", "two")]
    deltas, _ = read(OpenAIReader(raw=False, usage=True), sse({"choices": [{"delta": {"tool_calls": chunk}}]}), [1000])
    begun = [delta for delta in deltas if isinstance(delta, ToolBegin)]
    assert [one.name for one in begun] == ["one", "two"]
    assert len({one.id for one in begun}) == 2


@pytest.mark.parametrize("splitter", [Events(), Lines()])
def test_a_frame_has_a_bound(splitter: Events | Lines) -> None:
    """A frame that does not end is given up at 1 MiB, not gathered for ever."""
    for _ in range(MAX_FRAME // 65_536):
        splitter.feed(b"x" * 65_536)
    with pytest.raises(FrameTooLarge):
        splitter.feed(b"x")


@given(st.lists(st.from_regex(rb"[a-z]{1,20}", fullmatch=True), max_size=10), cuts)
def test_lines_are_cut_right(lines: list[bytes], cuts: Sequence[int]) -> None:
    """Lines come out whole however they arrive."""
    whole, splitter, found, at, number = b"".join(line + b"\n" for line in lines), Lines(), list[bytes](), 0, 0
    while at < len(whole):
        size = cuts[number % len(cuts)]
        found += [frame.data for frame in splitter.feed(whole[at : at + size])]
        at, number = at + size, number + 1
    assert found == lines
