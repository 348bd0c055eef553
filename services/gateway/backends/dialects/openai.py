"""OpenAI's chat completions: the request made from a conversation, and what the chunks of an answer mean."""

import json
from collections.abc import Iterator, Sequence
from uuid import uuid4

from pydantic import JsonValue

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.chat import StopReason, Usage
from services.gateway.backends import failures
from services.gateway.backends.base import (
    Ask,
    Delta,
    Finish,
    Image,
    Message,
    Native,
    Piece,
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
from services.gateway.backends.dialects.frames import Frame
from services.gateway.backends.dialects.placing import before_words, rank_from_end
from services.gateway.backends.dialects.values import count_in, object_in, objects_in, parsed, text_in

DONE = b"[DONE]"
FAILED = "error: "
"""Stands before what a tool gave back when it failed: this dialect has no field for it."""

_REASONS = {
    "stop": StopReason.END,
    "length": StopReason.LENGTH,
    "tool_calls": StopReason.TOOL,
    "function_call": StopReason.TOOL,
    "content_filter": StopReason.REFUSED,
}

# The request --------------------------------------------------------------------------------------


def to_openai(ask: Ask) -> JsonObject:
    """The body of a request, without `stream`; with `model` only where the ask names one."""
    messages: list[JsonValue] = []
    if ask.system:
        messages.append({"role": "system", "content": ask.system})
    for index, message in enumerate(ask.messages):
        messages += _messages(message, ask.memory if index == ask.memory_at else "")
    body: JsonObject = {"messages": messages}
    if ask.tools:
        body["tools"] = [_tool(tool) for tool in ask.tools]
        if ask.tool_choice != "auto":
            body["tool_choice"] = _choice(ask.tool_choice)
    if ask.stop:
        body["stop"] = list(ask.stop)
    given: JsonObject = {
        "model": ask.model,
        "max_tokens": ask.max_tokens,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        "seed": ask.seed,
    }
    return body | {name: value for name, value in given.items() if value is not None}


def with_memory(native: Native, ask: Ask) -> JsonObject:
    """A request as it came, with what was recalled before the words that it belongs to."""
    if not ask.memory:
        return dict(native.body)
    messages = objects_in(native.body, "messages")
    users = [index for index, message in enumerate(messages) if message.get("role") == "user"]
    at = rank_from_end(users, ask)
    placed: list[JsonValue] = list(messages)
    if at is not None:
        placed[at] = {**messages[at], "content": before_words(messages[at].get("content"), ask.memory)}
    return {**native.body, "messages": placed}


def usage_asked(body: JsonObject) -> bool:
    """Whether this request asks for the chunk that holds the usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _messages(message: Message, memory: str) -> Iterator[JsonObject]:
    if message.role == "assistant":
        yield _assistant(message)
        return
    for part in message.parts:
        if isinstance(part, ToolResult):
            words = "\n".join(one.text for one in part.parts if isinstance(one, Text))
            yield {
                "role": "tool",
                "tool_call_id": part.tool_use_id,
                "content": (FAILED if part.is_error else "") + words,
            }
    said = [part for part in message.parts if isinstance(part, Text | Image)]
    if memory:
        said.insert(0, Text(memory))
    if any(isinstance(part, Image) for part in said):
        yield {"role": "user", "content": [_part(part) for part in said]}
    elif said:
        # One string, not a list of parts: templates of small models know nothing else.
        yield {"role": "user", "content": "\n\n".join(part.text for part in said if isinstance(part, Text))}


def _assistant(message: Message) -> JsonObject:
    calls: list[JsonValue] = [
        {
            "id": part.id,
            "type": "function",
            "function": {"name": part.name, "arguments": json.dumps(part.input, ensure_ascii=False)},
        }
        for part in message.parts
        if isinstance(part, ToolUse)
    ]
    if not calls:
        return {"role": "assistant", "content": message.text}
    return {"role": "assistant", "content": message.text or None, "tool_calls": calls}


def _part(part: Text | Image) -> JsonObject:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": part.url or f"data:{part.media_type};base64,{part.data}"}}


def _tool(tool: Tool) -> JsonObject:
    function: JsonObject = {"name": tool.name, "description": tool.description, "parameters": tool.schema}
    return {"type": "function", "function": function}


def _choice(choice: str) -> JsonValue:
    kind, _, name = choice.partition(":")
    return {"type": "function", "function": {"name": name}} if kind == "tool" else kind


# The answer ---------------------------------------------------------------------------------------


class OpenAIReader:
    """Reads the chunks of one answer. An answer is whole when it has said why it stopped, and `[DONE]`."""

    def __init__(self, *, raw: bool, usage: bool) -> None:
        """`raw`: keep the frames; `usage`: the client asked for the chunk with the usage, so it gets it too."""
        self._raw = raw
        self._passes_usage = usage
        self._model = ""
        self._tool: int | None = None
        self._reason: StopReason | None = None
        self._refused = False
        self._usage: Usage | None = None
        self.whole = False

    def read(self, frame: Frame) -> Sequence[Piece]:
        raw = frame.raw if self._raw else b""
        if not frame.data and frame.name != "error":
            return [Piece(None, raw)]
        if frame.data == DONE:
            if self._reason is None:
                raise failures.cut_off()
            self.whole = True
            return [Piece(Finish(StopReason.REFUSED if self._refused else self._reason, self._usage), raw)]
        try:
            chunk = parsed(frame.data)
            error = failures.error_in(chunk)
            if error is not None or frame.name == "error":
                raise failures.reported(error)
            deltas = list(self._deltas(chunk))
            if not self._passes_usage and chunk.get("usage") and not chunk.get("choices"):
                raw = b""
        except ValueError:
            raise failures.bad_chunk() from None
        if not deltas:
            return [Piece(None, raw)]
        return [Piece(delta, b"" if later else raw) for later, delta in enumerate(deltas)]

    def _deltas(self, chunk: JsonObject) -> Iterator[Delta]:
        model = text_in(chunk, "model")
        if model and not self._model:
            self._model = model
            yield Started(model)
        usage = object_in(chunk, "usage")
        if usage:
            self._usage = Usage(
                input_tokens=count_in(usage, "prompt_tokens"), output_tokens=count_in(usage, "completion_tokens")
            )
        for choice in objects_in(chunk, "choices"):
            if choice.get("index") not in (None, 0):
                continue  # further answers to the same question: only a client that asked for them can tell them apart
            yield from self._said(object_in(choice, "delta"))
            reason = text_in(choice, "finish_reason")
            if reason:
                self._reason = _REASONS.get(reason, StopReason.END)

    def _said(self, delta: JsonObject) -> Iterator[Delta]:
        thought = text_in(delta, "reasoning_content") or text_in(delta, "reasoning")
        if thought:
            yield ThinkingDelta(thought)
        if text := text_in(delta, "content"):
            yield TextDelta(text)
        if refusal := text_in(delta, "refusal"):
            self._refused = True
            yield TextDelta(refusal)
        for call in objects_in(delta, "tool_calls"):
            yield from self._called(call)

    def _called(self, call: JsonObject) -> Iterator[Delta]:
        function = object_in(call, "function")
        index = count_in(call, "index")
        name = text_in(function, "name")
        # Some servers send a call whole and without an index: each one with a name is a new one.
        number = index if index is not None else (self._tool or 0) + bool(name and self._tool is not None)
        if self._tool is None or number > self._tool:
            self._tool = number
            yield ToolBegin(text_in(call, "id") or f"call_{uuid4().hex}", name)
        elif number < self._tool:
            raise ValueError("tool calls are mixed up")
        if arguments := text_in(function, "arguments"):
            yield ToolInput(arguments)
