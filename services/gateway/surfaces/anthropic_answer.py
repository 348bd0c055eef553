"""Anthropic's messages, the answer: events for a stream, and the message that they add up to."""

import uuid
from collections.abc import Sequence

from pydantic import JsonValue

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.chat import StopReason
from anamnesis.contracts.errors import ErrorBody
from services.gateway.backends.base import (
    Delta,
    Dialect,
    Finish,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolBegin,
    ToolInput,
)
from services.gateway.surfaces.asked import arguments_of
from services.gateway.surfaces.errors import anthropic_error
from services.gateway.surfaces.frames import frame

_REASONS = {
    StopReason.END: "end_turn",
    StopReason.LENGTH: "max_tokens",
    StopReason.TOOL: "tool_use",
    StopReason.REFUSED: "refusal",
}
_DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


class AnthropicTelling:
    """An answer as events, and the message of those events or of a backend's own."""

    dialect = Dialect.ANTHROPIC

    def __init__(self, model: str, *, thinking: bool) -> None:
        """`thinking`: whether the client asked to read it."""
        self._model = model
        self._thinking = thinking
        self._begun = False
        self._index = -1
        self._open = ""
        """The type of the block that is open."""
        self._tools = False
        self._message: JsonObject = {}
        self._blocks: dict[int, JsonObject] = {}
        self._inputs: dict[int, str] = {}

    # A stream -------------------------------------------------------------------------------------

    def said(self, delta: Delta) -> Sequence[JsonObject]:
        match delta:
            case Started(model):
                self._model = model or self._model
                return []
            case TextDelta(text):
                return self._more("text", {"type": "text", "text": ""}, {"type": "text_delta", "text": text})
            case ThinkingDelta(text) if self._thinking:
                empty: JsonObject = {"type": "thinking", "thinking": "", "signature": ""}
                return self._more("thinking", empty, {"type": "thinking_delta", "thinking": text})
            case ThinkingDelta():
                return []
            case ToolBegin(id, name):
                self._tools = True
                block: JsonObject = {"type": "tool_use", "id": id, "name": name, "input": {}}
                return [*self._start(), *self._close(), *self._begin("tool_use", block)]
            case ToolInput(json):
                if self._open != "tool_use":
                    raise ValueError("input of a tool that was not called")
                return [self._delta({"type": "input_json_delta", "partial_json": json})]
            case Finish(reason, usage):
                if reason is StopReason.END and self._tools:
                    reason = StopReason.TOOL  # some servers end a turn of tool calls as any other
                counted: JsonObject = {"output_tokens": (usage.output_tokens if usage else None) or 0}
                if usage is not None and usage.input_tokens is not None:
                    counted["input_tokens"] = usage.input_tokens
                ended: JsonObject = {"stop_reason": _REASONS[reason], "stop_sequence": None}
                return [
                    *self._start(),
                    *self._close(),
                    {"type": "message_delta", "delta": ended, "usage": counted},
                    {"type": "message_stop"},
                ]

    def frame(self, event: JsonObject) -> bytes:
        return frame(event, str(event["type"]))

    def ending(self) -> bytes:
        return b""

    def ends(self, raw: bytes) -> bool:
        return True  # a whole answer has its last event already

    def failure(self, status: int, error: ErrorBody) -> bytes:
        return frame(anthropic_error(status, error), "error")

    def _start(self) -> list[JsonObject]:
        if self._begun:
            return []
        self._begun = True
        message: JsonObject = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},  # counted at the end
        }
        return [{"type": "message_start", "message": message}, {"type": "ping"}]

    def _begin(self, kind: str, block: JsonObject) -> list[JsonObject]:
        self._index += 1
        self._open = kind
        return [{"type": "content_block_start", "index": self._index, "content_block": block}]

    def _more(self, kind: str, empty: JsonObject, delta: JsonObject) -> list[JsonObject]:
        """More of the open block, or the first of a new one."""
        if not delta[kind]:
            return []
        begun = [] if self._open == kind else [*self._start(), *self._close(), *self._begin(kind, empty)]
        return [*begun, self._delta(delta)]

    def _delta(self, delta: JsonObject) -> JsonObject:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _close(self) -> list[JsonObject]:
        if not self._open:
            return []
        self._open = ""
        return [{"type": "content_block_stop", "index": self._index}]

    # A whole --------------------------------------------------------------------------------------

    def gather(self, event: JsonObject) -> None:
        match event.get("type"):
            case "message_start":
                self._message = dict(_object(event, "message"))
            case "content_block_start":
                self._blocks[_index(event)] = dict(_object(event, "content_block"))
            case "content_block_delta":
                self._gather_delta(_index(event), _object(event, "delta"))
            case "message_delta":
                usage = self._message.get("usage")
                counted = {name: value for name, value in _object(event, "usage").items() if value is not None}
                others = {name: value for name, value in event.items() if name not in ("type", "delta", "usage")}
                self._message |= _object(event, "delta") | others
                self._message["usage"] = {**(usage if isinstance(usage, dict) else {}), **counted}

    def whole(self) -> JsonObject:
        content: list[JsonValue] = []
        for index, block in sorted(self._blocks.items()):
            written = self._inputs.get(index, "")
            if written.strip():
                input = arguments_of(written)
                if input is None:
                    raise ValueError("the input of a tool call is no JSON object")
                block["input"] = input
            content.append(block)
        return {**self._message, "content": content}

    def _gather_delta(self, index: int, delta: JsonObject) -> None:
        block = self._blocks.get(index)
        if block is None:
            raise ValueError("a delta of no block")
        kind = str(delta.get("type"))
        if kind == "input_json_delta":
            self._inputs[index] = self._inputs.get(index, "") + str(delta.get("partial_json", ""))
        elif kind == "citations_delta":
            before = block.get("citations")
            block["citations"] = [*(before if isinstance(before, list) else []), delta.get("citation")]
        elif kind in _DELTAS:
            name = _DELTAS[kind]
            block[name] = str(block.get(name) or "") + str(delta.get(name, ""))


def _object(holder: JsonObject, name: str) -> JsonObject:
    value = holder.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object")
    return value


def _index(event: JsonObject) -> int:
    index = event.get("index")
    if not isinstance(index, int):
        raise ValueError("a block without an index")
    return index
