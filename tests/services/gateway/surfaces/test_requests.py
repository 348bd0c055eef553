"""Requests of both dialects as one conversation."""

import contextlib
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamnesis.contracts.base import JsonObject
from anamnesis.kit.errors import BadRequest
from services.gateway.backends.base import Image, Message, Text, ToolResult, ToolUse
from services.gateway.surfaces.anthropic_request import from_anthropic
from services.gateway.surfaces.asked import Asked, body_of
from services.gateway.surfaces.openai_request import from_openai

Reader = Callable[[JsonObject], Asked]
READERS: list[Reader] = [from_openai, lambda body: from_anthropic(body, {})]
USER: JsonObject = {"role": "user", "content": "Hello"}

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=10), inner, max_size=4)),
    max_leaves=20,
)
fields = st.sampled_from(
    [
        "messages",
        "model",
        "system",
        "tools",
        "tool_choice",
        "stop",
        "stream",
        "thinking",
        "stream_options",
        "content",
        "role",
        "type",
        "text",
        "image_url",
        "tool_calls",
        "function",
        "source",
        "max_tokens",
        "output_config",
        "n",
    ]
)
kinds = st.sampled_from(
    ["user", "assistant", "system", "tool", "text", "image", "image_url", "tool_use", "tool_result"]
)
almost = st.recursive(
    st.one_of(json_values, kinds),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(fields, inner, max_size=5)),
    max_leaves=30,
)


@pytest.mark.parametrize("reader", READERS)
@given(body=st.dictionaries(fields, almost, max_size=8))
def test_whatever_comes_is_understood_or_refused(reader: Reader, body: JsonObject) -> None:
    """No request makes the gateway fall over: it is a conversation, or a `BadRequest`."""
    with contextlib.suppress(BadRequest):
        asked = reader(body)
        assert asked.ask.native is not None
        assert "memory" not in asked.ask.native.body


@given(st.binary(max_size=200))
def test_a_body_is_an_object_or_refused(content: bytes) -> None:
    """Bytes that are no JSON object are refused in words."""
    try:
        expected = json.loads(content)
    except ValueError:
        expected = None
    with contextlib.suppress(BadRequest):
        assert body_of(content) == expected


def test_a_body_is_never_quoted() -> None:
    """What does not fit may be a person's words: the message names the place alone."""
    with pytest.raises(BadRequest) as caught:
        from_openai({"messages": [{"role": "user", "content": {"secret words": 1}}]})
    assert "secret words" not in caught.value.message
    assert caught.value.message.startswith("messages[0].content:")


def test_several_system_messages_are_one() -> None:
    """What the system says counts wherever it stands, in its order."""
    said = from_openai(
        {"messages": [{"role": "system", "content": "One."}, USER, {"role": "developer", "content": "Two."}, USER]}
    )
    assert said.ask.system == "One.\n\nTwo."
    assert [message.role for message in said.ask.messages] == ["user", "user"]


def test_an_empty_message_keeps_its_place() -> None:
    """Messages without words are still messages: a native request counts them too."""
    for reader in READERS:
        asked = reader({"messages": [USER, {"role": "assistant", "content": "x"}, {"role": "user", "content": ""}]})
        assert asked.ask.messages[-1] == Message("user", (Text(""),))


def test_arguments_that_are_no_object_stay_with_their_dialect() -> None:
    """What a model wrote wrongly goes back to a model of its dialect as it was, and to no other."""
    call: JsonObject = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "[1"}}
    answer: JsonObject = {"role": "assistant", "content": None, "tool_calls": [call]}
    asked = from_openai({"messages": [USER, answer, {"role": "tool", "tool_call_id": "c", "content": "x"}]})
    assert asked.untranslated == ("messages[1].tool_calls[0] (arguments that are no JSON object)",)


@pytest.mark.parametrize("reader", READERS)
def test_the_same_conversation_in_both_dialects(reader: Reader) -> None:
    """A conversation with a picture, a call and its result is the same one, whichever dialect it comes in."""
    picture = "data:image/png;base64,AAAA"
    openai: JsonObject = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "This?"}, {"type": "image_url", "image_url": {"url": picture}}],
            },
            {
                "role": "assistant",
                "content": "I look.",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "seen"},
        ],
        "stop": "END",
        "max_completion_tokens": 9,
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
        ],
        "tool_choice": "required",
    }
    source: JsonObject = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    anthropic: JsonObject = {
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "This?"}, {"type": "image", "source": source}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "seen"}]},
        ],
        "stop_sequences": ["END"],
        "max_tokens": 9,
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"},
    }
    asked = reader(openai if reader is from_openai else anthropic)
    assert not asked.untranslated
    assert not asked.left_out
    assert asked.ask.messages == (
        Message("user", (Text("This?"), Image("image/png", "AAAA"))),
        Message("assistant", (Text("I look."), ToolUse("c", "f", {"a": 1}))),
        Message("user", (ToolResult("c", (Text("seen"),)),)),
    )
    assert (asked.ask.system, asked.ask.stop, asked.ask.max_tokens) == ("Be brief.", ("END",), 9)
    assert asked.ask.tools[0].schema == {"type": "object"}
    assert asked.ask.tool_choice == "required"
