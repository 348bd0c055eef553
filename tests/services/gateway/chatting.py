"""A small memory that keeps chats too, and is slow, away or forgetful at the moments that a test names."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum

from aiohttp import web

from anamnesis.contracts.base import now
from anamnesis.contracts.chat import (
    ChatBegun,
    ChatSession,
    ChatSessionCreate,
    ChatSessionPage,
    ChatSessionTurns,
    ChatTurn,
    TurnBegin,
    TurnState,
)
from anamnesis.contracts.episodes import BatchResult, EpisodeBatch, WriteResult, WriteStatus

from .remembering import Remembering


class Step(StrEnum):
    """What a chat asks of memory."""

    BEGIN = "begin"
    GROW = "grow"
    KEEP = "keep"
    NAME = "name"
    """The episode of a turn that is over is named."""
    EPISODE = "episode"


class Chats(Remembering):
    """Sessions and turns in dicts; a turn that has ended is never made to run again, as in the real one."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[str, ChatSession] = {}
        self.turns: dict[tuple[str, int], ChatTurn] = {}
        self.steps: list[Step] = []
        """What came, in order, the refused included."""
        self.held: dict[Step, asyncio.Event] = {}
        """What waits for an event before it is done."""
        self.away: set[Step] = set()
        """What is refused as if memory were starting."""
        self.blocked = False
        """Episodes were forgotten, and do not come back."""
        self.written: list[str] = []
        """Ids of episodes in the order in which they came, repetitions included."""
        self._changed = asyncio.Condition()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(true)

    async def ended(self, session_id: str | None = None, number: int = 1) -> ChatTurn:
        """A turn, once it is over."""

        def turn() -> ChatTurn | None:
            name = session_id or next(iter(self.sessions), "")
            return self.turns.get((name, number))

        await self.until(lambda: (one := turn()) is not None and one.state is not TurnState.RUNNING)
        found = turn()
        assert found is not None
        return found

    async def stop(self) -> None:
        for event in self.held.values():
            event.set()
        await super().stop()

    async def _no_sessions(self, request: web.Request) -> web.StreamResponse:
        newest = sorted(self.sessions.values(), key=lambda one: one.updated_at, reverse=True)
        return _json(ChatSessionPage(sessions=tuple(newest), total=len(newest)).model_dump_json())

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        match request.method, request.path.split("/")[2:]:
            case "POST", ["chat", "sessions"]:
                asked = ChatSessionCreate.model_validate_json(await request.read())
                return self._create_session(asked)
            case "GET", ["chat", "sessions", name] if name in self.sessions:
                turns = tuple(turn for (session, _), turn in sorted(self.turns.items()) if session == name)
                page = ChatSessionTurns(session=self.sessions[name], turns=turns, total=len(turns))
                return _json(page.model_dump_json())
            case "POST", ["chat", "sessions", name, "turns"] if name in self.sessions:
                begun = TurnBegin.model_validate_json(await request.read())
                return await self._step(Step.BEGIN, lambda: self._begin(name, begun))
            case "PUT", ["chat", "sessions", name, "turns", _] if name in self.sessions:
                turn = ChatTurn.model_validate_json(await request.read())
                step = Step.KEEP if turn.episode_id is None else Step.NAME
                step = Step.GROW if turn.state is TurnState.RUNNING else step
                return await self._step(step, lambda: self._write(name, turn))
            case "POST", ["episodes", "batch"]:
                batch = EpisodeBatch.model_validate_json(await request.read())
                return await self._step(Step.EPISODE, lambda: self._batch(batch))
        return await super()._answer(request)

    async def _step(self, step: Step, do: Callable[[], web.StreamResponse]) -> web.StreamResponse:
        async with self._changed:
            self.steps.append(step)
            self._changed.notify_all()
        if step in self.held:
            await self.held[step].wait()
        if step in self.away:
            return _json('{"error": {"code": "unavailable", "message": "the store is away"}}', 503)
        async with self._changed:
            answer = do()
            self._changed.notify_all()
        return answer

    def _create_session(self, asked: ChatSessionCreate) -> web.StreamResponse:
        moment = now()
        session = ChatSession(
            session_id=asked.session_id or f"s{len(self.sessions) + 1}",
            title=asked.title,
            project=asked.project,
            instance=asked.instance,
            created_at=moment,
            updated_at=moment,
        )
        self.sessions[session.session_id] = session
        return _json(session.model_dump_json(), 201)

    def _begin(self, name: str, begun: TurnBegin) -> web.StreamResponse:
        session = self.sessions[name]
        number = session.turns + 1
        self.sessions[name] = session.model_copy(update={"turns": number})
        self.turns[name, number] = ChatTurn(
            turn=number,
            asked=begun.asked,
            state=TurnState.RUNNING,
            started_at=begun.started_at,
            remember=begun.remember,
        )
        return _json(ChatBegun(session_id=name, turn=number, title=session.title).model_dump_json(), 201)

    def _write(self, name: str, turn: ChatTurn) -> web.StreamResponse:
        old = self.turns.get((name, turn.turn))
        if old is not None and old.state is not TurnState.RUNNING and turn.state is TurnState.RUNNING:
            return _json('{"error": {"code": "conflict", "message": "this turn has ended"}}', 409)
        self.turns[name, turn.turn] = turn
        return _json(turn.model_dump_json())

    def _batch(self, batch: EpisodeBatch) -> web.StreamResponse:
        results: list[WriteResult] = []
        for one in batch.episodes:
            assert one.episode_id is not None
            known = one.episode_id in self.written
            self.written.append(one.episode_id)
            status = WriteStatus.DUPLICATE if known else WriteStatus.CREATED
            results.append(
                WriteResult(episode_id=one.episode_id, status=WriteStatus.BLOCKED if self.blocked else status)
            )
        return _json(BatchResult(results=tuple(results)).model_dump_json())


@asynccontextmanager
async def chats() -> AsyncIterator[Chats]:
    memory = Chats()
    await memory.start()
    try:
        yield memory
    finally:
        await memory.stop()


def _json(text: str, status: int = 200) -> web.StreamResponse:
    return web.json_response(text=text, status=status)
