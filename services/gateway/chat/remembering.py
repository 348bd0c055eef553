"""A turn of the chat as an episode, written after it is over, by the rules that transcripts are read by."""

import asyncio
import hashlib

from pydantic import BaseModel

from anamnesis.contracts.chat import ChatSession, ChatTurn, TurnState
from anamnesis.contracts.episodes import BatchResult, EpisodeBatch, EpisodeCreate, EpisodeSource, Trust
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError
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


class _Waiting(BaseModel):
    session: ChatSession
    turn: ChatTurn


class Remembering:
    """Writes what waits, one after the other; open it before use, close it at the end."""

    def __init__(self, memory: ServiceClient, sessions: Sessions, rules: Rules | None = None) -> None:
        self._memory = memory
        self._sessions = sessions
        self._rules = rules or Rules()
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(MAX_WAITING)
        self._worker: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._worker = asyncio.create_task(self._work(), name="remembering")
        self._sweeper = asyncio.create_task(self._sweep(), name="remembering-sweep")

    async def close(self) -> None:
        for task in (self._sweeper, self._worker):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def add(self, session: ChatSession, turn: ChatTurn) -> None:
        """Remember a turn that is over, soon. What finds no room is found again at the next start."""
        if not worth_waiting(turn):
            return
        try:
            self._queue.put_nowait(_Waiting(session=session, turn=turn))
        except asyncio.QueueFull:
            logger().warning("turn left for the next start", waiting=MAX_WAITING)

    async def _sweep(self) -> None:
        """Turns that a gateway left behind when it died between an answer and its episode."""
        while True:
            try:
                for session in await self._sessions.newest(SWEPT_SESSIONS):
                    for turn in (await self._sessions.read(session.session_id)).turns:
                        if worth_waiting(turn):
                            await self._queue.put(_Waiting(session=session, turn=turn))
                return
            except AnamnesisError as error:
                logger().warning("turns not looked through yet", error=error.code)
                await asyncio.sleep(RETRY)

    async def _work(self) -> None:
        while True:
            one = await self._queue.get()
            try:
                await self._remember(one.session, one.turn)
            except AnamnesisError as error:
                logger().warning("turn not remembered", error=error.code, turn=one.turn.turn)

    async def _remember(self, session: ChatSession, turn: ChatTurn) -> None:
        episode = episode_of(session, turn, self._rules)
        if episode is None:
            return
        body = EpisodeBatch(episodes=(episode,))
        answer = await self._memory.request(
            "POST", "/api/episodes/batch", BatchResult, body=body, deadline=PATIENCE, repeatable=True
        )
        kept = answer.results[0].duplicate_of or answer.results[0].episode_id
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
