"""OpenAI's chat completions, the request: what it says as a conversation, and what of it no conversation can hold."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, Tag

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
from services.gateway.surfaces.asked import (
    Asked,
    AsParts,
    Foreign,
    Id,
    Leftovers,
    arguments_of,
    one_or_many,
    read,
    told_apart,
)

_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]+);base64,", re.IGNORECASE)

_LABELS = frozenset(
    {
        "metadata",
        "moderation",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        "verbosity",
    }
)
"""Top-level fields that ask for effort, or are for the books: whoever does not know them answers all the same."""
_OF_ANSWERS = frozenset({"annotations", "reasoning", "reasoning_content"})
"""What servers put beside an answer, and clients send back with it."""
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "frequency_penalty": (0,),
    "function_call": ("auto", "none"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "top_logprobs": (0,),
}
"""Fields whose usual values say nothing."""

# The shapes ---------------------------------------------------------------------------------------


class TextPart(Foreign):
    type: Literal["text"]
    text: str


class RefusalPart(Foreign):
    type: Literal["refusal"]
    refusal: str


class ImageUrl(Foreign):
    url: str


class ImagePart(Foreign):
    type: Literal["image_url"]
    image_url: ImageUrl


class OtherPart(Foreign):
    type: str


ContentPart = Annotated[
    Annotated[TextPart, Tag("type=text")]
    | Annotated[RefusalPart, Tag("type=refusal")]
    | Annotated[ImagePart, Tag("type=image_url")]
    | Annotated[OtherPart, Tag("type=other")],
    told_apart("type", "text", "refusal", "image_url"),
]
Content = Annotated[tuple[ContentPart, ...], AsParts]


class FunctionCall(Foreign):
    name: str
    arguments: str = ""


class ToolCall(Foreign):
    id: Id
    type: str = "function"
    function: FunctionCall | None = None


class SystemMessage(Foreign):
    role: Literal["system", "developer"]
    content: Content


class UserMessage(Foreign):
    role: Literal["user"]
    content: Content


class AssistantMessage(Foreign):
    role: Literal["assistant"]
    content: Content = ()
    refusal: str | None = None
    tool_calls: Annotated[tuple[ToolCall, ...], BeforeValidator(one_or_many)] = ()


class ToolMessage(Foreign):
    role: Literal["tool"]
    tool_call_id: Id
    content: Content


class OtherMessage(Foreign):
    role: str


AnyMessage = Annotated[
    Annotated[SystemMessage, Tag("role=system")]
    | Annotated[SystemMessage, Tag("role=developer")]
    | Annotated[UserMessage, Tag("role=user")]
    | Annotated[AssistantMessage, Tag("role=assistant")]
    | Annotated[ToolMessage, Tag("role=tool")]
    | Annotated[OtherMessage, Tag("role=other")],
    told_apart("role", "system", "developer", "user", "assistant", "tool"),
]


class FunctionShape(Foreign):
    name: str
    description: str | None = None
    parameters: JsonObject | None = None


class ToolShape(Foreign):
    type: str = "function"
    function: FunctionShape | None = None


class ChosenFunction(Foreign):
    name: str


class ToolChoice(Foreign):
    type: str
    function: ChosenFunction | None = None


class StreamOptions(Foreign):
    include_usage: bool = False


class ChatBody(Foreign):
    messages: tuple[AnyMessage, ...] = Field(min_length=1)
    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    stop: Annotated[tuple[str, ...], BeforeValidator(one_or_many)] = ()
    seed: int | None = None
    tools: Annotated[tuple[ToolShape, ...], BeforeValidator(one_or_many)] = ()
    tool_choice: Literal["auto", "none", "required"] | ToolChoice | None = None
    memory: bool = True
    """Ours: false = recall nothing."""


# Translation --------------------------------------------------------------------------------------


def from_openai(body: JsonObject) -> Asked:
    """A request understood. Raises `BadRequest` for what no server of this dialect would take."""
    chat = read(ChatBody, body)
    rest = Leftovers()
    system, messages = _conversation(chat.messages, rest)
    for name in chat.others():
        if name in _LABELS:
            rest.leave(name)
        elif chat.model_extra is not None and chat.model_extra[name] not in _NEUTRAL.get(name, ()):
            rest.refuse(name)
    if not messages or messages[-1].role != "user":
        rest.refuse(f"messages[{len(chat.messages) - 1}] (the last one is not the user's)")
    native = {name: value for name, value in body.items() if name != "memory"}
    if not chat.stream:  # the answer is gathered here from a stream, so the stream has to hold all
        native |= {"stream": True, "stream_options": {"include_usage": True}}
    ask = Ask(
        messages=messages,
        system=system,
        tools=_tools(chat.tools, rest),
        tool_choice=_choice(chat.tool_choice, rest),
        max_tokens=chat.max_completion_tokens or chat.max_tokens,
        temperature=chat.temperature,
        top_p=chat.top_p,
        stop=chat.stop,
        seed=chat.seed,
        native=Native(Dialect.OPENAI, native),
    )
    return Asked(ask, chat.model, bool(chat.stream), chat.memory, rest.untranslated, rest.left_out)


def includes_usage(body: JsonObject) -> bool:
    """Whether a stream is to end with its usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _conversation(said: tuple[AnyMessage, ...], rest: Leftovers) -> tuple[str, tuple[Message, ...]]:
    """The system's words, wherever they stand, and the messages; results of tools are one message of the user's."""
    system: list[str] = []
    messages: list[Message] = []
    results: list[ToolResult] = []
    for at, one in enumerate(said):
        where = f"messages[{at}]"
        if isinstance(one, ToolMessage):
            results.append(ToolResult(one.tool_call_id, _parts(one.content, where, rest)))
            continue
        if results:
            messages.append(Message("user", tuple(results)))
            results = []
        for name in one.others("name" if isinstance(one, SystemMessage) else ""):
            (rest.leave if name in _OF_ANSWERS else rest.refuse)(f"{where}.{name}")
        match one:
            case SystemMessage():
                system += [part.text for part in _parts(one.content, where, rest) if isinstance(part, Text)]
            case UserMessage():
                messages.append(Message("user", _parts(one.content, where, rest) or (Text(""),)))
            case AssistantMessage():
                refusal = (Text(one.refusal),) if one.refusal else ()
                calls = _calls(one.tool_calls, where, rest)
                messages.append(Message("assistant", (*_parts(one.content, where, rest), *refusal, *calls)))
            case OtherMessage(role=role):
                rest.refuse(f"{where} (role {role})")
    if results:
        messages.append(Message("user", tuple(results)))
    return "\n\n".join(system), tuple(messages)


