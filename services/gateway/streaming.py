"""A response that is written while its reader is watched, for the hot path where answers are passed on frame by frame.

Kit's server-sent events (`kit.sse`) build events from contracts; here the frames are bytes that exist already, so they
go out as they are. What both have in common is kept: a reader that takes nothing for `SEND_TIMEOUT` seconds is dropped,
because the server would otherwise hold the answer's generator, and with it a slot of the backend, for as long as the
reader likes. Nothing is buffered here: the next frame is asked for when the last one was taken.
"""

import asyncio
import contextlib
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from anamnesis.kit.logs import logger
from anamnesis.kit.sse import KEEP_ALIVE, SEND_TIMEOUT
from services.gateway.leaving import left

COMMENT = b": keep-alive\n\n"

Header = tuple[bytes, bytes]


class Wire:
    """The reader's end of a response."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._last = 0.0
        self._waits_since: float | None = None

    async def start(self, status: int, headers: Sequence[Header]) -> None:
        """From here on the status is told, and failures can only be told within the body."""
        await self._pass({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def send(self, body: bytes) -> None:
        """Returns when the reader has room for more."""
        await self._pass({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, body: bytes = b"") -> None:
        await self._pass({"type": "http.response.body", "body": body, "more_body": False})

    @contextlib.asynccontextmanager
    async def kept_alive(self, every: float = KEEP_ALIVE) -> AsyncIterator[None]:
        """Comments between events, while the answer is silent; only once it has begun, since they commit the status."""
        task = asyncio.create_task(self._comment(every))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _comment(self, every: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            silent = loop.time() - self._last
            if silent >= every:
                await self.send(COMMENT)
            else:
                await asyncio.sleep(every - silent)

    def stuck_for(self) -> float:
        """Seconds since when the reader has taken nothing of what is being sent."""
        return 0.0 if self._waits_since is None else asyncio.get_running_loop().time() - self._waits_since

    async def _pass(self, message: Message) -> None:
        self._last = self._waits_since = asyncio.get_running_loop().time()
        await self._send(message)
        self._waits_since = None


class Watched(Response):
    """Runs `write`, and cancels it as soon as the reader leaves, whatever it waits for.

    Errors before `Wire.start` are raised, and become a response of their own. Only for requests whose body has been
    read: what is received after it can only be the disconnect.
    """

    def __init__(self, write: Callable[[Wire], Awaitable[None]], *, timeout: float = SEND_TIMEOUT) -> None:
        super().__init__()
        self._write = write
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = Wire(send)
        work = asyncio.ensure_future(self._write(wire))
        watch = asyncio.create_task(left(receive))
        try:
            # Looked at now and then, because a timer of its own for each frame would cost more than the frame.
            while not (await asyncio.wait({work, watch}, timeout=self._timeout / 4, return_when=FIRST_COMPLETED))[0]:
                if wire.stuck_for() >= self._timeout:
                    # Returning with the answer unfinished makes the server close the connection.
                    logger().warning("slow_reader_dropped", after=self._timeout)
                    return
            if work.done():
                work.result()
        finally:
            for task in (work, watch):
                task.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)
