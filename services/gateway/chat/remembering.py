"""What is written of a turn of the chat after it is over: the episode that it becomes, by the rules of transcripts.

While memory is away it waits and tries again; what a gateway leaves behind when it dies is found at the next start.
"""

import asyncio
import hashlib

from pydantic import BaseModel

from anamnesis.contracts.base import now
from anamnesis.contracts.chat import ChatSession, ChatTurn, TurnState
from anamnesis.contracts.episodes import BatchResult, EpisodeBatch, EpisodeCreate, EpisodeSource, Trust, WriteStatus
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError, Busy, DeadlineExceeded, StorageFull, Unavailable
from anamnesis.kit.logs import logger
from anamnesis.transcripts.episodes import DEFAULT_RAW, render, shorten, storable
from anamnesis.transcripts.significance import Rules, decide
from anamnesis.transcripts.summary import summarise
from services.gateway.chat.sessions import Sessions

KIND = "chat"
PROJECT = "chat"  # of sessions that belong to no project
MAX_WAITING = 1_000  # turns that may wait to be remembered; what is left over is found at the next start
SWEPT_SESSIONS = 50  # the newest, looked through at a start for turns that were not remembered
RETRY = 5.0  # seconds
PATIENCE = 60.0  # seconds for one write, tries included


AWAY = (Unavailable, Busy, DeadlineExceeded, StorageFull)
"""What passes: memory is starting, busy or full."""
LEFT = "the gateway ended before the answer did; ask again"


class _Waiting(BaseModel):
    session: ChatSession
    turn: ChatTurn
    kept: bool
    """Whether memory has the turn as it ended."""


class Remembering:
    """Writes what waits, one after the other; open it before use, close it at the end."""

    def __init__(
        self, memory: ServiceClient, sessions: Sessions, rules: Rules | None = None, *, retry: float = RETRY
    ) -> None:
        """`retry`: seconds between two tries while memory is away."""
        self._memory = memory
        self._sessions = sessions
        self._rules = rules or Rules()
        self._retry = retry
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(MAX_WAITING)
        self._tasks: list[asyncio.Task[None]] = []
        self._opened_at = now()

    async def open(self) -> None:
        self._opened_at = now()
        self._tasks = [
            asyncio.create_task(self._work(), name="remembering"),
            asyncio.create_task(self._sweep(), name="remembering-sweep"),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, session: ChatSession, turn: ChatTurn, *, kept: bool = True) -> None:
        """Remember a turn that is over, soon; one that is not `kept` yet is kept first."""
        if kept and not worth_waiting(turn):
            return
        try:
            self._queue.put_nowait(_Waiting(session=session, turn=turn, kept=kept))
        except asyncio.QueueFull:
            logger().warning("turn left for the next start", waiting=MAX_WAITING, kept=kept)

    async def _sweep(self) -> None:
        """Turns that a gateway left behind: cut off by its end, or died between an answer and its episode."""
        while True:
            try:
                for session in await self._sessions.newest(SWEPT_SESSIONS):
                    for turn in (await self._sessions.read(session.session_id)).turns:
                        if turn.state is TurnState.RUNNING and turn.started_at < self._opened_at:
                            left = {"state": TurnState.FAILED, "error": LEFT, "finished_at": now()}
                            await self._queue.put(
                                _Waiting(session=session, turn=turn.model_copy(update=left), kept=False)
                            )
                        elif worth_waiting(turn):
                            await self._queue.put(_Waiting(session=session, turn=turn, kept=True))
                return
            except AnamnesisError as error:
                logger().warning("turns not looked through yet", error=error.code)
                await asyncio.sleep(self._retry)

    async def _work(self) -> None:
        while True:
            one = await self._queue.get()
            while True:
                if await self._done(one):
                    break
                await asyncio.sleep(self._retry)

    async def _done(self, one: _Waiting) -> bool:
        """Whether there is nothing left to do for a turn; false while memory is away."""
        try:
            if not one.kept:
                one.turn = await self._sessions.save(one.session.session_id, one.turn)
                one.kept = True
            if worth_waiting(one.turn):
                await self._remember(one.session, one.turn)
        except AWAY as error:
            logger().warning("turn waits for memory", error=error.code, turn=one.turn.turn)
            return False
        except AnamnesisError as error:
            logger().warning("turn not remembered", error=error.code, turn=one.turn.turn)
        return True

    async def _remember(self, session: ChatSession, turn: ChatTurn) -> None:
        episode = episode_of(session, turn, self._rules)
        if episode is None:
            return
        body = EpisodeBatch(episodes=(episode,))
        answer = await self._memory.request(
            "POST", "/api/episodes/batch", BatchResult, body=body, deadline=PATIENCE, repeatable=True
        )
        [written] = answer.results
        if written.status is WriteStatus.BLOCKED:
            return
        kept = written.duplicate_of or written.episode_id
        await self._sessions.save(session.session_id, turn.model_copy(update={"episode_id": kept}), PATIENCE)


def worth_waiting(turn: ChatTurn) -> bool:
    """Whether a turn may become an episode: wanted, over, answered, and not one already."""
    over = turn.state in (TurnState.COMPLETE, TurnState.STOPPED)
    return turn.remember and over and bool(turn.answered) and turn.episode_id is None


def episode_of(session: ChatSession, turn: ChatTurn, rules: Rules) -> EpisodeCreate | None:
    """The episode of a turn, the same whenever it is made; none where it is not worth remembering."""
    project = session.project or PROJECT
    asked, said = [turn.asked], [turn.answered]
    if not decide(asked, said, 0, command=False, sidechain=False, project=project, rules=rules).keep:
        return None
    digest = hashlib.sha256(f"{session.session_id}/{turn.turn}".encode()).hexdigest()[:24]
    stopped = turn.state is TurnState.STOPPED
    return EpisodeCreate(
        episode_id=f"ep_{turn.started_at:%Y%m%d}_chat_{digest}",
        timestamp=turn.started_at,
        instance=session.instance or KIND,
        project=project,
        summary=storable(summarise(asked, [], said, stopped)) or "(nothing said)",
        raw_exchange=storable(shorten(render([("user", turn.asked), ("assistant", turn.answered)]), DEFAULT_RAW)),
        tags=("chat", "interrupted") if stopped else ("chat",),
        source=EpisodeSource(kind=KIND, session=session.session_id, position=turn.turn),
        trust=Trust.ASSISTANT,
    )
