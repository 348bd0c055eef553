"""OpenAI's chat completions, the answer: chunks for a stream, and the completion that they add up to."""

import time
import uuid
from collections.abc import Sequence

from pydantic import JsonValue

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.chat import StopReason, Usage
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
from services.gateway.surfaces.errors import openai_error
from services.gateway.surfaces.frames import frame

DONE = b"data: [DONE]\n\n"

_REASONS = {
    StopReason.END: "stop",
    StopReason.LENGTH: "length",
    StopReason.TOOL: "tool_calls",
    StopReason.REFUSED: "content_filter",
}
_NOT_JOINED = frozenset({"id", "type", "role", "name", "index"})
"""Strings of a delta that are said once; a server that says them again does not mean more of them."""


class OpenAITelling:
    """An answer as chunks, and the completion of those chunks or of a backend's own."""

    dialect = Dialect.OPENAI

    def __init__(self, model: str, *, usage: bool) -> None:
        """`usage`: whether the stream is to end with a chunk that holds it."""
        self._head: JsonObject = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._usage = usage
        self._begun = False
        self._tools = 0
        self._bare = False
        """The tool call that began last has no input yet."""
        self._whole: JsonObject = {}
        self._choices: dict[int, JsonObject] = {}

    # A stream -------------------------------------------------------------------------------------

    def said(self, delta: Delta) -> Sequence[JsonObject]:
        match delta:
            case Started(model):
                self._head["model"] = model or self._head["model"]
                return []
            case TextDelta(text):
                return self._chunks({"content": text}) if text else []
            case ThinkingDelta(text):
                return self._chunks({"reasoning_content": text}) if text else []
            case ToolBegin(id, name):
                filled = self._filled()
                self._tools += 1
                self._bare = True
                call: JsonObject = {"id": id, "type": "function", "function": {"name": name, "arguments": ""}}
                return [*filled, *self._chunks(self._call(call))]
            case ToolInput(json):
                self._bare = self._bare and not json
                return self._chunks(self._call({"function": {"arguments": json}})) if json else []
            case Finish(reason, usage):
                filled = self._filled()
                if reason is StopReason.END and self._tools:
                    reason = StopReason.TOOL  # some servers end a turn of tool calls as any other
                chunks = [*filled, *self._chunks({}, _REASONS[reason])]
                counted = _counted(usage) if self._usage else None
                if counted is not None:
                    chunks.append({**self._head, "choices": [], "usage": counted})
                return chunks

    def frame(self, event: JsonObject) -> bytes:
        return frame(event)

    def ending(self) -> bytes:
        return DONE

    def ends(self, raw: bytes) -> bool:
        return raw.removeprefix(b"data:").strip() == b"[DONE]"

    def failure(self, status: int, error: ErrorBody) -> bytes:
        return frame(openai_error(status, error))

    def _chunks(self, delta: JsonObject, reason: str | None = None) -> list[JsonObject]:
        """A chunk with this delta, after the one that says whose words they are."""
        chunks: list[JsonObject] = []
        if not self._begun:
            self._begun = True
            chunks = self._chunks({"role": "assistant", "content": ""})
        choice: JsonObject = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        chunks.append({**self._head, "choices": [choice]})
        return chunks

    def _call(self, call: JsonObject) -> JsonObject:
        return {"tool_calls": [{"index": self._tools - 1, **call}]}

    def _filled(self) -> list[JsonObject]:
        """A call without input is one with an empty object: clients parse the arguments."""
        if not self._bare:
            return []
        self._bare = False
        return self._chunks(self._call({"function": {"arguments": "{}"}}))

    # A whole --------------------------------------------------------------------------------------

    def gather(self, event: JsonObject) -> None:
        choices = event.get("choices", [])
        if not isinstance(choices, list):
            raise ValueError("choices is not a list")
        for name, value in event.items():
            if name != "choices" and (value is not None or name not in self._whole):
                self._whole[name] = value
        for choice in choices:
            if not isinstance(choice, dict):
                raise ValueError("a choice is not an object")
            index = choice.get("index")
            kept = self._choices.setdefault(index if isinstance(index, int) else 0, {"message": {"content": None}})
            _gather_choice(kept, choice)

    def whole(self) -> JsonObject:
        choices: list[JsonValue] = []
        for index, kept in sorted(self._choices.items()):
            message = kept.pop("message")
            assert isinstance(message, dict)
            calls = message.get("tool_calls")
            if isinstance(calls, list):
                message["tool_calls"] = [_without_index(call) for call in calls]
                message["content"] = message.get("content") or None  # as that house does beside calls
            message = {"role": "assistant", "refusal": None, **message}
            choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": None, **kept})
        return {**self._whole, "object": "chat.completion", "choices": choices}


def _counted(usage: Usage | None) -> JsonObject | None:
    """Usage as it is written; none where the backend did not count."""
    if usage is None or (usage.input_tokens is None and usage.output_tokens is None):
        return None
    read, written = usage.input_tokens or 0, usage.output_tokens or 0
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _gather_choice(kept: JsonObject, choice: JsonObject) -> None:
    for name, value in choice.items():
        if name == "delta":
            message = kept["message"]
            if not isinstance(value, dict) or not isinstance(message, dict):
                raise ValueError("a delta is not an object")
            _join(message, value)
        elif name == "logprobs" and isinstance(value, dict):
            probabilities = kept.get("logprobs")
            if not isinstance(probabilities, dict):
                kept["logprobs"] = probabilities = {}
            for part, tokens in value.items():
                before = probabilities.get(part)
                if isinstance(before, list) and isinstance(tokens, list):
                    before.extend(tokens)
                else:
                    probabilities[part] = tokens
        elif name != "index" and value is not None:
            kept[name] = value


def _join(whole: JsonObject, delta: JsonObject) -> None:
    """Add a delta: text to text, lists by the `index` of their elements, objects by their names."""
    for name, value in delta.items():
        before = whole.get(name)
        if value is None:
            whole.setdefault(name, None)
        elif isinstance(value, str) and isinstance(before, str):
            whole[name] = (before or value) if name in _NOT_JOINED else before + value
        elif isinstance(value, dict):
            if not isinstance(before, dict):
                whole[name] = before = {}
            _join(before, value)
        elif isinstance(value, list):
            if not isinstance(before, list):
                whole[name] = before = []
            _join_lists(before, value)
        else:
            whole[name] = value


def _join_lists(whole: list[JsonValue], more: list[JsonValue]) -> None:
    for element in more:
        index = element.get("index") if isinstance(element, dict) else None
        if not isinstance(element, dict) or index is None:
            whole.append(element)
            continue
        kept = next((one for one in whole if isinstance(one, dict) and one.get("index") == index), None)
        if kept is None:
            whole.append(kept := {})
        assert isinstance(kept, dict)
        _join(kept, element)


def _without_index(value: JsonValue) -> JsonValue:
    return {name: inner for name, inner in value.items() if name != "index"} if isinstance(value, dict) else value
