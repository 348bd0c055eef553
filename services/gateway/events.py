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
from pydantic import BaseModel
from sse_starlette.sse import EventSourceResponse

from anamnesis.kit.errors import AnamnesisError, Busy
from anamnesis.kit.logs import logger, where
from anamnesis.kit.sse import Event, event, respond

QUICK = 2.0  # seconds between two looks while something changes
CALM = 10.0  # seconds between two looks once nothing has changed for a while
QUICK_FOR = 20.0  # seconds for which a change keeps the looks quick
BEHIND = 16  # events that a listener may be behind
MAX_LISTENERS = 10_000
CHECK = 30.0  # seconds between two looks at a listener's key

Ask = Callable[[], Awaitable[BaseModel]]
"""Asks a service how something stands."""
Allowed = Callable[[Request], Awaitable[bool]]
"""Whether the caller of this request may still come in."""


class Events:
    """Who listens, and what they were told last. Close it at the end."""

    def __init__(self, sources: Mapping[str, Ask], *, quick: float = QUICK, calm: float = CALM) -> None:
        """`sources`: the name of each event and who is asked for it."""
        self._sources = sources
        self._quick = quick
        self._calm = calm
        self._listeners: set[asyncio.Queue[Event | None]] = set()
        self._told: dict[str, Event] = {}
        self._poll: asyncio.Task[None] | None = None

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    async def listen(self, still: Callable[[], Awaitable[bool]], check: float = CHECK) -> AsyncGenerator[Event, None]:
        """What is known now, then every change, until the listener is dropped, leaves, or may no longer listen."""
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
                    told = await asyncio.wait_for(queue.get(), max(0.001, due - time.monotonic()))
                except TimeoutError:
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
        for queue in list(self._listeners):
            self._drop(queue)
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
            await asyncio.sleep(self._quick if lively else self._calm)

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

    def _drop(self, queue: asyncio.Queue[Event | None]) -> None:
        """End a listener after what it has taken already; what it has not read is thrown away."""
        self._listeners.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)


def routes(events: Events, allowed: Allowed) -> APIRouter:
    router = APIRouter(tags=["events"])

    @router.get("/api/events", response_class=EventSourceResponse)
    async def stream(request: Request) -> EventSourceResponse:
        """Server-sent events, each a contract as JSON, told when it changes.

        `stats` (EpisodeStats), `embedding` (EmbeddingConfig), `reembed` (ReembedStatus), `ingest` (IngestStatus),
        `latency` (how long searches took). Comments keep a silent stream open.
        """
        if events.listeners >= MAX_LISTENERS:
            raise Busy("too many pages are open; close some", retry_after=30)

        async def still() -> bool:
            return await allowed(request)

        return respond(events.listen(still))

    return router
