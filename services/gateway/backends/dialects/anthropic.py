"""Anthropic's messages: the request made from a conversation, and what the events of an answer mean."""

from collections.abc import Sequence

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
    Part,
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
from services.gateway.backends.dialects.frames import Frame
from services.gateway.backends.dialects.placing import before_words, rank_from_end
from services.gateway.backends.dialects.values import count_in, object_in, objects_in, parsed, text_in

MAX_TOKENS = 8192
"""Of an answer, where the ask names no bound: this dialect wants one."""

_REASONS = {
    "end_turn": StopReason.END,
    "stop_sequence": StopReason.END,
    "max_tokens": StopReason.LENGTH,
    "model_context_window_exceeded": StopReason.LENGTH,
    "tool_use": StopReason.TOOL,
    "refusal": StopReason.REFUSED,
}
_INPUT_TOKENS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")

# The request --------------------------------------------------------------------------------------


def to_anthropic(ask: Ask) -> JsonObject:
    """The body of a request, without `stream`; with `model` only where the ask names one."""
    messages: list[JsonValue] = []
    for index, message in enumerate(ask.messages):
        blocks = _content(message, ask.memory if index == ask.memory_at else "")
        if blocks:  # an answer that stayed empty is no message here
            messages.append({"role": message.role, "content": blocks})
    body: JsonObject = {"messages": messages, "max_tokens": ask.max_tokens or MAX_TOKENS}
    if ask.system:
        body["system"] = ask.system
    if ask.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.schema} for tool in ask.tools
        ]
        if ask.tool_choice != "auto":
            body["tool_choice"] = _choice(ask.tool_choice)
    if ask.stop:
        body["stop_sequences"] = list(ask.stop)
    given: JsonObject = {"model": ask.model, "temperature": ask.temperature, "top_p": ask.top_p}
    return body | {name: value for name, value in given.items() if value is not None}


def with_memory(native: Native, ask: Ask) -> JsonObject:
    """A request as it came, with what was recalled before the words that it belongs to."""
    if not ask.memory:
        return dict(native.body)
    messages = objects_in(native.body, "messages")
    users = [index for index, message in enumerate(messages) if message.get("role") == "user" and _says(message)]
    at = rank_from_end(users, ask)
    placed: list[JsonValue] = list(messages)
    if at is not None:
        placed[at] = {**messages[at], "content": before_words(messages[at].get("content"), ask.memory)}
    return {**native.body, "messages": placed}


def _says(message: JsonObject) -> bool:
    content = message.get("content")
    if isinstance(content, list):
        return any(isinstance(one, dict) and one.get("type") != "tool_result" for one in content)
    return True


def _content(message: Message, memory: str) -> list[JsonValue]:
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    others = [part for part in message.parts if not isinstance(part, ToolResult)]
    said: list[Part] = [*results, *([Text(memory)] if memory else []), *others]
    return [_block(part) for part in said if not (isinstance(part, Text) and not part.text)]


def _block(part: Part) -> JsonObject:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(media_type, data, url):
            source: JsonObject = (
                {"type": "url", "url": url} if url else {"type": "base64", "media_type": media_type, "data": data}
            )
            return {"type": "image", "source": source}
        case ToolUse(id, name, input):
            return {"type": "tool_use", "id": id, "name": name, "input": input}
        case ToolResult(id, parts, is_error):
            block: JsonObject = {"type": "tool_result", "tool_use_id": id}
            inner: list[JsonValue] = [_block(one) for one in parts if not (isinstance(one, Text) and not one.text)]
            return block | ({"content": inner} if inner else {}) | ({"is_error": True} if is_error else {})


def _choice(choice: str) -> JsonObject:
    kind, _, name = choice.partition(":")
    match kind:
        case "tool":
            return {"type": "tool", "name": name}
        case "required":
            return {"type": "any"}
        case _:
            return {"type": kind}


# The answer ---------------------------------------------------------------------------------------


class AnthropicReader:
    """Reads the events of one answer. An answer is whole when it has said why it stopped, and `message_stop`."""

    def __init__(self, *, raw: bool) -> None:
        """`raw`: keep the frames."""
        self._raw = raw
        self._block = ""
        self._reason: StopReason | None = None
        self._input: int | None = None
        self._output: int | None = None
        self.whole = False

    def read(self, frame: Frame) -> Sequence[Piece]:
        raw = frame.raw if self._raw else b""
        if not frame.data:
            return [Piece(None, raw)]
        try:
            delta = self.delta(parsed(frame.data))
        except ValueError:
            raise failures.bad_chunk() from None
        return [Piece(delta, raw)]

    def delta(self, event: JsonObject) -> Delta | None:
        """What one event means. Raises `ValueError` for what is no event, and `BackendFailure`."""
        match text_in(event, "type"):
            case "message_start":
                message = object_in(event, "message")
                self._count(object_in(message, "usage"))
                return Started(text_in(message, "model"))
            case "content_block_start":
                return self._begun(object_in(event, "content_block"))
            case "content_block_delta":
                return self._more(object_in(event, "delta"))
            case "message_delta":
                self._count(object_in(event, "usage"))
                reason = text_in(object_in(event, "delta"), "stop_reason")
                if reason:
                    self._reason = _REASONS.get(reason, StopReason.END)
                return None
            case "message_stop":
                if self._reason is None:
                    raise failures.cut_off()
                self.whole = True
                return Finish(self._reason, Usage(input_tokens=self._input, output_tokens=self._output))
            case "error":
                raise failures.reported(event.get("error"))
            case "":
                raise ValueError("no event")
            case _:
                return None

    def _begun(self, block: JsonObject) -> Delta | None:
        self._block = text_in(block, "type")
        match self._block:
            case "tool_use":
                return ToolBegin(text_in(block, "id"), text_in(block, "name"))
            case "text":
                return _unless_empty(TextDelta(text_in(block, "text")))
            case "thinking":
                return _unless_empty(ThinkingDelta(text_in(block, "thinking")))
            case _:
                return None

    def _more(self, delta: JsonObject) -> Delta | None:
        match text_in(delta, "type"):
            case "text_delta":
                return _unless_empty(TextDelta(text_in(delta, "text")))
            case "thinking_delta":
                return _unless_empty(ThinkingDelta(text_in(delta, "thinking")))
            case "input_json_delta" if self._block == "tool_use":
                more = text_in(delta, "partial_json")
                return ToolInput(more) if more else None
            case _:
                return None

    def _count(self, usage: JsonObject) -> None:
        """Later counts include earlier ones. What was read from a cache was read too."""
        read = [count for key in _INPUT_TOKENS if (count := count_in(usage, key)) is not None]
        if read:
            self._input = sum(read)
        written = count_in(usage, "output_tokens")
        if written is not None:
            self._output = written


def _unless_empty(delta: TextDelta | ThinkingDelta) -> Delta | None:
    return delta if delta.text else None
