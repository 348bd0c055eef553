"""The chat through real services: what is recalled, said, kept and remembered, whatever happens on the way."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import httpx
import pytest
from pydantic import JsonValue

from anamnesis.contracts.chat import (
    ChatAnswer,
    ChatDone,
    ChatRecalled,
    ChatSearch,
    ChatSession,
    ChatSessionTurns,
    ChatTurn,
    TurnState,
)
from anamnesis.contracts.episodes import Episode
from anamnesis.contracts.usefulness import UsefulnessSummary
from anamnesis.kit.sse import Event, parse
from tests.e2e.conftest import KEY, Stack, running
from tests.ports import free_ports
from tests.services.gateway.upstreams import Cut, Script, Stall, Upstream, respond, sse, stream

FACT = {
    "episode_id": "ep_upload",
    "instance": "laptop",
    "project": "shop",
    "summary": "Asked: Why does the upload test fail? Outcome: The storage server listens on port 9417 only after four "
    "seconds; tests/test_upload.py now waits for the port instead of sleeping.",
    "raw_exchange": "User: Why does the upload test fail?\n\nAssistant: The storage server listens on port 9417 late.",
}
QUESTION = "Why did the upload test fail, and on which port does the storage server listen?"


class Chat(NamedTuple):
    stack: Stack
    port: int
    """Where the backend is expected."""

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.stack.url(), headers={"X-API-Key": KEY}, timeout=60, trust_env=False)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    [port] = free_ports(1)
    extra = {"ANAMNESIS_OPENAI_URLS": f"http://127.0.0.1:{port}/v1", "ANAMNESIS_OPENAI_MODEL": "scripted"}
    with running(tmp_path_factory.mktemp("chat"), "memory", "gateway", extra=extra) as stack:
        with stack.client() as client:
            client.post("/api/episodes", json=FACT).raise_for_status()
        yield Chat(stack, port)


@pytest.fixture
async def upstream(chat: Chat) -> AsyncIterator[Upstream]:
    server = Upstream(says("It listens on port 9417; tests/test_upload.py waits for the port."))
    await server.start(chat.port)
    yield server
    await server.stop()


def chunk(text: str, finish: str | None = None) -> bytes:
    delta: JsonValue = {"content": text} if text else {}
    choice: JsonValue = {"index": 0, "delta": delta, "finish_reason": finish}
    return sse({"id": "c1", "object": "chat.completion.chunk", "model": "scripted-1", "choices": [choice]})


def says(*pieces: str) -> Script:
    usage: JsonValue = {"prompt_tokens": 40, "completion_tokens": 9, "total_tokens": 49}
    last = sse({"id": "c1", "object": "chat.completion.chunk", "model": "scripted-1", "choices": [], "usage": usage})
    return stream([*map(chunk, pieces), chunk("", "stop"), last, b"data: [DONE]\n\n"])


async def turn(client: httpx.AsyncClient, message: str, **more: object) -> list[Event]:
    """One turn as its events."""
    async with client.stream("POST", "/api/chat/stream", json={"message": message, **more}) as answer:
        assert answer.status_code == 200, await answer.aread()
        return [event async for event in parse(answer.aiter_lines())]


def one(events: list[Event], name: str) -> str:
    [found] = [event.data for event in events if event.name == name]
    return found


async def kept(client: httpx.AsyncClient, session_id: str, state: TurnState, number: int = 1) -> ChatTurn:
    """A turn as memory keeps it, once it is in this state."""
    for _ in range(600):
        answer = await client.get(f"/api/chat/sessions/{session_id}")
        turns = ChatSessionTurns.model_validate_json(answer.content).turns
        if len(turns) >= number and turns[number - 1].state is state:
            return turns[number - 1]
        await asyncio.sleep(0.05)
    raise AssertionError(f"the turn is not {state}: {turns}")


async def test_a_turn_recalls_answers_and_is_remembered(chat: Chat, upstream: Upstream) -> None:
    """What bears on a question is put before the model as data, told to the page, weighed, and the exchange is kept."""
    async with chat.client() as client:
        events = await turn(client, QUESTION, project="shop")
        assert [event.name for event in events] == ["session", "recalled", "backend", "delta", "done"]
        recalled = ChatRecalled.model_validate_json(one(events, "recalled"))
        assert [episode.episode_id for episode in recalled.episodes] == ["ep_upload"]
        assert {reason.term for reason in recalled.episodes[0].reasons} >= {"dense", "lexical"}
        session_id = json.loads(one(events, "session"))["session_id"]
        done = ChatDone.model_validate_json(one(events, "done")).turn
        assert (done.state, done.backend, done.model) == (TurnState.COMPLETE, "openai", "scripted-1")
        assert done.used == ("ep_upload",)
        assert done.usage is not None
        assert done.usage.output_tokens == 9

        sent = upstream.seen[-1].json()
        assert isinstance(sent, dict)
        messages = sent["messages"]
        assert isinstance(messages, list)
        assert [message["role"] for message in messages if isinstance(message, dict)] == ["user"]
        words = json.dumps(messages, ensure_ascii=False)
        assert words.index("<anamnesis-memory>") < words.index("port 9417") < words.index(QUESTION)

        for _ in range(600):
            turns = await client.get(f"/api/chat/sessions/{session_id}")
            [last] = ChatSessionTurns.model_validate_json(turns.content).turns
            if last.episode_id is not None:
                break
            await asyncio.sleep(0.05)
        assert last.episode_id is not None
        episode = Episode.model_validate_json((await client.get(f"/api/episodes/{last.episode_id}")).content)
        assert (episode.project, episode.source.kind, episode.source.session) == ("shop", "chat", session_id)
        assert episode.source.position == 1
        assert "9417" in episode.summary
        usefulness = await client.get("/api/episodes/usefulness")
        assert UsefulnessSummary.model_validate_json(usefulness.content).used >= 1


async def test_silence_when_nothing_is_relevant(chat: Chat, upstream: Upstream) -> None:
    """A question that nothing bears on reaches the model as it was asked."""
    async with chat.client() as client:
        events = await turn(client, "Who painted the ceiling of the Sistine Chapel?", memory=True)
    recalled = ChatRecalled.model_validate_json(one(events, "recalled"))
    assert recalled.abstained
    assert recalled.episodes == ()
    assert b"anamnesis-memory" not in upstream.seen[-1].body


async def test_without_memory_nothing_is_recalled_or_remembered(chat: Chat, upstream: Upstream) -> None:
    """`memory: false` keeps a conversation out of the store of episodes in both directions."""
    async with chat.client() as client:
        events = await turn(client, QUESTION + " Please.", memory=False, project="quiet")
        assert [event.name for event in events] == ["session", "backend", "delta", "done"]
        assert not ChatDone.model_validate_json(one(events, "done")).turn.remember
        events = await turn(client, QUESTION + " Once more, with memory on and another ending.", project="quiet")
        session_id = json.loads(one(events, "session"))["session_id"]
        for _ in range(600):  # turns are remembered in order: when the later one is there, the earlier one never comes
            turns = (await client.get(f"/api/chat/sessions/{session_id}")).json()["turns"]
            if turns[0]["episode_id"]:
                break
            await asyncio.sleep(0.05)
        assert (await client.get("/api/episodes", params={"project": "quiet"})).json()["total"] == 1
    assert b"anamnesis-memory" not in upstream.seen[0].body


async def test_earlier_turns_are_shown_again(chat: Chat, upstream: Upstream) -> None:
    """The second turn of a session holds the first, without the memories that were put before it."""
    async with chat.client() as client:
        session_id = json.loads(one(await turn(client, QUESTION), "session"))["session_id"]
        await turn(client, "And who changed it?", session_id=session_id)
        sent = upstream.seen[-1].json()
        assert isinstance(sent, dict)
        messages = sent["messages"]
        assert isinstance(messages, list)
        assert [message["role"] for message in messages if isinstance(message, dict)] == ["user", "assistant", "user"]
        assert messages[0]["content"] == QUESTION  # type: ignore[index,call-overload]
        session = ChatSessionTurns.model_validate_json((await client.get(f"/api/chat/sessions/{session_id}")).content)
        assert [one.turn for one in session.turns] == [1, 2]


async def test_a_reader_who_leaves_stops_the_answer(chat: Chat, upstream: Upstream) -> None:
    """Closing the page ends the work at the backend, and what had been said is kept."""
    upstream.play(stream([chunk("Half of "), chunk("an answer")], then=Stall()))
    async with chat.client() as client:
        async with client.stream("POST", "/api/chat/stream", json={"message": QUESTION, "memory": False}) as answer:
            events = parse(answer.aiter_lines())
            session_id = json.loads((await anext(events)).data)["session_id"]
            async for event in events:
                if event.name == "delta" and "answer" in event.data:
                    break
        async with asyncio.timeout(15):
            await upstream.seen[-1].left.wait()
        stopped = await kept(client, session_id, TurnState.STOPPED)
    assert stopped.answered == "Half of an answer"
    assert upstream.seen[-1].left_during == "decode"


async def test_an_answer_that_breaks_off_is_kept_as_failed(chat: Chat, upstream: Upstream) -> None:
    """A backend that dies in the middle gives an error event, never an answer that looks whole."""
    upstream.play(stream([chunk("Half of an answer")], then=Cut()))
    async with chat.client() as client:
        events = await turn(client, QUESTION, memory=False)
        assert [event.name for event in events] == ["session", "backend", "delta", "error"]
        assert "broke off" in json.loads(one(events, "error"))["error"]["message"]
        session_id = json.loads(one(events, "session"))["session_id"]
        failed = await kept(client, session_id, TurnState.FAILED)
    assert failed.answered == "Half of an answer"
    assert failed.error


async def test_nobody_answers(chat: Chat, upstream: Upstream) -> None:
    """Without a stream the status says so, with every reason; what was asked is kept for another try."""
    upstream.play(respond(500, {"error": {"message": "no", "type": "server_error"}}))
    async with chat.client() as client:
        answer = await client.post("/api/chat", json={"message": QUESTION, "memory": False})
        assert answer.status_code == 502
        [attempt] = answer.json()["error"]["detail"]  # of those that are configured
        assert (attempt["backend"], "500" in attempt["error"]) == ("openai", True)
        page = (await client.get("/api/chat/sessions", params={"limit": 1})).json()
        failed = await kept(client, page["sessions"][0]["session_id"], TurnState.FAILED)
    assert failed.asked == QUESTION


async def test_the_twin_without_a_stream(chat: Chat, upstream: Upstream) -> None:
    """`POST /api/chat` gives the same turn, whole."""
    async with chat.client() as client:
        answer = ChatAnswer.model_validate_json((await client.post("/api/chat", json={"message": QUESTION})).content)
    assert answer.turn.answered == "It listens on port 9417; tests/test_upload.py waits for the port."
    assert answer.recalled.episodes
    assert answer.backend.attempts[-1].error is None
    assert len(upstream.seen) == 1


async def test_a_caller_of_the_twin_who_leaves(chat: Chat, upstream: Upstream) -> None:
    """Also without a stream, a caller who leaves ends the work at the backend, during its prefill."""
    upstream.play(stream([], then=Stall()))
    async with chat.client() as client:
        asking = asyncio.create_task(client.post("/api/chat", json={"message": QUESTION, "memory": False}))
        seen = await upstream.request()
        asking.cancel()
        async with asyncio.timeout(15):
            await seen.left.wait()
    assert seen.left_during == "prefill"


async def test_sessions_are_listed_renamed_searched_exported_and_deleted(chat: Chat, upstream: Upstream) -> None:
    """Conversations are a person's own: found again by their words, named, taken away as a file, deleted."""
    async with chat.client() as client:
        session_id = json.loads(one(await turn(client, "Tell me of zebrafish regeneration."), "session"))["session_id"]
        renamed = await client.patch(f"/api/chat/sessions/{session_id}/title", json={"title": "Fish"})
        session = ChatSession.model_validate_json(renamed.content)
        assert session.title == "Fish"
        assert [old.title for old in session.titles] == ["Tell me of zebrafish regeneration."]
        found = await client.get("/api/chat/sessions/search", params={"q": "ZEBRAFISH"})
        results = ChatSearch.model_validate_json(found.content).results
        assert [(one.session.session_id, one.turn) for one in results] == [(session_id, 1)]
        exported = await client.get(f"/api/chat/sessions/{session_id}/export", params={"format": "markdown"})
        assert "zebrafish" in exported.text
        assert (await client.delete(f"/api/chat/sessions/{session_id}/delete")).json() == {"changed": 1}
        assert (await client.get(f"/api/chat/sessions/{session_id}")).status_code == 404


