"""Server-sent events: writing them with keep-alives and a send timeout, and reading them back."""

from collections.abc import AsyncIterable, AsyncIterator
from typing import NamedTuple

from pydantic import BaseModel
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse

KEEP_ALIVE = 15  # seconds between comments on a silent stream
SEND_TIMEOUT = 30  # seconds after which a reader that takes nothing is dropped
MAX_EVENT = 1 << 20  # bytes of one event that a reader accepts


class Event(NamedTuple):
    """One event: its name, its data (JSON or plain text), and the id to resume from."""

    name: str
    data: str
    id: str | None = None


def event(name: str, value: BaseModel, id: str | None = None) -> Event:
    """An event that carries a contract as JSON."""
    return Event(name, value.model_dump_json(), id)


def respond(events: AsyncIterable[Event]) -> EventSourceResponse:
    """A response that streams events; a reader that stops reading is dropped, never buffered for."""

    async def frames() -> AsyncIterator[ServerSentEvent]:
        async for one in events:
            yield ServerSentEvent(one.data, event=one.name, id=one.id)

    return EventSourceResponse(frames(), ping=KEEP_ALIVE, send_timeout=SEND_TIMEOUT)


async def parse(lines: AsyncIterable[str]) -> AsyncIterator[Event]:
    """Events from the lines of a response (without line ends), comments left out.

    An event cut off by the end of the stream is not delivered, as the standard asks. Raises
    `ValueError` for an event of more than 1 MiB.
    """
    name, id, data, size = "message", None, list[str](), 0
    async for line in lines:
        if not line:
            if data:
                yield Event(name, "\n".join(data), id)
            name, data, size = "message", [], 0
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        size += len(value)
        if size > MAX_EVENT:
            raise ValueError(f"an event is larger than {MAX_EVENT} bytes")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\x00" not in value:
            id = value
