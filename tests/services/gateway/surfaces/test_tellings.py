"""Answers rendered in each dialect, read back by the accumulators of the real clients."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.chat import StopReason, Usage
from services.gateway.backends.base import Delta, Finish, Started, TextDelta, ThinkingDelta, ToolBegin, ToolInput
from services.gateway.surfaces.anthropic_answer import AnthropicTelling
from services.gateway.surfaces.frames import content_of
from services.gateway.surfaces.openai_answer import OpenAITelling
from services.gateway.surfaces.telling import Telling

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
inputs = st.dictionaries(words, st.one_of(st.integers(), words, st.lists(words, max_size=3)), max_size=4)


@st.composite
def tool_calls(draw: st.DrawFn) -> list[Delta]:
    """A call whose input comes in pieces, cut anywhere; no input at all for an empty one."""
    number = draw(st.integers(0, 10**9))
    written = json.dumps(draw(inputs))
    written = "" if written == "{}" else written
    cuts = sorted(draw(st.lists(st.integers(0, len(written)), max_size=4)))
    pieces = [written[a:b] for a, b in zip([0, *cuts], [*cuts, len(written)], strict=True)]
    return [ToolBegin(f"call_{number}", draw(words)), *(ToolInput(piece) for piece in pieces)]


@st.composite
def answers(draw: st.DrawFn) -> list[Delta]:
    parts = draw(
        st.lists(
            st.one_of(
                words.map(lambda text: [TextDelta(text)]), words.map(lambda text: [ThinkingDelta(text)]), tool_calls()
            ),
            min_size=1,
            max_size=8,
        )
    )
    counts = st.one_of(st.none(), st.integers(0, 10**6))
    usage = draw(st.one_of(st.none(), st.builds(Usage, input_tokens=counts, output_tokens=counts)))
    return [
        Started("some-model"),
        *(delta for part in parts for delta in part),
        Finish(draw(st.sampled_from(StopReason)), usage),
    ]


def told(telling: Telling, deltas: Sequence[Delta]) -> Iterator[JsonObject]:
    """Events as a client reads them from the frames."""
    for delta in deltas:
        for event in telling.said(delta):
            read = content_of(telling.frame(event))
            assert read == event
            yield event


def said(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def thought(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, ThinkingDelta))


def called(deltas: Sequence[Delta]) -> list[tuple[str, str, object]]:
    calls: list[list[str]] = []
    for delta in deltas:
        if isinstance(delta, ToolBegin):
            calls.append([delta.id, delta.name, ""])
        elif isinstance(delta, ToolInput):
            calls[-1][2] += delta.json
    return [(id, name, json.loads(written or "{}")) for id, name, written in calls]


@given(answers())
def test_openai_reads_what_was_said(deltas: list[Delta]) -> None:
    """OpenAI's client adds the chunks up to what was said; so does the answer without a stream."""
    state = ChatCompletionStreamState()
    telling, gathering = OpenAITelling("m", usage=True), OpenAITelling("m", usage=True)
    for event in told(telling, deltas):
        state.handle_chunk(ChatCompletionChunk.model_validate(event))
        gathering.gather(event)
    whole = gathering.whole()
    completion = state.current_completion_snapshot
    message = completion.choices[0].message
    calls = [(one.id, one.function.name, json.loads(one.function.arguments)) for one in message.tool_calls or []]
    assert (message.content or "") == said(deltas)
    assert calls == called(deltas)
    finish = deltas[-1]
    assert isinstance(finish, Finish)
    reasons = {"stop": StopReason.END, "length": StopReason.LENGTH, "tool_calls": StopReason.TOOL}
    reason = reasons.get(completion.choices[0].finish_reason, StopReason.REFUSED)
    assert reason is (StopReason.TOOL if calls and finish.reason is StopReason.END else finish.reason)
    choices: Any = whole["choices"]
    assert (choices[0]["message"]["content"] or "") == said(deltas)
    assert choices[0]["message"].get("reasoning_content", "") == thought(deltas)
    assert [
        (one["id"], one["function"]["name"], json.loads(one["function"]["arguments"]))
        for one in choices[0]["message"].get("tool_calls", [])
    ] == called(deltas)
    counted = finish.usage is not None and (finish.usage.input_tokens, finish.usage.output_tokens) != (None, None)
    assert ("usage" in whole) == counted


@pytest.mark.parametrize("thinking", [True, False])
@given(deltas=answers())
def test_anthropic_reads_what_was_said(thinking: bool, deltas: list[Delta]) -> None:
    """Anthropic's client adds the events up to what was said, in its order; so does the answer without a stream."""
    telling, gathering = AnthropicTelling("m", thinking=thinking), AnthropicTelling("m", thinking=thinking)
    message: Any = None
    written: Any = {}
    for event in told(telling, deltas):
        gathering.gather(event)
        if event["type"] != "ping":
            message = accumulate_event(event=EVENT.validate_python(event), current_snapshot=message, json_bufs=written)
    blocks = [block.model_dump(exclude_none=True) for block in message.content]
    assert "".join(block["text"] for block in blocks if block["type"] == "text") == said(deltas)
    assert "".join(block["thinking"] for block in blocks if block["type"] == "thinking") == thought(deltas) * thinking
    calls = [(block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]
    assert calls == called(deltas)
    whole: Any = gathering.whole()
    assert whole["content"] == blocks
    assert whole["stop_reason"] == message.stop_reason
    assert whole["usage"]["output_tokens"] == message.usage.output_tokens


@given(answers())
def test_blocks_are_opened_and_closed_in_turn(deltas: list[Delta]) -> None:
    """One block is open at a time, numbered from 0 without a gap; the message begins first and stops last."""
    events = list(told(AnthropicTelling("m", thinking=True), deltas))
    kinds = [event["type"] for event in events]
    assert kinds[:1] == ["message_start"]
    assert kinds[-2:] == ["message_delta", "message_stop"]
    blocks = [event for event in events if str(event["type"]).startswith("content_block")]
    expected = -1
    opened = False
    for event in blocks:
        if event["type"] == "content_block_start":
            assert not opened
            expected, opened = expected + 1, True
        elif event["type"] == "content_block_stop":
            assert opened
            opened = False
        assert event["index"] == expected
    assert not opened
