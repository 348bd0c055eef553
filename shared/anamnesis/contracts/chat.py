"""Chat with memory: what is asked, what a page is told while it is answered, and what is kept of it.

A session is a conversation; a turn is one question and its answer, kept as a document of its own, so that a long
conversation is never one growing value.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from anamnesis.contracts.base import Contract, Moment, Name, Storable
from anamnesis.contracts.episodes import Reason, Trust

MAX_MESSAGE = 200_000  # characters of one question
MAX_ANSWER = 1_000_000  # characters of one answer that are kept
MAX_TITLE = 200  # characters
MAX_TURNS_PAGE = 200

SessionId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Title = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TITLE, strip_whitespace=True), Storable]
Message = Annotated[str, StringConstraints(min_length=1, max_length=MAX_MESSAGE, strip_whitespace=True), Storable]
BackendName = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00-\x20]+$")]
"""A backend, or a backend and one of its models: `ollama`, `ollama:llama3.2`."""


class Recalled(Contract):
    """An episode that was put before the model, and why."""

    episode_id: str
    timestamp: Moment
    """Event time."""
    project: str
    instance: str
    summary: str
    source: str
    """Where it came from, in a few words: its kind, and the file or session."""
    trust: Trust
    score: float
    reasons: tuple[Reason, ...] = ()


class Usage(Contract):
    """Tokens, as the backend counts them; none = it does not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class ChatRequest(Contract):
    """One turn. Without a session a new one begins."""

    message: Message
    session_id: SessionId | None = None
    project: Name | None = None
    """Recall only from this project; none = from all. A new session belongs to it, and so do the episodes of it."""
    instance: Name | None = None
    """Recall only from this machine or assistant; a new session belongs to it too."""
    memory: bool = True
    """Recall before the turn, and keep the exchange as an episode after it."""
    backends: tuple[BackendName, ...] = Field(default=(), max_length=16)
    """In order: the next is asked where one fails before it has said anything. None = the configured order."""
    system: Annotated[str, StringConstraints(max_length=50_000)] = ""
    top_k: int | None = Field(default=None, ge=1, le=20)
    """Recall at most so many episodes; none = as many as the gateway is set to."""
    floor: float | None = Field(default=None, ge=0.0, le=1.0)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)


class ChatBegun(Contract):
    """Event `session`, the first: which turn of which session this is."""

    session_id: str
    turn: int
    title: str


class ChatRecalled(Contract):
    """Event `recalled`: what was put before the model; empty where nothing relevant is remembered."""

    episodes: tuple[Recalled, ...]
    abstained: bool
    error: str | None = None
    """Why nothing could be recalled, where memory failed; the turn goes on without."""
    milliseconds: float


class Attempt(Contract):
    """One try of one endpoint of a backend, and how it ended."""

    backend: str
    endpoint: str
    error: str | None = None
    """None = this one answers."""


class ChatBackend(Contract):
    """Event `backend`: who answers, and who was asked before."""

    backend: str
    model: str
    attempts: tuple[Attempt, ...]


class ChatDelta(Contract):
    """Event `delta`: the next piece of the answer."""

    text: str


class StopReason(StrEnum):
    END = "end"
    LENGTH = "length"
    TOOL = "tool"
    REFUSED = "refused"


class TurnState(StrEnum):
    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    """The reader left or pressed stop; what had been said is kept."""
    FAILED = "failed"
    """The backend broke off, or none answered; what had been said is kept."""


class ChatTurn(Contract):
    """One question and its answer, as they are kept (after redaction)."""

    turn: int = Field(ge=1)
    asked: str
    answered: str = ""
    state: TurnState
    backend: str | None = None
    model: str | None = None
    recalled: tuple[Recalled, ...] = ()
    used: tuple[str, ...] = ()
    """Ids of the recalled episodes that the answer made use of."""
    stop_reason: StopReason | None = None
    usage: Usage | None = None
    error: str | None = None
    started_at: Moment
    finished_at: Moment | None = None
    remember: bool = True
    """Whether the exchange is to become an episode."""
    episode_id: str | None = None
    """The episode that it became."""


class TurnBegin(Contract):
    """The next turn of a session begins; answered by `ChatBegun`, whose number is this turn's alone."""

    asked: Message
    started_at: Moment
    """Names the turn, beside its number: who writes it later on repeats it."""
    remember: bool = True


class ChatDone(Contract):
    """Event `done`, the last: the turn as it is kept. Event `error` (an error envelope) comes instead of it."""

    turn: ChatTurn


class ChatAnswer(Contract):
    """The non-streaming twin's answer."""

    session_id: str
    title: str
    recalled: ChatRecalled
    backend: ChatBackend
    turn: ChatTurn


class TitleChange(Contract):
    """A title that a session had, and until when."""

    title: str
    until: Moment


class ChatSession(Contract):
    session_id: str
    title: str
    titles: tuple[TitleChange, ...] = ()
    """Earlier titles, oldest first."""
    project: str | None = None
    instance: str | None = None
    turns: int = 0
    created_at: Moment
    updated_at: Moment


class ChatSessionCreate(Contract):
    session_id: SessionId | None = None
    title: Title
    project: Name | None = None
    instance: Name | None = None


class ChatSessionPage(Contract):
    """Newest first by their last turn."""

    sessions: tuple[ChatSession, ...]
    total: int


class ChatSessionTurns(Contract):
    """A session with one page of its turns, oldest first."""

    session: ChatSession
    turns: tuple[ChatTurn, ...]
    total: int


class TitleRequest(Contract):
    title: Title


class ChatFound(Contract):
    """Where a search in sessions found its words."""

    session: ChatSession
    turn: int | None
    """None = in the title."""
    excerpt: str


class ChatSearch(Contract):
    results: tuple[ChatFound, ...]
    complete: bool
    """False when the search ended early, at its bound of results or time."""


class BackendState(Contract):
    """A backend as a page shows it."""

    name: str
    configured: bool
    reason: str | None
    """What to set, in one line, where it is not configured; what is wrong where it does not answer."""
    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()


class BackendStates(Contract):
    """In the order in which they are asked by default."""

    backends: tuple[BackendState, ...]
