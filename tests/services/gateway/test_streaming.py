"""A response whose reader is watched: dropped when stuck, kept alive while silent, and never written for nobody."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from services.gateway.streaming import COMMENT, Watched, Wire

Write = Callable[[Wire], Awaitable[None]]


@contextlib.asynccontextmanager
async def served(write: Write, timeout: float = 30.0) -> AsyncIterator[int]:
    """An app that answers everything so; gives its port."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await Watched(write, timeout=timeout)(scope, receive, send)

    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done(), "the server did not start"
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, 10)


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 10)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return reader, writer


async def test_a_reader_that_takes_nothing_is_dropped() -> None:
    """A writer waits for its reader instead of buffering, and is ended when the reader takes nothing for too long."""
    ended = asyncio.Event()
    sent = 0

    async def write(wire: Wire) -> None:
        nonlocal sent
        try:
            await wire.start(200, ())
            while True:
                await wire.send(b"x" * 65_536)
                sent += 65_536
        finally:
            ended.set()

    async with served(write, timeout=0.5) as port:
        _, writer = await opened(port)
        await asyncio.wait_for(ended.wait(), 15)
        writer.close()
    assert sent < 64 << 20  # what the sockets of both sides hold, not an endless buffer


async def test_a_reader_that_leaves_ends_the_writing() -> None:
    """Whatever the writer waits for, it is cancelled when the reader goes, before the first byte too."""
    for begin in (False, True):
        waiting, ended = asyncio.Event(), asyncio.Event()

        async def write(
            wire: Wire, begin: bool = begin, waiting: asyncio.Event = waiting, ended: asyncio.Event = ended
        ) -> None:
            if begin:
                await wire.start(200, ())
            try:
                waiting.set()
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with served(write) as port:
            _, writer = await opened(port)
            await asyncio.wait_for(waiting.wait(), 15)
            writer.close()
            await asyncio.wait_for(ended.wait(), 15)


async def test_a_silent_answer_is_kept_alive() -> None:
    """Comments come while nothing else does, and stop with the answer."""
    enough = asyncio.Event()

    async def write(wire: Wire) -> None:
        await wire.start(200, ())
        await wire.send(b"data: 1\n\n")
        async with wire.kept_alive(every=0.02):
            await enough.wait()
        await wire.end(b"data: 2\n\n")

    async with served(write) as port:
        reader, writer = await opened(port)
        await reader.readuntil(b"data: 1\n\n")
        for _ in range(2):
            await asyncio.wait_for(reader.readuntil(COMMENT), 15)
        enough.set()
        rest = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 15)
        writer.close()
    assert rest.endswith(b"data: 2\n\n\r\n0\r\n\r\n")


async def test_what_goes_wrong_before_the_start_is_raised() -> None:
    """An error before the first byte comes out, so that it becomes a response of its own."""

    async def write(wire: Wire) -> None:
        raise KeyError("oops")

    async def receive() -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    async def send(message: object) -> None:
        raise AssertionError("nothing is sent")

    with pytest.raises(KeyError):
        await Watched(write)({"type": "http"}, receive, send)
