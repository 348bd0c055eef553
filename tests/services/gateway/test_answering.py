"""An answer under way: it is closed by who has it, and by nobody else."""

import asyncio
import gc
from collections.abc import AsyncGenerator

from anamnesis.kit.client import ServiceClient
from services.gateway.answering import Answer, Answering
from services.gateway.backends.base import Piece, TextDelta
from services.gateway.failover.chain import Chain
from services.gateway.failover.walk import Deadlines
from services.gateway.recall import Recall
from services.gateway.reports import Reports

from .conftest import settings_for


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
