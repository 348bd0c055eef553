"""What every backend promises, proved for each of them against a real small server, or a real small program."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from anamnesis.contracts.chat import StopReason, Usage
from services.gateway.backends.base import (
    Ask,
    BackendFailure,
    Finish,
    Image,
    Message,
    Started,
    Text,
    TextDelta,
    ToolBegin,
    ToolInput,
    ToolResult,
    ToolUse,
)

from .stands import CALL, PIXEL, PRIVATE, WEATHER, Ending, Scene, Stand, ask, deltas, picture, pieces, stand_for, text

BACKENDS = ("openai", "anamnesis-gpt", "claude", "ollama", "claude-cli")
SERVERS = BACKENDS[:-1]


@pytest.fixture
async def stand(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stand]:
    async with stand_for(request.param, tmp_path) as one:
        yield one


every = pytest.mark.parametrize("stand", BACKENDS, indirect=True)
every_server = pytest.mark.parametrize("stand", SERVERS, indirect=True)


async def failure(stand: Stand, asked: Ask | None = None) -> BackendFailure:
    """How an answer fails. No reason quotes the conversation, or takes more than a line."""
    with pytest.raises(BackendFailure) as raised:
        await pieces(stand.backend, asked or ask())
    reason = raised.value.reason
    assert PRIVATE not in reason
    assert "\n" not in reason
    assert len(reason) < 200
    return raised.value


@every
async def test_an_answer_streams(stand: Stand) -> None:
    """An answer begins with its model, goes on with its words as they come, and ends with its reason and its usage."""
    said = await deltas(stand.backend, ask())
    assert said == [
        Started("first-model"),
        TextDelta("Hel"),
        TextDelta("lo, "),
        TextDelta("Wörld"),
        Finish(StopReason.END, Usage(input_tokens=11, output_tokens=7)),
    ]


@every
async def test_a_word_is_told_before_the_next_is_said(stand: Stand) -> None:
    """The first word arrives although the upstream never says the next."""
    stand.plays(Scene(ending="stall"))
    answer = stand.backend.answer(ask(), stand.backend.endpoints[0])
    async with contextlib.aclosing(answer), asyncio.timeout(15):
        async for piece in answer:
            if piece.commits:
                break
    assert piece.delta == TextDelta("Hel")


@every
async def test_nothing_is_kept_of_the_frames(stand: Stand) -> None:
    """Where a request did not travel as it came, no frame does."""
    assert {piece.raw for piece in await pieces(stand.backend, ask())} == {b""}


@every
async def test_an_answer_that_is_long_enough(stand: Stand) -> None:
    """An answer that stopped at its bound says so."""
    stand.plays(Scene(limit=True))
    said = await deltas(stand.backend, ask())
    assert isinstance(said[-1], Finish)
    assert said[-1].reason is StopReason.LENGTH


@every
async def test_an_empty_answer_is_whole(stand: Stand) -> None:
    """An answer without words is an answer, not a failure: it commits nothing, and ends."""
    stand.plays(Scene(words=()))
    all_of_it = await pieces(stand.backend, ask())
    assert not any(piece.commits for piece in all_of_it)
    assert isinstance(all_of_it[-1].delta, Finish)


@every
async def test_the_default_model(stand: Stand) -> None:
    """Nobody said which model: the first that is listed is asked (the program is left to its own)."""
    await pieces(stand.backend, ask())
    assert (await stand.asked()).model == stand.default


@every
async def test_the_model_that_was_named(stand: Stand) -> None:
    """A model that the ask names is the one that is asked."""
    await pieces(stand.backend, replace(ask(), model="second-model"))
    assert (await stand.asked()).model == "second-model"


@every
async def test_the_models_that_there_are(stand: Stand) -> None:
    """The default model is listed first, and models that cannot talk are not."""
    models = await stand.backend.models()
    assert models[0] == (stand.default or "default")
    assert len(models) > 1
    assert "nomic-embed-text" not in models


@every
async def test_a_conversation_is_told_whole(stand: Stand) -> None:
    """The system's words stay the system's; what was said before goes along, in its order."""
    turns = (
        Message("user", (Text("first question"),)),
        Message("assistant", (Text("first answer"),)),
        Message("user", (Text("second question"),)),
    )
    await pieces(stand.backend, Ask(turns, system="Be brief."))
    asked = await stand.asked()
    assert asked.system == "Be brief."
    told = asked.user if stand.backend.name == "claude-cli" else json.dumps(asked.body)
    places = [told.index(words) for words in ("first question", "first answer", "second question")]
    assert places == sorted(places)


@every
async def test_memory_stands_before_the_users_words(stand: Stand) -> None:
    """What was recalled is said by the user, before the question that it belongs to, and never by the system."""
    turns = (
        Message("user", (Text("first question"),)),
        Message("assistant", (Text("first answer"),)),
        Message("user", (Text("second question"),)),
    )
    await pieces(stand.backend, Ask(turns, system="Be brief.", memory="[recalled: data]", memory_at=2))
    asked = await stand.asked()
    assert "recalled" not in asked.system
    assert asked.user.index("first question") < asked.user.index("[recalled: data]")
    assert asked.user.index("[recalled: data]") < asked.user.index("second question")


@every
async def test_tools(stand: Stand) -> None:
    """A call of a tool comes with its name and its input; who cannot take tools says so in a line."""
    with_tools = replace(ask(), tools=(WEATHER,))
    if "tools" not in stand.takes:
        assert "tools" in str(stand.backend.cannot(with_tools))
        return
    assert stand.backend.cannot(with_tools) is None
    stand.plays(Scene(words=("Let me see.",), calls=True))
    said = await deltas(stand.backend, with_tools)
    (begin,) = [delta for delta in said if isinstance(delta, ToolBegin)]
    assert begin.name == "weather"
    assert begin.id
    assert json.loads("".join(delta.json for delta in said if isinstance(delta, ToolInput))) == CALL
    assert isinstance(said[-1], Finish)
    assert said[-1].reason is StopReason.TOOL
    assert json.dumps(WEATHER.schema) in json.dumps((await stand.asked()).body)


@every
async def test_what_tools_gave_back(stand: Stand) -> None:
    """The result of a tool goes back with the call that it answers; who cannot take it says so in a line."""
    called = ToolUse("call_1", "weather", CALL)
    back = ToolResult("call_1", (Text("It rains."),))
    turns = (Message("user", (Text("Well?"),)), Message("assistant", (called,)), Message("user", (back,)))
    asked = Ask(turns, tools=(WEATHER,) if "tools" in stand.takes else ())
    if "tools" not in stand.takes:
        assert "tools" in str(stand.backend.cannot(asked))
        return
    assert stand.backend.cannot(asked) is None
    await pieces(stand.backend, asked)
    told = json.dumps((await stand.asked()).body)
    assert "It rains." in told
    assert told.index('"weather"') < told.index("It rains.")


@every
async def test_images(stand: Stand) -> None:
    """An image goes along as data; who cannot take one says so in a line."""
    if "images" not in stand.takes:
        assert "images" in str(stand.backend.cannot(picture()))
        return
    assert stand.backend.cannot(picture()) is None
    await pieces(stand.backend, picture())
    assert PIXEL in json.dumps((await stand.asked()).body)


@every
async def test_an_image_by_its_address(stand: Stand) -> None:
    """An image that is only named is either sent so or refused, never dropped."""
    named = Ask((Message("user", (Image(url="https://example.org/a.png"), Text("What is this?"))),))
    if stand.backend.cannot(named) is None:
        await pieces(stand.backend, named)
        assert "https://example.org/a.png" in json.dumps((await stand.asked()).body)


@every
async def test_what_can_be_set(stand: Stand) -> None:
    """Every parameter reaches the upstream, or is refused in a line; none is dropped."""
    for name, value in {"temperature": 0.25, "top_p": 0.75, "seed": 4711, "stop": ("enough",)}.items():
        asked = replace(ask(), **{name: value})  # type: ignore[arg-type]  # one of several fields
        if stand.backend.cannot(asked) is None:
            stand.plays(Scene())
            await pieces(stand.backend, asked)
            told = json.dumps((await stand.asked()).body)
            assert ("enough" if name == "stop" else str(value)) in told
            break


@every
@pytest.mark.parametrize("ending", ["cut", "bad", "huge"])
async def test_a_broken_answer_is_a_failure(stand: Stand, ending: Ending) -> None:
    """An answer that ends without its mark, holds a bad chunk or one without end, is a failure; others may be asked."""
    stand.plays(Scene(ending=ending))
    failed = await failure(stand)
    assert failed.moves_on
    assert {"cut": "before its answer was whole", "bad": "bad chunk", "huge": "1 MiB"}[ending] in failed.reason


@every
async def test_an_error_in_the_middle(stand: Stand) -> None:
    """An error that comes within the stream is a failure, after the words that came before it."""
    stand.plays(Scene(ending="error"))
    said = list[str]()

    async def read() -> None:
        async for piece in stand.backend.answer(ask(), stand.backend.endpoints[0]):
            if isinstance(piece.delta, TextDelta):
                said.append(piece.delta.text)

    with pytest.raises(BackendFailure) as raised:
        await read()
    assert said == ["Hel", "lo, ", "Wörld"]
    assert raised.value.reason.startswith("reported an error")
    assert PRIVATE not in raised.value.reason


@every
async def test_nobody_there(stand: Stand) -> None:
    """Where nobody answers, the failure says so, and others may be asked."""
    backend = await stand.away()
    with pytest.raises(BackendFailure) as raised:
        await pieces(backend, replace(ask(), model="some-model"))
    await backend.close()
    assert raised.value.moves_on
    assert raised.value.status is None
    assert any(words in raised.value.reason for words in ("connection refused", "cannot be run"))


@every
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503])
async def test_a_refusal(stand: Stand, status: int) -> None:
    """A refusal carries its status; a request that is bad wherever it goes is not tried elsewhere."""
    stand.refuses(status)
    failed = await failure(stand)
    assert failed.status == status
    assert failed.moves_on is (status not in (400, 401, 422))


@every_server
async def test_when_to_come_again(stand: Stand) -> None:
    """A refusal says when another try makes sense, where the upstream does."""
    stand.refuses(429)
    assert (await failure(stand)).retry_after == 7.0


@every
@pytest.mark.parametrize("ending", ["wordless", "stall"])
@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_leaving_ends_the_work(stand: Stand, ending: Ending, how: str) -> None:
    """Closing an answer, or cancelling who reads it, ends the work upstream: before the first word, and after it."""
    stand.plays(Scene(ending=ending))
    answer = stand.backend.answer(ask(), stand.backend.endpoints[0])
    reached = asyncio.Event()

    async def read() -> None:
        async with contextlib.aclosing(answer):
            async for piece in answer:
                if piece.commits:
                    reached.set()
                    if how == "closed":
                        return

    reading = asyncio.create_task(read())
    await stand.asked()
    if ending == "stall":
        await asyncio.wait_for(reached.wait(), 15)
    if ending == "wordless" or how == "cancelled":
        reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(reading, 15)
    await stand.left()


@every
async def test_many_at_once(stand: Stand) -> None:
    """Answers of several requests at once do not get mixed up."""
    answers = await asyncio.gather(*(deltas(stand.backend, ask(f"question {number}")) for number in range(3)))
    assert [text(said) for said in answers] == ["Hello, Wörld"] * 3
