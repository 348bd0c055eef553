"""One turn over all calls that answer it: when memory is asked, for whom it is kept, what is reported of its use."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import NamedTuple

import pytest
from aiohttp import web

from anamnesis.contracts.chat import StopReason
from anamnesis.contracts.usefulness import Verdict
from anamnesis.kit.client import ServiceClient
from services.gateway.answering import Answer, Answering, asked_at
from services.gateway.backends.base import (
    Ask,
    BackendFailure,
    Finish,
    Message,
    Piece,
    Text,
    TextDelta,
    ToolBegin,
    ToolInput,
    ToolResult,
    ToolUse,
)
from services.gateway.failover.chain import Chain
from services.gateway.failover.walk import Deadlines
from services.gateway.recall import MemoryScope, Recall
from services.gateway.reports import Reports

from .conftest import settings_for
from .remembering import Remembering, episode, remembering
from .surfaces.house import Scripted

FACT = "The storage server listens on port 9417, and wait_for_port in tests/test_upload.py waits for it."
OTHER = "Sourdough rests in the larder overnight, beside the port and the storage jars."
QUESTION = "port of the storage server"
SAYS = [Piece(TextDelta("It listens on port 9417: wait_for_port waits for it.")), Piece(Finish(StopReason.END))]
CALLS = [
    Piece(ToolBegin("t1", "read")),
    Piece(ToolInput('{"path": "tests/test_upload.py", "why": "wait_for_port, port 9417"}')),
]
SCOPE = MemoryScope("shop", floor=0)


class Parts(NamedTuple):
    memory: Remembering
    backend: Scripted
    answering: Answering
    reports: Reports

    async def turn(self, ask: Ask, owner: str = "anna", scope: MemoryScope | None = SCOPE) -> Answer:
        """One call, read to its end."""
        answer = await self.answering.begin(ask, ["scripted"], scope, owner)
        async for _ in answer:
            pass
        return answer

    async def verdicts(self) -> dict[str, list[Verdict]]:
        """All that was reported until now."""
        await self.reports.close()
        return self.memory.verdicts


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    async with remembering() as memory:
        memory.keep(episode(1, FACT), episode(2, OTHER))
        client = ServiceClient(memory.url, None)
        backend = Scripted("scripted", SAYS)
        reports = Reports(client)
        chain = Chain([backend], Deadlines(first=20, idle=20, total=60))
        async with client:
            recall = Recall(client, wait=5, top_k=5, tokens=1_000)
            yield Parts(memory, backend, Answering(chain, recall, reports, kept=2), reports)
            await reports.close()


def asks(*messages: Message) -> Ask:
    return Ask(messages)


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def said(text: str) -> Message:
    return Message("assistant", (Text(text),))


def after_tools(rounds: int) -> Ask:
    """The question, and so many calls of a tool with what they gave."""
    messages = [user(QUESTION)]
    for number in range(rounds):
        messages.append(Message("assistant", (ToolUse(f"t{number}", "read", {}),)))
        messages.append(Message("user", (ToolResult(f"t{number}", (Text("a file"),)),)))
    return asks(*messages)


@pytest.mark.parametrize("end", [StopReason.TOOL, StopReason.END], ids=["tools", "as any other"])
async def test_tool_calls_belong_to_the_turn(parts: Parts, end: StopReason) -> None:
    """Memory is asked once, the model sees the same block at the same place, and each episode is reported once."""
    parts.backend.script = [*CALLS, Piece(Finish(end))]
    await parts.turn(after_tools(0))
    await parts.turn(after_tools(1))
    assert await parts.verdicts() == {}, "the turn goes on: nothing is known of it yet"
    parts.backend.script = [Piece(TextDelta("Done.")), Piece(Finish(StopReason.END))]
    last = await parts.turn(after_tools(2))
    assert len(parts.memory.searches) == 1
    assert len({ask.memory for ask in parts.backend.asked}) == 1
    assert [ask.memory_at for ask in parts.backend.asked] == [0, 0, 0]
    assert last.used == ("ep_1",), "what a tool was called with counts as use"
    assert await parts.verdicts() == {"ep_1": [Verdict.USED], "ep_2": [Verdict.UNUSED]}


async def test_words_of_a_user_ask_anew(parts: Parts) -> None:
    """The same words in a new conversation do not bring back what was forgotten meanwhile, and find what is new."""
    await parts.turn(asks(user(QUESTION)))
    assert FACT in parts.backend.asked[-1].memory
    del parts.memory.episodes["ep_1"]
    parts.memory.keep(episode(3, "The storage server has moved to port 9500."))
    await parts.turn(asks(user(QUESTION)))
    assert FACT not in parts.backend.asked[-1].memory
    assert "9500" in parts.backend.asked[-1].memory


async def test_what_was_recalled_for_one_is_not_shown_to_another(parts: Parts) -> None:
    """Another key, or another scope, with the very same conversation asks memory itself."""
    await parts.turn(after_tools(1), "anna")
    await parts.turn(after_tools(2), "anna")
    assert len(parts.memory.searches) == 1
    await parts.turn(after_tools(2), "ben")
    await parts.turn(after_tools(2), "anna", SCOPE._replace(project="other"))
    assert len(parts.memory.searches) == 3


async def test_what_is_kept_is_bounded(parts: Parts) -> None:
    """The turn that went on longest ago makes room for a new one, and is recalled again when it goes on."""

    def conversation(name: str) -> Ask:
        return replace(after_tools(1), messages=(user(f"{name}: {QUESTION}"), *after_tools(1).messages[1:]))

    for name in ("one", "two", "one", "three", "one", "two"):
        await parts.turn(conversation(name))
    assert [one.query_text.split(":")[0] for one in parts.memory.searches] == ["one", "two", "three", "two"]


async def test_a_memory_that_failed_is_asked_again(parts: Parts) -> None:
    """A failed recall is not kept: the next call of the turn tries once more."""
    answer, parts.memory.answer = parts.memory.answer, broken
    first = await parts.turn(after_tools(1))
    assert first.remembered is not None
    assert first.remembered.error
    parts.memory.answer = answer
    await parts.turn(after_tools(2))
    assert FACT in parts.backend.asked[-1].memory


async def broken(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


async def test_an_answer_that_breaks_off_reports_nothing(parts: Parts) -> None:
    """Whether it would have used a memory nobody knows."""
    parts.backend.script = [SAYS[0], BackendFailure("broke off")]
    answer = await parts.answering.begin(asks(user(QUESTION)), ["scripted"], SCOPE, "anna")
    with pytest.raises(BackendFailure):
        async for _ in answer:
            pass
    await answer.aclose()
    assert answer.used == ("ep_1",)
    assert await parts.verdicts() == {}


async def test_without_a_scope_nothing_is_recalled(parts: Parts) -> None:
    """Memory is not asked at all."""
    answer = await parts.turn(asks(user(QUESTION)), scope=None)
    assert answer.remembered is None
    assert parts.memory.searches == []
    assert parts.backend.asked[0].memory == ""


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((user("a"),), 0),
        ((user("a"), said("b"), user("c")), 2),
        (after_tools(2).messages, 0),
        ((user("a"), said("b"), user("<system-reminder>c</system-reminder>")), 0),
        ((said("a"),), -1),
        ((Message("user", (ToolResult("t", (Text("x"),)), Text("and now?"))),), 0),
    ],
)
def test_where_the_users_last_words_are(messages: tuple[Message, ...], expected: int) -> None:
    """What tools gave back, and what a program adds by itself, are no words of the user."""
    assert asked_at(messages) == expected


async def test_one_who_leaves_between_two_pieces_closes_it_once() -> None:
    """While a backend takes its time to end, nothing else ends it, and nothing goes wrong in the background."""
    closing, closed = asyncio.Event(), asyncio.Event()
    wrong: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(str(context)))

    async def pieces() -> AsyncGenerator[Piece, None]:
        try:
            yield Piece(TextDelta("Hello"))
        finally:
            closing.set()
            await closed.wait()

    memory = ServiceClient("http://127.0.0.1:9", settings_for("http://127.0.0.1:9").service_key)
    recall = Recall(memory, wait=1, top_k=1, tokens=100)
    answering = Answering(Chain([], Deadlines(1, 1, 1)), recall, Reports(memory))
    answer = Answer(None, "openai", "here", "m", None, (), pieces(), None, answering)
    async for _ in answer:
        break
    ending = asyncio.create_task(answer.aclose())
    await closing.wait()
    gc.collect()
    for _ in range(10):  # what was left in the background comes to its turn
        await asyncio.sleep(0)
    closed.set()
    await ending
    gc.collect()
    assert answer.text == "Hello"
    assert wrong == []
