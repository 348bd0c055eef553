"""What happens, told to every open page by one stream: `GET /api/events`.

While at least one page listens, memory and ingest are asked how they stand, once for all listeners, and only what
has changed is told. Nobody listens: nobody is asked. A listener that falls behind is dropped and comes back by
itself; one whose key is no longer valid is let go within a minute.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sse_starlette.sse import AppStatus
from starlette.types import Message, Receive, Scope, Send

from anamnesis.kit.errors import AnamnesisError, Busy
from anamnesis.kit.logs import logger, where
from anamnesis.kit.sse import KEEP_ALIVE, SEND_TIMEOUT, Event, event

QUICK = 2.0  # seconds between two looks while something changes
CALM = 10.0  # seconds between two looks once nothing has changed for a while
QUICK_FOR = 20.0  # seconds for which a change keeps the looks quick
BEHIND = 16  # events that a listener may be behind
MAX_LISTENERS = 10_000
CHECK = 30.0  # seconds between two looks at a listener's key
EXIT = 0.5  # seconds between two looks whether the server is to stop
BEAT = Event("", "")
"""Stands for a comment that keeps a silent stream open."""

Ask = Callable[[], Awaitable[BaseModel]]
"""Asks a service how something stands."""
Allowed = Callable[[Request], Awaitable[bool]]
"""Whether the caller of this request may still come in."""


class Events:
    """Who listens, and what they were told last. Close it at the end."""

    def __init__(
        self, sources: Mapping[str, Ask], *, quick: float = QUICK, calm: float = CALM, beat: float = KEEP_ALIVE
    ) -> None:
        """`sources`: the name of each event and who is asked for it; `beat`: seconds of silence that are too long."""
        self._sources = sources
        self._quick = quick
        self._calm = calm
        self._beat = beat
        self._listeners: set[asyncio.Queue[Event | None]] = set()
        self._told: dict[str, Event] = {}
        self._poll: asyncio.Task[None] | None = None

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    async def listen(self, still: Callable[[], Awaitable[bool]], check: float = CHECK) -> AsyncGenerator[Event, None]:
        """What is known now, then every change, until the listener is dropped, leaves, or may no longer listen.

        `BEAT` comes where there was nothing else for a while.
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue(BEHIND)
        self._listeners.add(queue)
        if self._poll is None or self._poll.done():
            self._told.clear()  # it may be long ago
            self._poll = asyncio.create_task(self._keep_asking())
        try:
            for known in list(self._told.values()):
                yield known
            due = time.monotonic() + check
            while True:
                if time.monotonic() >= due:
                    if not await still():
                        return
                    due = time.monotonic() + check
                try:
                    async with asyncio.timeout(max(0.001, min(self._beat, due - time.monotonic()))):
                        told = await queue.get()
                except TimeoutError:
                    yield BEAT
                    continue
                if told is None:
                    return
                yield told
        finally:
            self._listeners.discard(queue)
            if not self._listeners and self._poll is not None:
                self._poll.cancel()

    async def close(self) -> None:
        """Let everybody go."""
        self._drop_all()
        if self._poll is not None:
            self._poll.cancel()
            with suppress(asyncio.CancelledError):
                await self._poll

    async def _keep_asking(self) -> None:
        """Ask in turn and tell what is new; what fails is told once it works again."""
        changed = time.monotonic()
        while True:
            for one in await asyncio.gather(*(self._look(name, ask) for name, ask in self._sources.items())):
                known = self._told.get(one.name) if one else None
                if one and (known is None or known.data != one.data):
                    self._told[one.name] = one
                    self._tell(one)
                    changed = time.monotonic()
            lively = time.monotonic() - changed < QUICK_FOR
            over = time.monotonic() + (self._quick if lively else self._calm)
            while time.monotonic() < over:
                if AppStatus.should_exit:  # the server waits for its streams before it closes what they stand on
                    return self._drop_all()
                await asyncio.sleep(min(EXIT, self._quick))

    async def _look(self, name: str, ask: Ask) -> Event | None:
        try:
            return event(name, await ask())
        except AnamnesisError:
            return None  # a service is away: pages see that by their own requests
        except Exception as error:  # noqa: BLE001 - the edge of a background task: one look that fails is not the end
            logger().error("look_failed", source=name, error=where(error))
            return None

    def _tell(self, told: Event) -> None:
        for queue in list(self._listeners):
            try:
                queue.put_nowait(told)
            except asyncio.QueueFull:
                self._drop(queue)

    def _drop_all(self) -> None:
        for queue in list(self._listeners):
            self._drop(queue)

    def _drop(self, queue: asyncio.Queue[Event | None]) -> None:
        """End a listener after what it has taken already; what it has not read is thrown away."""
        self._listeners.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)


class Stream(Response):
    """A listener's stream. One task and a queue, as there may be thousands that hear nothing for hours."""

    def __init__(self, events: AsyncGenerator[Event, None], patience: float = SEND_TIMEOUT) -> None:
        """`patience`: seconds that a reader may take nothing."""
        super().__init__(None, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._events = events
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        headers.append((b"content-type", b"text/event-stream; charset=utf-8"))

        async def write(message: Message) -> None:
            async with asyncio.timeout(self._patience):
                await send(message)

        try:
            await write({"type": "http.response.start", "status": 200, "headers": headers})
            await write(_piece(b": here\n\n"))
            async for one in self._events:
                if one is BEAT and await _left(receive):
                    break
                await write(_piece(b": beat\n\n" if one is BEAT else _frame(one)))
        except TimeoutError:
            return  # a reader that takes nothing: returning with the answer unfinished ends the connection
        finally:
            await self._events.aclose()
        await write({"type": "http.response.body", "body": b"", "more_body": False})


def _piece(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


def _frame(one: Event) -> bytes:
    """The data is JSON on one line."""
    return f"event: {one.name}\ndata: {one.data}\n\n".encode()


async def _left(receive: Receive) -> bool:
    """Whether the reader has closed the connection; asked now and then, which costs less than a task that waits."""
    try:
        async with asyncio.timeout(0.001):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


def routes(events: Events, allowed: Allowed) -> APIRouter:
    router = APIRouter(tags=["events"])

    @router.get(
        "/api/events",
        response_class=Response,
        responses={200: {"content": {"text/event-stream": {}}, "description": "The stream."}},
    )
    async def stream(request: Request) -> Response:
        """Server-sent events, each a contract as JSON, told when it changes.

        `stats` (EpisodeStats), `embedding` (EmbeddingConfig), `reembed` (ReembedStatus), `ingest` (IngestStatus),
        `crawler` (CrawlerStatus), `schedule` (ScheduleStatus), `summaries` (SummaryStatus),
        `latency` (how long searches took). Comments keep a silent stream open.
        """
        if events.listeners >= MAX_LISTENERS:
            raise Busy("too many pages are open; close some", retry_after=30)

        async def still() -> bool:
            return await allowed(request)

        return Stream(events.listen(still))

    return router
