"""Anthropic's messages, the request: what it says as a conversation, and what of it no conversation can hold."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, Tag

from anamnesis.contracts.base import JsonObject
from services.gateway.backends.base import (
    Ask,
    Dialect,
    Image,
    Message,
    Native,
    Part,
    Text,
    Tool,
    ToolResult,
    ToolUse,
)
from services.gateway.surfaces.asked import Asked, AsParts, Foreign, Id, Leftovers, read, told_apart

HEADERS = ("anthropic-version", "anthropic-beta")
"""Headers that belong to a request of this dialect."""

_LABELS = frozenset({"cache_control", "context_management", "metadata", "service_tier", "speed"})
"""Top-level fields that ask for effort, or are for the books: whoever does not know them answers all the same."""
_TOOL_LABELS = frozenset({"cache_control", "defer_loading", "eager_input_streaming", "input_examples", "strict"})
_BLOCK_LABELS = frozenset({"cache_control", "citations", "caller"})

# The shapes ---------------------------------------------------------------------------------------


class TextBlock(Foreign):
    type: Literal["text"]
    text: str


class Source(Foreign):
    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""


class ImageBlock(Foreign):
    type: Literal["image"]
    source: Source


class ToolUseBlock(Foreign):
    type: Literal["tool_use"]
    id: Id
    name: str
    input: JsonObject = Field(default_factory=dict)


class ThinkingBlock(Foreign):
    type: Literal["thinking", "redacted_thinking"]


class OtherBlock(Foreign):
    type: str


InnerBlock = Annotated[
    Annotated[TextBlock, Tag("type=text")]
    | Annotated[ImageBlock, Tag("type=image")]
    | Annotated[OtherBlock, Tag("type=other")],
    told_apart("type", "text", "image"),
]


class ToolResultBlock(Foreign):
    type: Literal["tool_result"]
    tool_use_id: Id
    content: Annotated[tuple[InnerBlock, ...], AsParts] = ()
    is_error: bool | None = None


Block = Annotated[
    Annotated[TextBlock, Tag("type=text")]
    | Annotated[ImageBlock, Tag("type=image")]
    | Annotated[ToolUseBlock, Tag("type=tool_use")]
    | Annotated[ToolResultBlock, Tag("type=tool_result")]
    | Annotated[ThinkingBlock, Tag("type=thinking")]
    | Annotated[ThinkingBlock, Tag("type=redacted_thinking")]
    | Annotated[OtherBlock, Tag("type=other")],
    told_apart("type", "text", "image", "tool_use", "tool_result", "thinking", "redacted_thinking"),
]


class MessageShape(Foreign):
    role: Literal["user", "assistant", "system"]
    content: Annotated[tuple[Block, ...], AsParts]


class ToolShape(Foreign):
    name: str
    type: str | None = None
    description: str = ""
    input_schema: JsonObject | None = None


class Thinking(Foreign):
    type: str


class OutputConfig(Foreign):
    effort: str | None = None


class Choice(Foreign):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool | None = None


class MessagesBody(Foreign):
    messages: tuple[MessageShape, ...] = Field(min_length=1)
    model: str = ""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    system: Annotated[tuple[InnerBlock, ...], AsParts] = ()
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    stop_sequences: tuple[str, ...] | None = None
    tools: tuple[ToolShape, ...] | None = None
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    memory: bool = True
    """Ours: false = recall nothing."""


# Translation --------------------------------------------------------------------------------------


def from_anthropic(body: JsonObject, headers: dict[str, str]) -> Asked:
    """A request understood; `headers` are those of `HEADERS` that came. Raises `BadRequest`."""
    said = read(MessagesBody, body)
    rest = Leftovers()
    for name in said.others():
        (rest.leave if name in _LABELS else rest.refuse)(name)
    if thinking_wanted(body):
        rest.leave("thinking")
    if said.output_config is not None:
        for name in said.output_config.others():
            rest.refuse(f"output_config.{name}")
        rest.leave("output_config.effort")
    system = [_inner(one, f"system[{at}]", rest) for at, one in enumerate(said.system)]
    messages = tuple(_message(one, f"messages[{at}]", rest) for at, one in enumerate(said.messages))
    if messages[-1].role != "user":
        rest.refuse(f"messages[{len(messages) - 1}] (an answer begun for the assistant)")
    native = Native(Dialect.ANTHROPIC, _native(body), headers)
    ask = Ask(
        messages=messages,
        system="\n\n".join(part.text for part in system if isinstance(part, Text)),
        tools=_tools(said.tools or (), rest),
        tool_choice=_choice(said.tool_choice, rest),
        max_tokens=said.max_tokens,
        temperature=said.temperature,
        top_p=said.top_p,
        stop=said.stop_sequences or (),
        native=native,
    )
    return Asked(ask, said.model, bool(said.stream), said.memory, rest.untranslated, rest.left_out)


def thinking_wanted(body: JsonObject) -> bool:
    """Whether the client wants to read what the model thinks."""
    thinking = body.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") != "disabled"


def _message(said: MessageShape, where: str, rest: Leftovers) -> Message:
    if said.role == "system":
        rest.refuse(f"{where} (role system)")
    for name in said.others():
        rest.refuse(f"{where}.{name}")
    parts: list[Part] = []
    for at, block in enumerate(said.content):
        parts += _part(block, f"{where}.content[{at}]", rest)
    return Message("assistant" if said.role == "assistant" else "user", tuple(parts))


def _part(block: Block, where: str, rest: Leftovers) -> list[Part]:
    match block:
        case ToolUseBlock():
            _labels(block, where, rest)
            return [ToolUse(block.id, block.name, block.input)]
        case ToolResultBlock():
            _labels(block, where, rest)
            inner = tuple(_inner(one, f"{where}.content[{at}]", rest) for at, one in enumerate(block.content))
            return [ToolResult(block.tool_use_id, inner, bool(block.is_error))]
        case ThinkingBlock():
            rest.leave("thinking of earlier turns")  # no other model can make anything of it
            return []
        case TextBlock() | ImageBlock() | OtherBlock():
            return [_inner(block, where, rest)]


def _inner(block: InnerBlock, where: str, rest: Leftovers) -> Text | Image:
    """What cannot be translated is named, and leaves an empty text in its place."""
    if not isinstance(block, OtherBlock):
        _labels(block, where, rest)
    match block:
        case TextBlock(text=text):
            return Text(text)
        case ImageBlock(source=source) if source.type == "base64":
            return Image(media_type=source.media_type, data=source.data)
        case ImageBlock(source=source) if source.type == "url":
            return Image(url=source.url)
        case ImageBlock(source=source):
            rest.refuse(f"{where} (image by {source.type})")
        case _:
            rest.refuse(f"{where} ({block.type})")
    return Text("")


def _labels(block: Foreign, where: str, rest: Leftovers) -> None:
    for name in block.others():
        if name in _BLOCK_LABELS:
            rest.leave(name)
        else:
            rest.refuse(f"{where}.{name}")


def _tools(tools: tuple[ToolShape, ...], rest: Leftovers) -> tuple[Tool, ...]:
    known: list[Tool] = []
    for at, tool in enumerate(tools):
        if tool.type not in (None, "custom") or tool.input_schema is None:
            rest.refuse(f"tools[{at}] ({tool.type or 'no input_schema'})")
            continue
        for name in tool.others():
            (rest.leave if name in _TOOL_LABELS else rest.refuse)(f"tools.{name}")
        known.append(Tool(tool.name, tool.description, tool.input_schema))
    return tuple(known)


def _choice(choice: Choice | None, rest: Leftovers) -> str:
    if choice is None:
        return "auto"
    if choice.disable_parallel_tool_use:
        rest.refuse("tool_choice.disable_parallel_tool_use")
    match choice.type:
        case "tool":
            return f"tool:{choice.name}"
        case "any":
            return "required"
        case kind:
            return kind


def _native(body: JsonObject) -> JsonObject:
    """The request as it came, without what is ours: our switch, and thinking that another model had done.

    What another model thought was told without a signature, clients send it back, and Claude refuses it.
    """
    messages = body["messages"]
    assert isinstance(messages, list)
    own = [_signed(message) for message in messages]
    kept: list[JsonValue] = [message for message in own if message is not None]
    native = {name: value for name, value in body.items() if name != "memory"}
    return {**native, "messages": kept, "stream": True}  # whole answers are gathered here from a stream


def _signed(message: JsonValue) -> JsonValue:
    """A message without unsigned thinking; none where nothing is left of it."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(content, list):
        return message
    kept = [block for block in content if not _unsigned(block)]
    if len(kept) == len(content):
        return message
    return {**message, "content": kept} if kept else None


def _unsigned(block: JsonValue) -> bool:
    return isinstance(block, dict) and block.get("type") == "thinking" and not block.get("signature")
