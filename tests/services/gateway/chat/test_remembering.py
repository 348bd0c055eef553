"""An exchange becomes one episode, whatever dies or is away meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import NamedTuple

import pytest

from anamnesis.contracts.base import now
from anamnesis.contracts.chat import ChatSession, ChatTurn, TurnState
from anamnesis.kit.client import ServiceClient
from anamnesis.transcripts.significance import Rules
from services.gateway.chat.remembering import Remembering, episode_of
from services.gateway.chat.sessions import Sessions

from ..chatting import Chats, Step, chats

ASKED = "Why does the upload test fail on the first run?"
ANSWERED = "The storage server listens on port 9417 late; tests/test_upload.py waits for the port now."


class Parts(NamedTuple):
    memory: Chats
    client: ServiceClient

    def one(self) -> Remembering:
        return Remembering(self.client, Sessions(self.client, save_within=1), retry=0.01)

    def over(self, number: int = 1, **more: object) -> ChatTurn:
        """A turn that memory has, as it is here."""
        turn = turn_of(number, **more)
        self.memory.turns["s1", number] = turn
        return turn

    async def named(self, number: int = 1) -> ChatTurn:
        """A turn that names its episode."""
        await self.memory.until(lambda: self.memory.turns["s1", number].episode_id is not None)
        return self.memory.turns["s1", number]


def turn_of(number: int = 1, **more: object) -> ChatTurn:
    base = ChatTurn(
        turn=number, asked=ASKED, answered=ANSWERED, state=TurnState.COMPLETE, started_at=now() - timedelta(minutes=1)
    )
    return base.model_copy(update=more)


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    async with chats() as memory:
        client = ServiceClient(memory.url, None)
        moment = now()
        memory.sessions["s1"] = ChatSession(
            session_id="s1", title="Uploads", project="shop", turns=1, created_at=moment, updated_at=moment
        )
        async with client:
            yield Parts(memory, client)


async def test_a_turn_becomes_an_episode_and_names_it(parts: Parts) -> None:
    """Under an id that follows from session and turn, so that making it again makes no second one."""
    one = parts.one()
    await one.open()
    one.add(parts.memory.sessions["s1"], parts.over())
    named = await parts.named()
    await one.close()
    assert parts.memory.written == [named.episode_id]
    assert named.answered == ANSWERED


async def test_while_memory_is_away_it_waits(parts: Parts) -> None:
    """However long memory is away: when it is back the episode is written, without a new start of the gateway."""
    parts.memory.away = {Step.EPISODE, Step.NAME}
    one = parts.one()
    await one.open()
    one.add(parts.memory.sessions["s1"], parts.over())
    await parts.memory.until(lambda: parts.memory.steps.count(Step.EPISODE) >= 2)
    parts.memory.away = {Step.NAME}
    await parts.memory.until(lambda: Step.NAME in parts.memory.steps)
    parts.memory.away = set()
    await parts.named()
    await one.close()
    assert len(set(parts.memory.written)) == 1


async def test_a_death_between_the_episode_and_its_name(parts: Parts) -> None:
    """The next start finds the turn, writes the same episode under the same id, and names it."""
    parts.memory.held[Step.NAME] = asyncio.Event()
    first = parts.one()
    await first.open()
    first.add(parts.memory.sessions["s1"], parts.over())
    await parts.memory.until(lambda: Step.NAME in parts.memory.steps)
    await first.close()
    parts.memory.held.pop(Step.NAME)
    parts.memory.turns["s1", 1] = parts.memory.turns["s1", 1].model_copy(update={"episode_id": None})
    second = parts.one()
    await second.open()
    named = await parts.named()
    await second.close()
    assert set(parts.memory.written) == {named.episode_id}
    assert len(parts.memory.written) == 2


async def test_a_turn_that_a_gateway_left_in_its_middle_is_ended(parts: Parts) -> None:
    """After kill -9 a page does not say for ever that the answer is being written; what there was of it stays."""
    parts.over(state=TurnState.RUNNING, answered="Half of")
    one = parts.one()
    await one.open()
    await parts.memory.until(lambda: parts.memory.turns["s1", 1].state is TurnState.FAILED)
    await one.close()
    left = parts.memory.turns["s1", 1]
    assert left.answered == "Half of"
    assert "ask again" in (left.error or "")
    assert parts.memory.written == []


async def test_a_turn_that_runs_now_is_left_alone(parts: Parts) -> None:
    """Looking through what was left behind does not end what has just begun."""
    parts.over(1, state=TurnState.RUNNING, started_at=now() + timedelta(seconds=5))
    parts.over(2)
    one = parts.one()
    await one.open()
    await parts.named(2)
    await one.close()
    assert parts.memory.turns["s1", 1].state is TurnState.RUNNING


async def test_what_was_forgotten_does_not_come_back(parts: Parts) -> None:
    """Where memory refuses the episode, the turn does not claim to be one."""
    parts.memory.blocked = True
    one = parts.one()
    await one.open()
    one.add(parts.memory.sessions["s1"], parts.over())
    await parts.memory.until(lambda: len(parts.memory.written) == 1)
    parts.memory.blocked = False
    one.add(parts.memory.sessions["s1"], parts.over(2))
    await parts.named(2)
    await one.close()
    assert parts.memory.turns["s1", 1].episode_id is None


async def test_a_turn_whose_session_is_gone_does_not_hold_up_the_others(parts: Parts) -> None:
    """What memory will never take is let go."""
    gone = parts.memory.sessions["s1"].model_copy(update={"session_id": "gone"})
    one = parts.one()
    await one.open()
    one.add(gone, turn_of(), kept=False)
    one.add(parts.memory.sessions["s1"], parts.over())
    await parts.named()
    await one.close()


@pytest.mark.parametrize(
    "more",
    [
        {"remember": False},
        {"state": TurnState.FAILED},
        {"state": TurnState.RUNNING},
        {"answered": ""},
        {"episode_id": "ep_known"},
    ],
    ids=lambda more: next(iter(more)),
)
async def test_what_is_not_to_be_remembered_is_not(parts: Parts, more: dict[str, object]) -> None:
    """Memory switched off, a failure, nothing said, or an episode already: no second thought is given to it."""
    one = parts.one()
    await one.open()
    one.add(parts.memory.sessions["s1"], turn_of(1, **more))
    one.add(parts.memory.sessions["s1"], parts.over(2))
    await parts.named(2)
    await one.close()
    assert len(parts.memory.written) == 1


def test_an_episode_is_the_same_whenever_it_is_made() -> None:
    """And belongs to its session's project and machine; a stopped one says so."""
    moment = now()
    session = ChatSession(session_id="s1", title="t", created_at=moment, updated_at=moment)
    turn = turn_of(started_at=moment)
    one, again = (episode_of(session, turn, Rules()) for _ in range(2))
    assert one == again
    assert one is not None
    assert (one.project, one.instance, one.tags) == ("chat", "chat", ("chat",))
    assert one.source is not None
    assert (one.source.session, one.source.position) == ("s1", 1)
    placed = session.model_copy(update={"project": "shop", "instance": "laptop"})
    other = episode_of(placed, turn.model_copy(update={"state": TurnState.STOPPED}), Rules())
    assert other is not None
    assert (other.episode_id, other.project, other.instance) == (one.episode_id, "shop", "laptop")
    assert other.tags == ("chat", "interrupted")
