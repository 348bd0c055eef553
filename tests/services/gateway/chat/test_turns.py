"""A turn from its beginning to what is kept of it, whatever the reader, the backend and memory do meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from anamnesis.contracts.chat import ChatDone, ChatRequest, ChatTurn, StopReason, TurnState
from anamnesis.contracts.keys import Identity, Scope
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError, Unavailable
from services.gateway.answering import Answering
from services.gateway.backends.base import BackendFailure, Finish, Piece, TextDelta, ThinkingDelta
from services.gateway.chat.remembering import Remembering
from services.gateway.chat.sessions import Sessions
from services.gateway.chat.turns import MAX_EVENTS, Running, TurnEvent, Turns
from services.gateway.failover.chain import Chain
from services.gateway.failover.walk import Deadlines
from services.gateway.recall import Recall
from services.gateway.reports import Reports

from ..chatting import Chats, Step, chats
from ..remembering import episode
from ..surfaces.house import Scripted

ANNA = Identity(key_id="anna", name="Anna", scope=Scope.WRITE)
END = Piece(Finish(StopReason.END))
ANSWER = "It listens on port 9417, as tests/test_upload.py waits for it."


class Parts(NamedTuple):
    memory: Chats
    backend: Scripted
    turns: Turns

    async def begin(self, message: str = "Which port?", **more: object) -> Running:
        return await self.turns.begin(ChatRequest.model_validate({"message": message, **more}), ANNA)

    async def whole(self, message: str = "Which port?", **more: object) -> ChatTurn:
        """A turn that is read to its end."""
        [*_, last] = [one async for one in (await self.begin(message, **more)).events()]
        assert isinstance(last.value, ChatDone)
        return last.value.turn


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    async with chats() as memory:
        client = ServiceClient(memory.url, None)
        backend = Scripted("scripted", [Piece(TextDelta(ANSWER)), END])
        reports, sessions = Reports(client), Sessions(client, save_within=1)
        remembering = Remembering(client, sessions, retry=0.01)
        chain = Chain([backend], Deadlines(first=20, idle=20, total=60))
        answering = Answering(chain, Recall(client, wait=5, top_k=5, tokens=1_000), reports)
        turns = Turns(answering, sessions, remembering, 4_000, ("scripted",), taken_within=0.3)
        async with client:
            await remembering.open()
            yield Parts(memory, backend, turns)
            for event in memory.held.values():
                event.set()
            await turns.close()
            await remembering.close()
            await reports.close()


async def until(events: AsyncIterator[TurnEvent], name: str) -> TurnEvent:
    return await anext(one async for one in events if one.name == name)


def words(number: int) -> list[Piece]:
    return [Piece(TextDelta(f"word{at} ")) for at in range(number)]


async def test_a_reader_who_leaves_while_the_answer_is_kept_disturbs_nothing(parts: Parts) -> None:
    """The answer is over: that its page is closed now is no reason to lose it."""
    parts.memory.held[Step.KEEP] = asyncio.Event()
    running = await parts.begin()
    events = running.events()
    await until(events, "delta")
    await parts.memory.until(lambda: Step.KEEP in parts.memory.steps)
    running.stop()
    await asyncio.wait({running.task}, timeout=0.2)  # as long as a cancelled request would need to be over
    parts.memory.held[Step.KEEP].set()
    turn = await parts.memory.ended()
    assert (turn.state, turn.answered) == (TurnState.COMPLETE, ANSWER)


async def test_a_reader_who_is_gone_before_the_work_begins_leaves_a_turn_that_is_over(parts: Parts) -> None:
    """A turn is never left as if it were still being answered."""
    running = await parts.begin()
    running.stop()
    turn = await parts.memory.ended()
    assert (turn.state, turn.answered) == (TurnState.STOPPED, "")
    assert parts.backend.asked == []


async def test_a_stop_keeps_what_was_said(parts: Parts) -> None:
    """The backend's work ends at once, and the turn is kept as stopped with the words until then."""
    parts.backend.script = [Piece(TextDelta("Half of it")), asyncio.Event()]
    running = await parts.begin()
    events = running.events()
    await until(events, "delta")
    running.stop()
    with pytest.raises(Unavailable, match="stopped"):
        await until(events, "done")
    assert parts.backend.closed.is_set()
    turn = await parts.memory.ended()
    assert (turn.state, turn.answered) == (TurnState.STOPPED, "Half of it")