async def test_an_unknown_session_is_refused(chat: Chat) -> None:
    """A turn of a session that is not there is 404 before anything is streamed."""
    async with chat.client() as client:
        answer = await client.post("/api/chat/stream", json={"message": "Hello there", "session_id": "gone"})
    assert answer.status_code == 404


@pytest.mark.slow
async def test_a_gateway_that_dies_loses_no_answer(chat: Chat, upstream: Upstream) -> None:
    """After kill -9 in the middle of an answer, the question and what was kept of the answer are there; and a turn that
    was whole but not yet remembered becomes an episode at the next start."""
    upstream.play(stream([chunk("First words")], then=Stall()))
    async with chat.client() as client:
        created = await client.post("/api/chat/sessions", json={"title": "Left behind"})
        behind = created.json()["session_id"]
        moment = "2026-10-02T09:12:00Z"
        begun = {"asked": QUESTION, "started_at": moment}
        (await client.post(f"/api/chat/sessions/{behind}/turns", json=begun)).raise_for_status()
        whole = {
            "turn": 1,
            "asked": QUESTION,
            "answered": "The answer of a gateway that died: port 9417, as tests/test_upload.py has it.",
            "state": "complete",
            "started_at": moment,
        }
        (await client.put(f"/api/chat/sessions/{behind}/turns/1", json=whole)).raise_for_status()
        async with client.stream("POST", "/api/chat/stream", json={"message": QUESTION, "memory": False}) as answer:
            events = parse(answer.aiter_lines())
            session_id = json.loads((await anext(events)).data)["session_id"]
            until = time.monotonic() + 60
            while time.monotonic() < until:  # kept while it grows
                turns = (await client.get(f"/api/chat/sessions/{session_id}")).json()["turns"]
                if turns[0]["answered"]:
                    break
                await asyncio.sleep(0.05)
            await asyncio.to_thread(chat.stack.kill, "gateway")
    await asyncio.to_thread(chat.stack.start, "gateway")
    async with chat.client() as client:
        turns = (await client.get(f"/api/chat/sessions/{session_id}")).json()["turns"]
        assert (turns[0]["asked"], turns[0]["answered"]) == (QUESTION, "First words")
        for _ in range(600):
            [left] = (await client.get(f"/api/chat/sessions/{behind}")).json()["turns"]
            if left["episode_id"]:
                break
            await asyncio.sleep(0.05)
        assert left["episode_id"]
