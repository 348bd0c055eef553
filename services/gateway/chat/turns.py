"""Running a turn: recall, answer, keep. What is kept does not depend on whether anybody still listens.

Each turn runs in a task of its own. A reader takes its events from a bounded queue; one that leaves, or takes
nothing, ends the turn at the backend, and what had been said until then is kept. Once an answer is over nothing stops
the keeping of it; what memory does not take now waits for it (`remembering`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from pydantic import BaseModel

from anamnesis.contracts.base import now
from anamnesis.contracts.chat import (
    MAX_ANSWER,
    ChatAnswer,
    ChatBackend,
    ChatBegun,
    ChatDelta,
    ChatDone,
    ChatRecalled,
    ChatRequest,
    ChatSession,
    ChatTurn,
    TurnState,
)
from anamnesis.contracts.keys import Identity
from anamnesis.kit.errors import AnamnesisError, Unavailable, UpstreamFailed
from anamnesis.kit.logs import logger, where
from services.gateway.answering import Answer, Answering
from services.gateway.backends.base import Ask, BackendFailure, Message, Text, TextDelta, ThinkingDelta
from services.gateway.chat.remembering import Remembering
from services.gateway.chat.sessions import Sessions, messages_of, shown_again
from services.gateway.recall import MemoryScope, Remembered

MAX_EVENTS = 64  # events that may wait for a reader; beyond it the backend waits too
SAVE_EVERY = 5.0  # seconds between two times that a growing answer is kept
TAKEN_WITHIN = 60.0  # seconds for which a full queue waits for its reader; servers drop slow ones earlier
STOP_WITHIN = 8.0  # seconds that turns under way may take to be kept when the gateway stops


class TurnEvent(BaseModel):
    """One step of a turn: the name of the event, and what it carries."""

    name: str
    value: ChatBegun | ChatRecalled | ChatBackend | ChatDelta | ChatDone


class _NobodyReads(Exception):
    """The reader takes nothing any more."""


class Turns:
    """Begins turns. `close` stops those under way and keeps what they have."""

    def __init__(
        self,
        answering: Answering,
        sessions: Sessions,
        remembering: Remembering,
        tokens: int,
        names: tuple[str, ...],
        *,
        taken_within: float = TAKEN_WITHIN,
    ) -> None:
        """`tokens` of earlier turns are shown again; `names` are asked where a request names no backend.

        `taken_within`: seconds for a reader to take something when many events wait for it.
        """
        self.taken_within = taken_within
        self._answering = answering
        self._sessions = sessions
        self._remembering = remembering
        self._tokens = tokens
        self._names = names
        self._running: set[Running] = set()

    async def begin(self, request: ChatRequest, identity: Identity, *, at_once: bool = False) -> "Running":
        """Begin a turn: from here on what was asked is kept. Raises what memory reports.

        `at_once`: nothing of the answer is told before all of it is there, so that one that breaks off may still be
        given by somebody else.
        """
        session = await self._sessions.open(request)
        earlier = (await self._sessions.read(session.session_id)).turns if session.turns else ()
        shown = shown_again(earlier, self._tokens)
        begun, turn = await self._sessions.begin(session.session_id, request.message, request.memory)
        ask = Ask(
            messages=(*messages_of(shown), Message("user", (Text(request.message),))),
            system=request.system,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
        )
        scope = None
        if request.memory:
            known = frozenset(one.episode_id for one in shown if one.episode_id is not None)
            scope = MemoryScope(request.project, request.instance, request.top_k, request.floor, known)
        running = Running(self, request.backends or self._names, scope, identity, session, begun, turn, at_once)
        running.task = asyncio.create_task(running.run(ask), name="turn")
        self._running.add(running)
        running.task.add_done_callback(lambda _: self._running.discard(running))
        return running

    async def close(self) -> None:
        for running in self._running:
            running.stop()
        if self._running:
            _, late = await asyncio.wait([running.task for running in self._running], timeout=STOP_WITHIN)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def answer(self, ask: Ask, running: "Running") -> Answer:
        """The answer with its first content at hand; tells the reader what was recalled for it."""
        turn = None
        if running.scope is not None:
            turn = await self._answering.remember(ask, running.scope, running.identity.key_id)
            await running.tell_recalled(turn.remembered)
        return await self._answering.answer(ask, running.names, turn, whole=running.at_once)

    async def keep(self, session: ChatSession, turn: ChatTurn) -> ChatTurn:
        """Keep a turn that is over, and let it be remembered; what memory does not take now is kept when it is back."""
        try:
            kept = await self._sessions.save(session.session_id, turn)
        except AnamnesisError:
            self._remembering.add(session, turn, kept=False)
            raise
        self._remembering.add(session, kept)
        return kept

    async def keep_growing(self, session: ChatSession, turn: ChatTurn) -> None:
        """Keep what there is of an answer; one that cannot be kept now is kept at its end."""
        try:
            await self._sessions.save(session.session_id, turn, SAVE_EVERY)
        except AnamnesisError as error:
            logger().warning("growing answer not kept yet", error=error.code)


class Running:
    """A turn under way. Iterate it for its events, and close it whatever happens."""

    task: "asyncio.Task[None]"

    def __init__(
        self,
        turns: Turns,
        names: Sequence[str],
        scope: MemoryScope | None,
        identity: Identity,
        session: ChatSession,
        begun: ChatBegun,
        turn: ChatTurn,
        at_once: bool,
    ) -> None:
        self._turns = turns
        self._session = session
        self._begun = begun
        self._turn = turn
        self._events: asyncio.Queue[TurnEvent | AnamnesisError] = asyncio.Queue()
        self._room = asyncio.Semaphore(MAX_EVENTS)
        self._stopped = False
        self._answering = False
        self._keeping: asyncio.Task[None] | None = None
        self.names = names
        """Backends to ask, in order."""
        self.scope = scope
        """Where to recall from; none = recall nothing."""
        self.identity = identity
        self.at_once = at_once
        self.session_id = session.session_id

    async def events(self) -> AsyncIterator[TurnEvent]:
        """`session`, `recalled`, `backend`, `thinking`, `delta`..., `done`. Raises `AnamnesisError` in place of `done`.

        Leaving it early stops the turn.
        """
        try:
            while True:
                one = await self._events.get()
                self._room.release()
                if isinstance(one, AnamnesisError):
                    raise one
                yield one
                if one.name == "done":
                    return
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop the answer. One that is over already is kept undisturbed."""
        if not self._stopped:
            self._stopped = True
            if self._answering:
                self.task.cancel()

    async def whole(self) -> ChatAnswer:
        """The turn when it is over."""
        recalled = ChatRecalled(episodes=(), abstained=True, milliseconds=0.0)
        backend: ChatBackend | None = None
        async for event in self.events():
            match event.value:
                case ChatRecalled():
                    recalled = event.value
                case ChatBackend():
                    backend = event.value
                case ChatDone(turn=turn):
                    assert backend is not None, "an answer comes from somebody"
                    return ChatAnswer(
                        session_id=self.session_id,
                        title=self._session.title,
                        recalled=recalled,
                        backend=backend,
                        turn=turn,
                    )
        raise AssertionError("a turn ends by its last event or by an error")

    async def tell(self, name: str, value: ChatBegun | ChatRecalled | ChatBackend | ChatDelta) -> None:
        """Raises `_NobodyReads`."""
        if self._room.locked():
            try:
                async with asyncio.timeout(self._turns.taken_within):
                    await self._room.acquire()
            except TimeoutError:
                raise _NobodyReads from None
        else:
            await self._room.acquire()
        self._events.put_nowait(TurnEvent(name=name, value=value))

    async def tell_recalled(self, remembered: Remembered) -> None:
        self._turn = self._turn.model_copy(update={"recalled": remembered.episodes})
        await self.tell(
            "recalled",
            ChatRecalled(
                episodes=remembered.episodes,
                abstained=remembered.abstained,
                error=remembered.error,
                milliseconds=remembered.milliseconds,
            ),
        )

    async def run(self, ask: Ask) -> None:
        """The work itself; ends with the turn kept, whatever happens."""
        answer: Answer | None = None
        said: list[str] = []
        failure: AnamnesisError | None = None
        state = TurnState.STOPPED
        self._answering = not self._stopped
        try:
            if self._answering:
                await self.tell("session", self._begun)
                answer = await self._turns.answer(ask, self)
                self._turn = self._turn.model_copy(update={"backend": answer.backend, "model": answer.model})
                backend = ChatBackend(backend=answer.backend, model=answer.model, attempts=answer.attempts)
                await self.tell("backend", backend)
                await self._read(answer, said)
                state = TurnState.COMPLETE
        except (asyncio.CancelledError, _NobodyReads):
            pass
        except BackendFailure as broken:
            failure = UpstreamFailed(f"the answer broke off: {broken.reason}; what was said until then is kept")
        except AnamnesisError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - the edge of a task: logged by type and place
            logger().error("turn failed", error=where(error))
            failure = AnamnesisError("something went wrong here; the log of the gateway says where")
        finally:
            self._answering = False
        await self._end(answer, said, state if failure is None else TurnState.FAILED, failure)

    async def _read(self, answer: Answer, said: list[str]) -> None:
        saved, length = 0.0, 0  # the first piece is kept at once
        async for piece in answer:
            match piece.delta:
                case TextDelta(text) if text:
                    length += len(text)
                    if length > MAX_ANSWER:
                        raise BackendFailure(f"it is longer than {MAX_ANSWER} characters")
                    said.append(text)
                    await self.tell("delta", ChatDelta(text=text))
                case ThinkingDelta(text) if text:
                    await self.tell("thinking", ChatDelta(text=text))
            idle = self._keeping is None or self._keeping.done()
            if said and idle and time.monotonic() - saved > SAVE_EVERY:
                saved = time.monotonic()
                # Beside the answer: it never waits for memory.
                grown = self._turn.model_copy(update={"answered": "".join(said)})
                self._keeping = asyncio.create_task(self._turns.keep_growing(self._session, grown), name="turn-growing")

    async def _end(
        self, answer: Answer | None, said: list[str], state: TurnState, failure: AnamnesisError | None
    ) -> None:
        if answer is not None:
            await answer.aclose()
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        finish = answer.finish if answer is not None else None
        turn = self._turn.model_copy(
            update={
                "answered": "".join(said),
                "state": state,
                "used": answer.used if answer is not None else (),
                "stop_reason": finish.reason if finish is not None else None,
                "usage": finish.usage if finish is not None else None,
                "error": failure.message[:1000] if failure is not None else None,
                "finished_at": now(),
            }
        )
        try:
            turn = await self._turns.keep(self._session, turn)
        except AnamnesisError as error:
            logger().warning("turn not kept yet", error=error.code)
            failure = failure or AnamnesisError(
                f"the answer is whole but could not be kept yet: {error.message}; it will be, once memory is back"
            )
        if state is TurnState.STOPPED:
            failure = Unavailable("the answer was stopped; what had been said until then is kept")
        # The last event needs no room: a reader who takes nothing does not hold up the end.
        self._events.put_nowait(failure or TurnEvent(name="done", value=ChatDone(turn=turn)))
