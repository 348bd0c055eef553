"""Both clients against every kind of backend that is asked over HTTP: client, surface, failover, backend, upstream."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest

from anamnesis.contracts.base import JsonObject

from ..backends.stands import CALL, HTTP, PIXEL, HttpStand, Scene, http_backend
from ..upstreams import Upstream
from .house import CALLER_KEY, READER_KEY, REMEMBERED, House, house

WORDS = "Hello, Wörld"
QUESTION = "When do deploys go out?"


@pytest.fixture(params=sorted(HTTP))
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[HttpStand]:
    name: str = request.param
    async with Upstream() as upstream:
        dialect, takes = HTTP[name]
        yield HttpStand(name, upstream, dialect, http_backend(name, upstream.url), takes)


def of_openai(at: House, key: str = CALLER_KEY) -> Any:
    return openai.AsyncOpenAI(base_url=f"{at.url}/v1", api_key=key, max_retries=0, timeout=30)


def of_anthropic(at: House, key: str = CALLER_KEY) -> Any:
    return anthropic.AsyncAnthropic(base_url=at.url, api_key=key, max_retries=0, timeout=30)


async def test_words_through_openais_client(stand: HttpStand) -> None:
    """Streamed and whole, the words, the reason, the model and the usage are the upstream's."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    async with house(stand.backend) as at, of_openai(at) as api:
        stream = await api.chat.completions.create(
            model="auto", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        whole = await api.chat.completions.create(model="auto", messages=messages)
        asked = await stand.asked()
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == WORDS
    assert [one.choices[0].finish_reason for one in chunks if one.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == 7
    assert whole.choices[0].message.content == WORDS
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.completion_tokens == 7
    assert whole.model == chunks[0].model == "first-model"
    assert "Be brief." in asked.system
    assert REMEMBERED in asked.user
    assert QUESTION in asked.user
    assert REMEMBERED not in asked.system


async def test_words_through_anthropics_client(stand: HttpStand) -> None:
    """Streamed and whole, the words, the reason, the model and the usage are the upstream's."""
    asked: JsonObject = {
        "model": "claude-sonnet-9",
        "max_tokens": 100,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}],
        "metadata": {"user_id": "u"},
    }
    async with house(stand.backend) as at, of_anthropic(at) as api:
        async with api.messages.stream(**asked) as stream:
            streamed = await stream.get_final_message()
        whole = await api.messages.create(**asked)
        seen = await stand.asked()
    for message in (streamed, whole):
        assert "".join(block.text for block in message.content) == WORDS
        assert message.stop_reason == "end_turn"
        assert message.usage.output_tokens == 7
        assert message.model == "first-model"
    assert "Be brief." in str(seen.body)
    assert REMEMBERED in seen.user
    assert QUESTION in seen.user
    if stand.name == "claude":
        assert seen.body["system"] == asked["system"]
        assert seen.body["model"] == "claude-sonnet-9"


async def test_a_call_through_openais_client(stand: HttpStand) -> None:
    """A tool that the upstream calls is called at the client, or the backend says that it takes none."""
    function = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    stand.plays(Scene(calls=True))
    question = {"role": "user", "content": QUESTION}
    asked: Any = {"model": "auto", "tools": [{"type": "function", "function": function}]}
    async with house(stand.backend) as at, of_openai(at) as api:
        if "tools" not in stand.takes:
            with pytest.raises(openai.BadRequestError, match="takes no tools"):
                await api.chat.completions.create(**asked, messages=[question])
            return
        async with api.chat.completions.stream(**asked, messages=[question]) as stream:
            streamed = (await stream.get_final_completion()).choices[0]
        whole = (await api.chat.completions.create(**asked, messages=[question])).choices[0]
        for choice in (streamed, whole):
            assert choice.finish_reason == "tool_calls"
            (call,) = choice.message.tool_calls
            assert call.function.name == "weather"
            assert json.loads(call.function.arguments) == CALL
        stand.plays(Scene())
        result = {"role": "tool", "tool_call_id": call.id, "content": "It rains."}
        said = whole.message.model_dump(exclude_none=True)
        answer = await api.chat.completions.create(**asked, messages=[question, said, result])
        assert answer.choices[0].message.content == WORDS
        assert "It rains." in str((await stand.upstream.request(3)).json())


