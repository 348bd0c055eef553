"""The event stream: one look for all listeners, only what changed, nobody who may not listen or falls behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import BaseModel
from starlette.types import Message

from anamnesis.kit.errors import Unavailable
from anamnesis.kit.sse import Event
from services.gateway.events import BEAT, BEHIND, Events, Stream


class Number(BaseModel):
    value: int


class Source:
    """Gives numbers that a test sets, and counts how often it is asked."""

    def __init__(self) -> None:
        self.value = 0
        self.asked = 0
        self.away = False
        self.grows = False

    async def __call__(self) -> Number:
        self.asked += 1
        if self.away:
            raise Unavailable("away")
        self.value += self.grows
        return Number(value=self.value)


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


@asynccontextmanager
async def events(source: Source) -> AsyncIterator[Events]:
    told = Events({"number": source}, quick=0.01, calm=0.01, beat=0.02)
    try:
        yield told
    finally:
        await told.close()


async def following(stream: AsyncIterator[Event]) -> str:
    """The next event that is more than a beat."""
    while (one := await asyncio.wait_for(anext(stream), 10)) is BEAT:
        pass
    return one.data


async def test_a_listener_is_told_what_is_and_then_what_changes() -> None:
    """The present state first, then each change once."""
    source = Source()
    async with events(source) as told:
        stream = told.listen(yes)
        assert await following(stream) == '{"value":0}'
        source.value = 7
        assert await following(stream) == '{"value":7}'
        late = told.listen(yes)
        assert await following(late) == '{"value":7}'
        await stream.aclose()
        await late.aclose()


async def test_nobody_is_asked_while_nobody_listens() -> None:
    """Looks begin with the first listener and end with the last one."""
    source = Source()
    async with events(source) as told:
        await asyncio.sleep(0.05)
        assert source.asked == 0
        stream = told.listen(yes)
        await following(stream)
        await stream.aclose()
        await asyncio.sleep(0.02)
        asked = source.asked
        await asyncio.sleep(0.1)
        assert source.asked == asked


async def test_many_listeners_cost_one_look() -> None:
    """A change reaches all of them, and each look is one request."""
    source = Source()
    async with events(source) as told:
        streams = [told.listen(yes) for _ in range(200)]
        await asyncio.gather(*(following(one) for one in streams))
        asked = source.asked
        source.value = 3
        assert set(await asyncio.gather(*(following(one) for one in streams))) == {'{"value":3}'}
        assert source.asked - asked < 100
        for one in streams:
            await one.aclose()


async def test_one_that_falls_behind_is_dropped() -> None:
    """Its queue is bounded; the others hear everything."""
    source = Source()
    async with events(source) as told:
        slow, quick = told.listen(yes), told.listen(yes)
        await following(slow)
        await following(quick)
        source.grows = True
        heard = [await following(quick) for _ in range(3 * BEHIND)]
        assert len(set(heard)) == 3 * BEHIND
        assert [one.data async for one in slow] == []
        assert told.listeners == 1
        await quick.aclose()


async def test_one_whose_key_is_gone_is_let_go() -> None:
    """Validity is looked at again while a listener waits."""
    source = Source()
    async with events(source) as told:
        stream = told.listen(no, check=0.05)
        assert await following(stream) == '{"value":0}'
        assert [one async for one in stream if one is not BEAT] == []


async def test_a_busy_stream_is_looked_at_too() -> None:
    """A key that is gone ends a stream on which something happens all the time."""
    source = Source()
    source.grows = True
    async with events(source) as told:
        stream = told.listen(no, check=0.1)
        async with asyncio.timeout(10):
            async for _ in stream:
                pass


async def test_a_service_that_is_away_is_asked_again() -> None:
    """Nothing is told meanwhile, and the stream goes on."""
    source = Source()
    source.away = True
    async with events(source) as told:
        stream = told.listen(yes)
        waiting = asyncio.create_task(following(stream))
        await asyncio.sleep(0.05)
        source.away = False
        assert await waiting == '{"value":0}'
        await stream.aclose()


async def test_a_reader_that_takes_nothing_is_dropped() -> None:
    """It is waited for once, for a while; then it is no listener any more."""
    source = Source()
    async with events(source) as told:

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body" and message["body"].startswith(b"event"):
                assert told.listeners == 1
                await asyncio.Event().wait()

        await asyncio.wait_for(Stream(told.listen(yes), patience=0.05)({"type": "http"}, receive, send), 10)
        assert told.listeners == 0


async def test_one_who_leaves_is_noticed_in_silence() -> None:
    """By the next beat, and then nobody is asked on its behalf."""
    source = Source()
    left = asyncio.Event()
    async with events(source) as told:
        sent: list[bytes] = []

        async def receive() -> Message:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message.get("body", b""))
            if sent[-1].startswith(b": beat"):
                left.set()

        await asyncio.wait_for(Stream(told.listen(yes))({"type": "http"}, receive, send), 10)
        assert told.listeners == 0
        assert b'event: number\ndata: {"value":0}\n\n' in sent
