"""What a backend is asked, what it answers piece by piece, and how it fails.

A conversation is kept in one neutral form (`Ask`). Where a client speaks the very dialect that a backend
understands, its request also travels as it came (`Ask.native`) and the answer's frames come back as they came
(`Piece.raw`), so that nothing that only those two know is lost; a backend of another dialect works from the neutral
form, and what that cannot hold is refused by `Backend.cannot`, never dropped.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple, Protocol

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.chat import StopReason, Usage

# The conversation ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """Either base64 `data` of a `media_type`, or a `url`."""

    media_type: str = ""
    data: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The assistant called a tool."""

    id: str
    name: str
    input: JsonObject


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back; part of a message of the user."""

    tool_use_id: str
    parts: tuple[Text | Image, ...]
    is_error: bool = False


Part = Text | Image | ToolUse | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The words alone."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    schema: JsonObject
    """JSON Schema of its input."""


class Dialect(StrEnum):
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True)
class Native:
    """A request as the client sent it: parsed, otherwise untouched, and the headers that belong to its dialect."""

    dialect: Dialect
    body: JsonObject
    headers: Mapping[str, str] = field(default_factory=dict)
    """`anthropic-version`, `anthropic-beta`."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A conversation to be continued by the assistant."""

    messages: tuple[Message, ...]
    """The last one is the user's."""
    system: str = ""
    memory: str = ""
    """What was recalled, fenced and labelled as data; it goes before the words of message `memory_at`, never into the
    system's. Empty = nothing."""
    memory_at: int = -1
    """Index of the message that `memory` belongs to."""
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    """`auto`, `none`, `required`, or `tool:NAME`."""
    model: str | None = None
    """One of the backend's models; none = its default."""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    native: Native | None = None


# The answer ---------------------------------------------------------------------------------------


class Started(NamedTuple):
    """Which model answers; comes before all others where the backend says so."""

    model: str


class TextDelta(NamedTuple):
    text: str


class ThinkingDelta(NamedTuple):
    text: str


class ToolBegin(NamedTuple):
    id: str
    name: str


class ToolInput(NamedTuple):
    """More of the JSON of the tool call that began last."""

    json: str


class Finish(NamedTuple):
    """The last delta of a whole answer: without it, an answer that ends was cut off."""

    reason: StopReason
    usage: Usage | None = None


Delta = Started | TextDelta | ThinkingDelta | ToolBegin | ToolInput | Finish


class Piece(NamedTuple):
    """A step of an answer: its meaning, and, where the ask travelled as it came, the frame that carried it.

    `delta` is none for frames that mean nothing to us (role-only, pings, signatures); `raw` is the whole server-sent
    event with its blank line, or empty.
    """

    delta: Delta | None
    raw: bytes = b""

    @property
    def commits(self) -> bool:
        """Whether this is content: from here on nobody else is asked."""
        match self.delta:
            case TextDelta(text) | ThinkingDelta(text):
                return bool(text)
            case ToolBegin():
                return True
            case _:
                return False


# Failure ------------------------------------------------------------------------------------------


class BackendFailure(Exception):
    """Why an endpoint of a backend did not answer, or stopped answering.

    `reason` is one line for people: it names no key and quotes no text of the conversation.
    """

    def __init__(
        self,
        reason: str,
        *,
        said: str = "",
        status: int | None = None,
        moves_on: bool = True,
        retry_after: float | None = None,
    ) -> None:
        """`said`: more of the reason, in the words of the endpoint itself: for whoever asked, and for no log."""
        super().__init__(reason)
        self.reason = reason + said
        self.logged = reason
        self.status = status
        """The HTTP status that it answered with; none = it did not get that far."""
        self.moves_on = moves_on
        """Whether somebody else may be asked: false for a bad request (400, 401, 422), which stays bad."""
        self.retry_after = retry_after
        """Seconds, where it said so."""


# The protocol -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place where a backend answers."""

    name: str
    """For people and headers."""
    url: str


class Backend(Protocol):
    """Somebody who can answer. Opened and closed with the app; safe to use by many requests at once."""

    @property
    def name(self) -> str: ...

    @property
    def dialect(self) -> Dialect | None:
        """The dialect that it takes as it comes (`Ask.native`); none = only the neutral form."""

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Where it answers, in order; several are copies of one another."""

    @property
    def missing(self) -> str | None:
        """What to set before it can be used, in one line; none = it is configured."""

    def cannot(self, ask: Ask) -> str | None:
        """What of this ask it cannot take, in one line; none = nothing."""

    async def models(self) -> Sequence[str]:
        """Its models, the default one first. Raises `BackendFailure`."""

    def answer(self, ask: Ask, endpoint: Endpoint) -> AsyncGenerator[Piece, None]:
        """The answer of one endpoint, piece by piece; closing the generator ends the work there.

        Raises `BackendFailure` at any point. Deadlines are the caller's, but for connecting.
        """

    async def open(self) -> None: ...

    async def close(self) -> None: ...
