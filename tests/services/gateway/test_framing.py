"""How a connection to whoever answers ends, and that its end is nobody's error once the answer is over."""

import asyncio
import gc
import socket
import struct

import aiohttp

from services.gateway.framing import broken_framing_noticed

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


async def test_a_reset_after_an_answer_is_no_error() -> None:
    """A connection that its server resets between answers leaves nothing that asyncio would report as an error."""
    unheard: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    reset, gone = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
            await writer.drain()
            await asyncio.sleep(0.05)  # the head alone first: the body is awaited
            writer.write(b"ok")
            await writer.drain()
        await reset.wait()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        gone.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, aiohttp.ClientSession() as session:

        async def get() -> None:
            async with session.get(url) as response:
                with broken_framing_noticed(response):
                    assert await response.read() == b"ok"

        await get()
        await get()
        reset.set()
        await asyncio.wait_for(gone.wait(), 5)
        await asyncio.sleep(0.1)
        await get()  # drops the old connection
        gc.collect()
        await asyncio.sleep(0)
    assert unheard == []