async def test_a_reader_who_takes_nothing_ends_the_work(parts: Parts) -> None:
    """Events wait for a reader in a bounded number and for a bounded time; then the backend is let go."""
    parts.backend.script = [*words(10 * MAX_EVENTS), END]
    await parts.begin(memory=False)
    turn = await parts.memory.ended()
    assert turn.state is TurnState.STOPPED
    assert parts.backend.closed.is_set()
    assert parts.backend.said < 2 * MAX_EVENTS
    assert turn.answered.startswith("word0 word1 ")


async def test_a_reader_who_never_comes_does_not_hold_up_a_turn_that_ends(parts: Parts) -> None:
    """The last event needs no room among those that wait."""
    parts.backend.script = [*words(MAX_EVENTS - 2), END]
    await parts.begin(memory=False)
    assert (await parts.memory.ended()).state is TurnState.COMPLETE
    async with asyncio.timeout(20):
        await parts.turns.close()


async def test_an_answer_does_not_wait_for_memory(parts: Parts) -> None:
    """Words go on to the reader while what there is of them is being kept; the last word is what stays."""
    parts.memory.held[Step.GROW] = asyncio.Event()
    growing = asyncio.Event()
    parts.backend.script = [Piece(TextDelta("word ")), growing, *words(20), END]
    running = await parts.begin(memory=False)
    events = running.events()
    await until(events, "delta")
    await parts.memory.until(lambda: Step.GROW in parts.memory.steps)
    growing.set()
    async with asyncio.timeout(4):  # memory would be given five seconds
        done = await until(events, "done")
    assert isinstance(done.value, ChatDone)
    assert done.value.turn.answered.endswith("word19 ")
    parts.memory.held[Step.GROW].set()
    assert (await parts.memory.ended()).state is TurnState.COMPLETE


async def test_what_memory_does_not_take_now_is_kept_when_it_is_back(parts: Parts) -> None:
    """The reader is told that it is not kept yet; nothing of the answer is lost, and it becomes an episode."""
    parts.memory.away = {Step.KEEP, Step.GROW}
    running = await parts.begin()
    with pytest.raises(AnamnesisError, match="could not be kept yet"):
        [_ async for _ in running.events()]
    parts.memory.away = set()
    turn = await parts.memory.ended()
    assert (turn.state, turn.answered) == (TurnState.COMPLETE, ANSWER)
    await parts.memory.until(lambda: len(parts.memory.written) == 1)


async def test_two_turns_of_a_session_at_once_are_two_turns(parts: Parts) -> None:
    """Two pages of one conversation: each has its own answer, and neither shows the other's half."""
    gate = asyncio.Event()
    first = await parts.whole("The first question")
    session_id = next(iter(parts.memory.sessions))
    parts.backend.script = [Piece(TextDelta("words ")), gate, Piece(TextDelta("to the end")), END]
    both = [await parts.begin(f"Question {name}", session_id=session_id) for name in ("left", "right")]
    streams = [one.events() for one in both]
    for events in streams:
        await until(events, "delta")
    gate.set()
    for events in streams:
        await until(events, "done")
    turns = [parts.memory.turns[session_id, number] for number in (1, 2, 3)]
    assert [one.asked for one in turns] == ["The first question", "Question left", "Question right"]
    assert [one.answered for one in turns] == [first.answered, *["words to the end"] * 2]
    for ask in parts.backend.asked[1:]:
        assert [one.text for one in ask.messages[:-1]] == ["The first question", ANSWER]


