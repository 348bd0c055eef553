"""What people say of memories: counted for the episodes that are named, or for those that an answer used."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from anamnesis.contracts.chat import ChatSession, ChatSessionTurns, ChatTurn, TurnState
from anamnesis.contracts.keys import Scope
from anamnesis.contracts.usefulness import Verdict

from .conftest import caller, gateway, settings_for
from .remembering import KEYS, START, Remembering, episode, remembering


@pytest.fixture
async def memory() -> AsyncIterator[Remembering]:
    async with remembering() as one:
        one.keep(episode(1, "One."), episode(2, "Two."))
        yield one


@pytest.fixture
async def person(memory: Remembering) -> AsyncIterator[aiohttp.ClientSession]:
    async with gateway(settings_for(memory.url)) as url, caller(url, KEYS[Scope.WRITE]) as session:
        yield session


@pytest.mark.parametrize(("helpful", "verdict"), [(True, Verdict.HELPFUL), (False, Verdict.UNHELPFUL)])
async def test_named_episodes_are_counted(
    person: aiohttp.ClientSession, memory: Remembering, helpful: bool, verdict: Verdict
) -> None:
    """Each named episode is counted once, with what was said of it."""
    said = {"episode_ids": ["ep_1", "ep_2", "ep_1"], "helpful": helpful}
    async with person.post("/api/feedback", json=said) as answer:
        assert (answer.status, await answer.json()) == (200, {"changed": 2})
    assert memory.verdicts == {"ep_1": [verdict], "ep_2": [verdict]}


async def test_an_answer_stands_for_what_it_used(person: aiohttp.ClientSession, memory: Remembering) -> None:
    """Of a turn of the chat the episodes that its answer made use of are counted; a turn that is not there is 404."""
    before = memory.answer

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path != "/api/chat/sessions/s1":
            return await before(request)
        session = ChatSession(session_id="s1", title="Chat", created_at=START, updated_at=START)
        turn = ChatTurn(turn=3, asked="?", state=TurnState.COMPLETE, used=("ep_2",), started_at=START)
        assert (request.query["limit"], request.query["before"]) in (("1", "4"), ("1", "8"))
        return web.json_response(text=ChatSessionTurns(session=session, turns=(turn,), total=3).model_dump_json())

    memory.answer = answer
    async with person.post("/api/feedback", json={"session": "s1", "turn": 3, "helpful": True}) as told:
        assert await told.json() == {"changed": 1}
    assert memory.verdicts == {"ep_2": [Verdict.HELPFUL]}
    async with person.post("/api/feedback", json={"session": "s1", "turn": 7, "helpful": True}) as told:
        assert told.status == 404


@pytest.mark.parametrize(
    "said",
    [
        {"helpful": True},
        {"helpful": True, "session": "s1"},
        {"episode_ids": ["ep_1"]},
        {"episode_ids": ["../keys"], "helpful": True},
        {"episode_ids": [f"ep_{number}" for number in range(101)], "helpful": True},
        {"episode_ids": ["ep_1"], "helpful": True, "why": "because"},
    ],
)
async def test_what_names_nothing_is_refused(
    person: aiohttp.ClientSession, memory: Remembering, said: dict[str, object]
) -> None:
    """Feedback that names neither episodes nor an answer, or does not fit, is 422 and counts nothing."""
    async with person.post("/api/feedback", json=said) as answer:
        assert answer.status == 422
    assert memory.verdicts == {}


async def test_who_may_only_read_says_nothing(memory: Remembering) -> None:
    """Feedback changes what others are shown: a key of scope read is refused."""
    said = {"episode_ids": ["ep_1"], "helpful": False}
    async with (
        gateway(settings_for(memory.url)) as url,
        caller(url, KEYS[Scope.READ]) as reader,
        reader.post("/api/feedback", json=said) as answer,
    ):
        assert answer.status == 403
    assert memory.verdicts == {}
