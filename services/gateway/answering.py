"""One turn from end to end: recall, an answer by whoever can give one, and which memories were of use to it.

What the chat and all surfaces have in common. A turn that goes on over tool calls is one turn: what was recalled for
the user's words is kept for what follows them, so that memory is asked once and a model sees the same text at the same
place each time. The words themselves always ask anew: what was forgotten or learned meanwhile counts.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from anamnesis.contracts.chat import Attempt, StopReason
from anamnesis.contracts.usefulness import EpisodeVerdict, Verdict
from anamnesis.transcripts.wrappers import clean
from services.gateway.backends.base import Ask, Dialect, Finish, Message, Piece, TextDelta, ToolBegin, ToolInput
from services.gateway.failover.chain import Chain
from services.gateway.recall import MemoryScope, Recall, Remembered
from services.gateway.reports import Reports
from services.gateway.usefulness import MAX_PROMPT, ends, used

KEPT_TURNS = 1_000  # turns whose memories are kept for the calls that follow
KEPT_FOR = 3600.0  # seconds


@dataclass
class Turn:
    """A user's words with what was recalled for them, over all calls that answer them."""

    remembered: Remembered
    question: str
    """No more of it than is measured with: it is kept for as long as the turn."""
    at: float
    useful: set[str] = field(default_factory=set)
    reported: bool = False


class Answering:
    """Answers conversations."""

    def __init__(self, chain: Chain, recall: Recall, reports: Reports, *, kept: int = KEPT_TURNS) -> None:
        """`kept`: turns whose memories are kept; the one that went on longest ago makes room."""
        self._kept = kept
        self._chain = chain
        self._recall = recall
        self._reports = reports
        self._turns: OrderedDict[str, Turn] = OrderedDict()

    async def begin(
        self, ask: Ask, names: Sequence[str], scope: MemoryScope | None, owner: str, *, whole: bool = False
    ) -> "Answer":
        """Recall (unless `scope` is none), then the first backend of `names` that has something to say.

        `owner` is the caller's key id: what was recalled for one is never shown to another. Raises `AnamnesisError`
        when nobody answers; returns with the first content at hand, or with all of it where it is to be `whole`: then
        one that breaks off moves on too.
        """
        turn = None if scope is None else await self.remember(ask, scope, owner)
        return await self.answer(ask, names, turn, whole=whole)

    async def remember(self, ask: Ask, scope: MemoryScope, owner: str) -> Turn:
        """What is recalled for the user's last words, once for all calls of the turn."""
        at = asked_at(ask.messages)
        question = ends(clean(ask.messages[at].text), MAX_PROMPT) if at >= 0 else ""
        key = _key(ask.messages[: at + 1], scope, owner)
        kept = self._turns.pop(key, None)
        if at == len(ask.messages) - 1:
            kept = None
        if kept is None or time.monotonic() - kept.at > KEPT_FOR:
            kept = Turn(await self._recall.recall(question, scope), question, time.monotonic())
        if kept.remembered.error is None:
            self._turns[key] = kept
            while len(self._turns) > self._kept:
                self._turns.popitem(last=False)
        return kept

    async def answer(self, ask: Ask, names: Sequence[str], turn: Turn | None, *, whole: bool = False) -> "Answer":
        """As `begin`, with what was recalled already."""
        if turn is not None and turn.remembered.block:
            ask = replace(ask, memory=turn.remembered.block, memory_at=asked_at(ask.messages))
        begun = await self._chain.begin(ask, names, whole=whole)
        return Answer(
            remembered=turn.remembered if turn is not None else None,
            backend=begun.backend,
            endpoint=begun.endpoint,
            model=begun.model,
            dialect=begun.dialect,
            attempts=begun.attempts,
            pieces=begun.pieces,
            turn=turn,
            answering=self,
        )

    def report(self, turn: Turn) -> None:
        """Tell memory, in the background, which of a turn's memories were of use. Once a turn."""
        if turn.reported:
            return
        turn.reported = True
        self._reports.send(
            [
                EpisodeVerdict(
                    episode_id=one.episode_id, verdict=Verdict.USED if one.episode_id in turn.useful else Verdict.UNUSED
                )
                for one in turn.remembered.episodes
            ]
        )


@dataclass
class Answer:
    """An answer under way: its first content is at hand. Iterate it once, and close it whatever happens."""

    remembered: Remembered | None
    backend: str
    endpoint: str
    model: str
    dialect: Dialect | None
    attempts: tuple[Attempt, ...]
    pieces: AsyncGenerator[Piece, None]
    turn: Turn | None
    answering: Answering
    text: str = ""
    """What has been said so far."""
    finish: Finish | None = None
    """How it ended; none while it goes on, and where it broke off."""
    used: tuple[str, ...] = ()
    """Ids of the recalled episodes that it made use of; known at its end."""
    _said: list[str] = field(default_factory=list)
    _written: list[str] = field(default_factory=list)
    _calls: bool = False
    """It called a tool: the turn goes on with what that gives back."""
    _weighed: bool = False

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Its pieces. Raises `BackendFailure` where it breaks off.

        Who leaves early closes the answer, not this: nobody says when a generator that was left is let go, and what it
        would then do at the backend could meet the closing that is under way.
        """
        async for piece in self.pieces:
            match piece.delta:
                case TextDelta(text):
                    self._said.append(text)
                case ToolBegin():
                    self._calls = True
                case ToolInput(json):
                    self._written.append(json)
                case Finish():
                    self.finish = piece.delta
            yield piece
        await self.aclose()

    async def aclose(self) -> None:
        """End the work at the backend at once, and weigh what was recalled against what was said."""
        await self.pieces.aclose()
        if self._weighed:
            return
        self._weighed = True
        self.text = "".join(self._said)
        turn, remembered = self.turn, self.remembered
        if turn is None or remembered is None or not remembered.episodes:
            return
        written = "\n".join((self.text, *self._written))
        if written.strip():
            verdicts = used(written, remembered.texts, turn.question)
            turn.useful.update(
                one.episode_id for one, useful in zip(remembered.episodes, verdicts, strict=True) if useful
            )
        self.used = tuple(one.episode_id for one in remembered.episodes if one.episode_id in turn.useful)
        # Some servers end a turn of tool calls as any other.
        if self.finish is not None and self.finish.reason is not StopReason.TOOL and not self._calls:
            self.answering.report(turn)


def asked_at(messages: Sequence[Message]) -> int:
    """Index of the user's last words; -1 = none.

    Messages of nothing but tool results, and of what an assistant's program adds by itself, belong to the answer.
    """
    for at in range(len(messages) - 1, -1, -1):
        if messages[at].role == "user" and clean(messages[at].text):
            return at
    return -1


def _key(messages: Sequence[Message], scope: MemoryScope, owner: str) -> str:
    digest = hashlib.sha256(repr((owner, scope)).encode("utf-8", "surrogatepass"))
    for message in messages:
        digest.update(repr((message.role, message.text)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
