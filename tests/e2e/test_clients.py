"""OpenAI's and Anthropic's own clients against real services: what is remembered, who answers, what it was of use."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import anthropic
import numpy as np
import openai
import pytest

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.embedding import EmbeddingConfig
from anamnesis.contracts.usefulness import UsefulnessSummary
from tests.e2e.conftest import KEY, Stack, running
from tests.ports import free_ports
from tests.services.gateway.upstreams import Upstream, respond, sse, stream

FACT = {
    "episode_id": "ep_upload",
    "instance": "laptop",
    "project": "shop",
    "summary": "Asked: Why does the upload test fail? Outcome: The storage server listens on port 9417 only after four "
    "seconds; tests/test_upload.py now waits for the port instead of sleeping.",
}
QUESTION = "Why did the upload test fail, and on which port does the storage server listen?"
ANSWER = "It listens on port 9417; tests/test_upload.py waits for the port."
IN_SHOP, ELSEWHERE = {"X-Anamnesis-Project": "shop"}, {"X-Anamnesis-Project": "another"}


class Place(NamedTuple):
    stack: Stack
    port: int
    """Where the backend is expected."""

    def openai(self, key: str = KEY) -> Any:
        return openai.AsyncOpenAI(base_url=f"{self.stack.url()}/v1", api_key=key, max_retries=0, timeout=60)

    def anthropic(self, key: str = KEY) -> Any:
        return anthropic.AsyncAnthropic(base_url=self.stack.url(), auth_token=key, max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    [port] = free_ports(1)
    extra = {"ANAMNESIS_OPENAI_URLS": f"http://127.0.0.1:{port}/v1", "ANAMNESIS_OPENAI_MODEL": "scripted"}
    with running(tmp_path_factory.mktemp("clients"), "memory", "gateway", extra=extra) as stack:
        with stack.client() as client:
            client.post("/api/episodes", json=FACT).raise_for_status()
        yield Place(stack, port)


@pytest.fixture
async def upstream(place: Place) -> AsyncIterator[Upstream]:
    choice: JsonObject = {"index": 0, "delta": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
    said = sse({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted-1", "choices": [choice]})
    server = Upstream(stream([said, b"data: [DONE]\n\n"]))
    server.route("GET /v1/models", respond(200, {"object": "list", "data": [{"id": "scripted"}]}))
    await server.start(place.port)
    yield server
    await server.stop()


async def test_an_existing_client_gains_memory(place: Place, upstream: Upstream) -> None:
    """Only the address and the key change: the question reaches the model with what was found out long ago."""
    question = [{"role": "user", "content": QUESTION}]
    async with place.openai() as api:
        create = api.chat.completions.with_raw_response.create
        raw = await create(model="gpt-whatever", messages=question, extra_headers=IN_SHOP)
        other = await create(model="gpt-whatever", messages=question, extra_headers=ELSEWHERE)
    assert raw.parse().choices[0].message.content == ANSWER
    assert raw.headers["x-anamnesis-recalled"] == "ep_upload"
    assert other.headers["x-anamnesis-memory"] == "nothing-relevant"
    first, second = (await upstream.request(1)).json(), (await upstream.request(2)).json()
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert first["model"] == "scripted"
    assert "9417" in str(first["messages"])
    assert second["messages"] == question


async def test_a_client_made_for_claude_gains_it_too(place: Place, upstream: Upstream) -> None:
    """Messages of Anthropic's dialect, with a bearer key and a name of Claude's, are answered by who there is."""
    asked: Any = {"model": "claude-sonnet-9", "max_tokens": 99, "messages": [{"role": "user", "content": QUESTION}]}
    async with place.anthropic() as api:
        async with api.messages.stream(**asked, extra_headers=IN_SHOP) as answer:
            words = "".join([text async for text in answer.text_stream])
            recalled = answer.response.headers["x-anamnesis-recalled"]
        counted = await api.messages.count_tokens(model="claude-sonnet-9", messages=asked["messages"])
    assert words == ANSWER
    assert recalled == "ep_upload"
    assert counted.input_tokens > 10
    assert "9417" in str((await upstream.request()).json())


async def test_what_was_of_use_is_counted(place: Place, upstream: Upstream) -> None:
    """An answer that draws on an episode counts for it, whichever client it was given to."""
    async with place.openai() as api:
        question = [{"role": "user", "content": f"{QUESTION} Once more, please."}]
        await api.chat.completions.create(model="auto", messages=question, extra_headers=IN_SHOP)
    with place.stack.client() as client:
        for _ in range(300):
            counts = UsefulnessSummary.model_validate_json(client.get("/api/episodes/usefulness").content)
            if counts.used:
                break
            await asyncio.sleep(0.1)  # it is told in the background
    assert counts.used >= 1


async def test_models_and_embeddings(place: Place, upstream: Upstream) -> None:
    """The backend's model and memory's are listed, and memory's embeds texts so that like is near like."""
    async with place.openai() as api:
        listed = [one.id async for one in api.models.list()]
        with place.stack.client() as client:
            own = EmbeddingConfig.model_validate_json(client.get("/api/embedding/config").content).active.name
        assert listed == ["openai:scripted", own]
        answer = await api.embeddings.create(model=own, input=["the flaky upload test", "a failing upload", "Peru"])
        flaky, failing, peru = (np.array(one.embedding) for one in answer.data)
    assert flaky @ failing > flaky @ peru + 0.2
    assert abs(float(np.linalg.norm(peru)) - 1) < 1e-5