async def test_the_gateway_stops_in_the_middle_of_turns(parts: Parts) -> None:
    """Closing keeps what was said of each, ends the work, and is over soon."""
    parts.backend.script = [Piece(TextDelta("So far")), asyncio.Event()]
    for _ in range(3):
        await until((await parts.begin(memory=False)).events(), "delta")
    async with asyncio.timeout(20):
        await parts.turns.close()
    assert {one.state for one in parts.memory.turns.values()} == {TurnState.STOPPED}
    assert {one.answered for one in parts.memory.turns.values()} == {"So far"}


async def test_a_conversation_is_not_remembered_to_itself(parts: Parts) -> None:
    """An episode that an earlier turn of the same conversation became is in it already, and is not recalled."""
    parts.memory.keep(episode(1, "Which port is it? The other one, 9418."))
    await parts.whole("Which port?", floor=0)
    own = next(iter(parts.memory.sessions))
    await parts.memory.until(lambda: parts.memory.turns[own, 1].episode_id is not None)
    became = parts.memory.turns[own, 1].episode_id
    assert became is not None
    parts.memory.episodes[became] = episode(2, "Which port? It is 9417.").model_copy(update={"episode_id": became})
    turn = await parts.whole("And which port again?", session_id=own, floor=0)
    assert [one.episode_id for one in turn.recalled] == ["ep_1"]
    elsewhere = await parts.whole("And which port again?", floor=0)
    assert {one.episode_id for one in elsewhere.recalled} == {"ep_1", became}


async def test_as_many_are_recalled_as_are_set_or_asked_for(parts: Parts) -> None:
    """A request without a number takes the configured one."""
    await parts.whole()
    await parts.whole(top_k=2)
    assert [one.top_k for one in parts.memory.searches] == [5, 2]


async def test_thinking_is_told_and_not_kept(parts: Parts) -> None:
    """What a model thinks is shown while it lasts; the answer is what it says."""
    parts.backend.script = [Piece(ThinkingDelta("hm")), Piece(TextDelta("9417")), END]
    events = [one async for one in (await parts.begin(memory=False)).events()]
    assert [one.name for one in events] == ["session", "backend", "thinking", "delta", "done"]
    assert (await parts.memory.ended()).answered == "9417"


async def test_a_memory_that_is_away_at_the_beginning_is_told_at_once(parts: Parts) -> None:
    """Nothing is answered that could not be kept: the question comes back with what is wrong."""
    parts.memory.away = {Step.BEGIN}
    with pytest.raises(Unavailable):
        await parts.begin()
    assert parts.backend.asked == []


async def test_a_memory_that_fails_at_recalling_is_told_and_the_turn_goes_on(parts: Parts) -> None:
    """The page hears why nothing was recalled, and gets its answer."""
    parts.backend.script = [Piece(TextDelta("by itself")), END]
    parts.memory.pause = asyncio.Event()
    parts.memory.pause.set()
    answer = parts.memory.answer

    async def no_search(request: object) -> object:
        if str(getattr(request, "path", "")).endswith("/search"):
            raise ConnectionResetError
        return await answer(request)  # type: ignore[arg-type]

    parts.memory.answer = no_search  # type: ignore[assignment]
    events = [one async for one in (await parts.begin()).events()]
    recalled = next(one.value for one in events if one.name == "recalled")
    assert getattr(recalled, "error", None)
    assert not getattr(recalled, "abstained", True)
    assert events[-1].name == "done"


async def test_a_backend_that_breaks_off_leaves_a_failed_turn(parts: Parts) -> None:
    """What was said until then is kept with the reason, and the reader gets an error in place of the end."""
    parts.backend.script = [Piece(TextDelta("Half")), BackendFailure("went home")]
    with pytest.raises(AnamnesisError, match="went home"):
        await parts.whole(memory=False)
    turn = await parts.memory.ended()
    assert (turn.state, turn.answered) == (TurnState.FAILED, "Half")
    assert "went home" in (turn.error or "")