def _parts(content: tuple[ContentPart, ...], where: str, rest: Leftovers) -> tuple[Text | Image, ...]:
    """What cannot be translated is named, and leaves an empty text in its place."""
    parts: list[Text | Image] = []
    for at, part in enumerate(content):
        match part:
            case TextPart(text=text):
                parts.append(Text(text))
            case RefusalPart(refusal=refusal):
                parts.append(Text(refusal))
            case ImagePart(image_url=image):
                parts.append(_image(image.url))
                if "detail" in image.others():
                    rest.leave("image_url.detail")
            case _:
                rest.refuse(f"{where}.content[{at}] ({part.type})")
                parts.append(Text(""))
    return tuple(parts)


def _image(url: str) -> Image:
    head = _DATA_URL.match(url)
    return Image(media_type=head[1].lower(), data=url[head.end() :]) if head else Image(url=url)


def _calls(calls: tuple[ToolCall, ...], where: str, rest: Leftovers) -> tuple[Part, ...]:
    uses: list[Part] = []
    for at, call in enumerate(calls):
        input = arguments_of(call.function.arguments) if call.function is not None else None
        if call.function is None or input is None:
            why = "arguments that are no JSON object" if call.function is not None else call.type
            rest.refuse(f"{where}.tool_calls[{at}] ({why})")
        else:
            uses.append(ToolUse(call.id, call.function.name, input))
    return tuple(uses)


def _tools(tools: tuple[ToolShape, ...], rest: Leftovers) -> tuple[Tool, ...]:
    known: list[Tool] = []
    for at, tool in enumerate(tools):
        if tool.type != "function" or tool.function is None:
            rest.refuse(f"tools[{at}] ({tool.type})")
            continue
        function = tool.function
        for name in function.others():
            (rest.leave if name == "strict" else rest.refuse)(f"tools.{name}")
        schema: JsonObject = function.parameters or {"type": "object", "properties": {}}
        known.append(Tool(function.name, function.description or "", schema))
    return tuple(known)


def _choice(choice: ToolChoice | str | None, rest: Leftovers) -> str:
    if not isinstance(choice, ToolChoice):
        return choice or "auto"
    if choice.type == "function" and choice.function is not None:
        return f"tool:{choice.function.name}"
    rest.refuse(f"tool_choice ({choice.type})")
    return "auto"
