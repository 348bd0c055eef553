"""What is kept of a turn for the calls that follow it."""

import random

from pydantic import JsonValue

from anamnesis.kit.client import ServiceClient
from services.gateway.answering import Answering
from services.gateway.backends.base import Ask, Message, Text
from services.gateway.failover.chain import Chain
from services.gateway.failover.walk import Deadlines
from services.gateway.recall import MemoryScope, Recall
from services.gateway.reports import Reports
from services.gateway.usefulness import MAX_PROMPT
from tests.services.gateway.upstreams import Upstream, respond


async def test_a_long_question_is_not_kept_whole() -> None:
    """Of a pasted file no more stays than is measured with; its beginning and its end are there."""
    found: JsonValue = {"results": [], "abstained": True}
    async with Upstream(respond(200, found)) as memory, ServiceClient(memory.url, None) as client:
        chain = Chain([], Deadlines(1, 1, 1), chance=random.Random(7))
        recall = Recall(client, wait=10.0, top_k=5, tokens=1_000)
        answering = Answering(chain, recall, Reports(client))
        text = "Why does this fail?" + " log" * 500_000 + " It began on Monday."
        turn = await answering.remember(Ask((Message("user", (Text(text),)),)), MemoryScope(), "k1")
        [seen] = memory.seen
    assert len(turn.question) <= MAX_PROMPT + 1
    assert turn.question.startswith("Why does this fail?")
    assert turn.question.endswith("It began on Monday.")
    assert turn.remembered.error is None
    assert b"It began on Monday." in seen.body