async def test_a_call_through_anthropics_client(stand: HttpStand) -> None:
    """A tool that the upstream calls is called at the client, or the backend says that it takes none."""
    tool = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    stand.plays(Scene(calls=True))
    question = {"role": "user", "content": QUESTION}
    asked: Any = {"model": "auto", "max_tokens": 100, "tools": [tool]}
    async with house(stand.backend) as at, of_anthropic(at) as api:
        if "tools" not in stand.takes:
            with pytest.raises(anthropic.BadRequestError, match="takes no tools"):
                await api.messages.create(**asked, messages=[question])
            return
        async with api.messages.stream(**asked, messages=[question]) as stream:
            streamed = await stream.get_final_message()
        whole = await api.messages.create(**asked, messages=[question])
        for message in (streamed, whole):
            assert message.stop_reason == "tool_use"
            assert [(block.name, block.input) for block in message.content if block.type == "tool_use"] == [
                ("weather", CALL)
            ]
        stand.plays(Scene())
        said = {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in whole.content]}
        result = {"type": "tool_result", "tool_use_id": whole.content[-1].id, "content": "It rains."}
        answer = await api.messages.create(**asked, messages=[question, said, {"role": "user", "content": [result]}])
        assert answer.content[0].text == WORDS
        assert "It rains." in str((await stand.upstream.request(3)).json())


async def test_a_picture_reaches_whoever_can_take_it(stand: HttpStand) -> None:
    """A picture of either dialect is the upstream's, or the backend says that it takes none."""
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    block = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    words = {"type": "text", "text": "What is this?"}
    theirs = [{"role": "user", "content": [words, image]}]
    others = [{"role": "user", "content": [words, block]}]
    async with house(stand.backend) as at, of_openai(at) as one, of_anthropic(at) as other:
        if "images" not in stand.takes:
            with pytest.raises(openai.BadRequestError, match="takes text alone"):
                await one.chat.completions.create(model="auto", messages=theirs)
            with pytest.raises(anthropic.BadRequestError, match="takes text alone"):
                await other.messages.create(model="auto", max_tokens=9, messages=others)
            return
        await one.chat.completions.create(model="auto", messages=theirs)
        await other.messages.create(model="auto", max_tokens=9, messages=others)
        for number in (1, 2):
            assert PIXEL in str((await stand.upstream.request(number)).json())


@pytest.mark.parametrize("ending", ["cut", "bad", "error"])
async def test_an_upstream_that_breaks_off(stand: HttpStand, ending: Any) -> None:
    """However it breaks off, streams end with an error after the words, and no whole answer is made of the half."""
    stand.plays(Scene(ending=ending))
    question = [{"role": "user", "content": QUESTION}]
    said: list[str] = []

    async def read(stream: Any) -> None:
        async for event in stream:
            said.append(str(event))

    async with house(stand.backend) as at, of_openai(at) as one, of_anthropic(at) as other:
        with pytest.raises(openai.APIError, match="broke off its answer"):
            await read(await one.chat.completions.create(model="auto", messages=question, stream=True))
        with pytest.raises(anthropic.APIError, match="broke off its answer"):
            await read(await other.messages.create(model="auto", max_tokens=9, messages=question, stream=True))
        with pytest.raises(openai.InternalServerError):
            await one.chat.completions.create(model="auto", messages=question)
    assert "Hel" in "".join(said)


async def test_a_client_that_leaves_closes_the_upstream(stand: HttpStand) -> None:
    """Before the first word and after it: the connection to the upstream is closed."""
    question = [{"role": "user", "content": QUESTION}]
    async with house(stand.backend) as at, of_openai(at) as api:
        stand.plays(Scene(ending="wordless"))
        asking = asyncio.create_task(api.chat.completions.create(model="auto", messages=question, stream=True))
        first = await stand.upstream.request(1)
        asking.cancel()
        await asyncio.wait_for(first.left.wait(), 15)
        stand.plays(Scene(ending="stall"))
        stream = await api.chat.completions.create(model="auto", messages=question, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        second = await stand.upstream.request(2)
        await asyncio.wait_for(second.left.wait(), 15)


async def test_a_key_for_reading_asks_no_model(stand: HttpStand) -> None:
    """A key of scope read embeds and counts, but asks no model: that costs its owner money."""
    messages = [{"role": "user", "content": QUESTION}]
    async with (
        house(stand.backend) as at,
        of_openai(at, READER_KEY) as one,
        of_anthropic(at, READER_KEY) as other,
    ):
        assert len((await one.embeddings.create(model="auto", input="x")).data) == 1
        assert (await other.messages.count_tokens(model="auto", messages=messages)).input_tokens > 5
        with pytest.raises(openai.PermissionDeniedError, match="scope 'write'"):
            await one.chat.completions.create(model="auto", messages=messages)
        with pytest.raises(anthropic.PermissionDeniedError, match="scope 'write'"):
            await other.messages.create(model="auto", max_tokens=9, messages=messages)
    assert not stand.upstream.seen
