"""Ollama: its own chat API, whose answer is a JSON document a line."""

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from uuid import uuid4

from pydantic import JsonValue

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.chat import StopReason, Usage
from services.gateway.backends import failures
from services.gateway.backends.base import (
    Ask,
    BackendFailure,
    Delta,
    Endpoint,
    Finish,
    Image,
    Message,
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
from services.gateway.backends.dialects.frames import Frame, Lines
from services.gateway.backends.dialects.values import count_in, object_in, objects_in, parsed, text_in
from services.gateway.backends.endpoints import endpoints
from services.gateway.backends.listing import Listing
from services.gateway.backends.upstream import Upstream, names
from services.gateway.settings import GatewaySettings

FAILED = "error: "
"""Stands before what a tool gave back when it failed: this API has no field for it."""


class Ollama:
    """The backend `ollama`."""

    name = "ollama"
    dialect = None

    def __init__(self, settings: GatewaySettings) -> None:
        url = settings.ollama_url
        self.endpoints = endpoints([str(url)] if url else [])
        self.missing = None if url else "set ANAMNESIS_OLLAMA_URL to where Ollama answers: http://127.0.0.1:11434"
        self._model = settings.ollama_model
        self._upstream = Upstream(settings.chat_connect, {})
        self._listing = Listing(self._fetch)

    async def open(self) -> None:
        await self._upstream.open()

    async def close(self) -> None:
        await self._upstream.close()

    def cannot(self, ask: Ask) -> str | None:
        if ask.tools and ask.tool_choice not in ("auto", "none"):
            return "Ollama cannot be made to call a tool: leave tool_choice to it"
        for message in ask.messages:
            for part in message.parts:
                inner = part.parts if isinstance(part, ToolResult) else (part,)
                images = [one for one in inner if isinstance(one, Image)]
                if any(one.url for one in images):
                    return "Ollama takes images as data, not by URL"
                if images and (message.role == "assistant" or isinstance(part, ToolResult)):
                    return "Ollama takes images of the user alone"
        return None

    async def models(self) -> Sequence[str]:
        listed = await self._listing.all(self.endpoints)
        return tuple(dict.fromkeys((self._model, *listed))) if self._model else listed

    async def answer(self, ask: Ask, endpoint: Endpoint) -> AsyncGenerator[Piece, None]:
        model = ask.model or self._model or await self._listing.first(endpoint)
        body = to_ollama(ask) | {"model": model, "stream": True}
        pieces = self._upstream.stream(
            f"{endpoint.url}/api/chat", body, Lines(), OllamaReader(), media="application/x-ndjson", headers={}
        )
        try:
            async for piece in pieces:
                yield piece
        except BackendFailure as failure:
            if failure.status == 404:
                self._listing.forget(endpoint)
            raise
        finally:
            await pieces.aclose()

    async def _fetch(self, endpoint: Endpoint, wait: float) -> tuple[str, ...]:
        """Those that were pulled, but for models of the BERT family, which embed and do not talk."""
        listed = await self._upstream.fetch(f"{endpoint.url}/api/tags", wait=wait)
        try:
            talking = [
                one
                for one in objects_in(listed, "models")
                if "bert" not in text_in(object_in(one, "details"), "family").lower()
            ]
        except ValueError:
            raise BackendFailure("answered something else than a list of models") from None
        return names(talking, "name")


def to_ollama(ask: Ask) -> JsonObject:
    """The body of a request, without model and `stream`."""
    messages: list[JsonValue] = [{"role": "system", "content": ask.system}] if ask.system else []
    called = {part.id: part.name for one in ask.messages for part in one.parts if isinstance(part, ToolUse)}
    for index, message in enumerate(ask.messages):
        messages += _messages(message, ask.memory if index == ask.memory_at else "", called)
    body: JsonObject = {"messages": messages}
    if ask.tools and ask.tool_choice != "none":
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.schema},
            }
            for tool in ask.tools
        ]
    given: JsonObject = {
        "num_predict": ask.max_tokens,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        "seed": ask.seed,
        "stop": list(ask.stop) or None,
    }
    options: JsonObject = {name: value for name, value in given.items() if value is not None}
    return body | ({"options": options} if options else {})


def _messages(message: Message, memory: str, called: Mapping[str, str]) -> Iterator[JsonObject]:
    said = "\n\n".join(part.text for part in message.parts if isinstance(part, Text))
    if message.role == "assistant":
        calls: list[JsonValue] = [
            {"function": {"name": part.name, "arguments": part.input}}
            for part in message.parts
            if isinstance(part, ToolUse)
        ]
        yield {"role": "assistant", "content": said} | ({"tool_calls": calls} if calls else {})
        return
    for part in message.parts:
        if isinstance(part, ToolResult):
            words = "\n".join(one.text for one in part.parts if isinstance(one, Text))
            yield {
                "role": "tool",
                "tool_name": called.get(part.tool_use_id, part.tool_use_id),
                "content": (FAILED if part.is_error else "") + words,
            }
    images: list[JsonValue] = [part.data for part in message.parts if isinstance(part, Image)]
    content = "\n\n".join(text for text in (memory, said) if text)
    if content or images:
        yield {"role": "user", "content": content} | ({"images": images} if images else {})


class OllamaReader:
    """Reads the lines of one answer. An answer is whole when a line says `done`, and why."""

    def __init__(self) -> None:
        self._model = ""
        self._called = False
        self.whole = False

    def read(self, frame: Frame) -> Sequence[Piece]:
        try:
            line = parsed(frame.data)
            if line.get("error"):
                raise failures.reported(line["error"])
            deltas = list(self._deltas(line))
        except ValueError:
            raise failures.bad_chunk() from None
        return [Piece(delta) for delta in deltas] or [Piece(None)]

    def _deltas(self, line: JsonObject) -> Iterator[Delta]:
        model = text_in(line, "model")
        if model and not self._model:
            self._model = model
            yield Started(model)
        message = object_in(line, "message")
        if thought := text_in(message, "thinking"):
            yield ThinkingDelta(thought)
        if text := text_in(message, "content"):
            yield TextDelta(text)
        for call in objects_in(message, "tool_calls"):
            function = object_in(call, "function")
            yield ToolBegin(text_in(call, "id") or f"call_{uuid4().hex}", text_in(function, "name"))
            yield ToolInput(json.dumps(object_in(function, "arguments"), ensure_ascii=False))
            self._called = True
        if line.get("done") is True:
            self.whole = True
            usage = Usage(input_tokens=count_in(line, "prompt_eval_count"), output_tokens=count_in(line, "eval_count"))
            yield Finish(self._reason(text_in(line, "done_reason")), usage)

    def _reason(self, given: str) -> StopReason:
        if given == "length":
            return StopReason.LENGTH
        return StopReason.TOOL if self._called else StopReason.END
