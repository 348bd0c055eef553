"""One request of a surface from its recall to its last byte: headers at the first content, frames as they come.

Owns what happens between the two sides: a client that leaves ends the work at the backend at once, one that reads
too slowly is dropped, and what breaks off after the first content is told in the stream. Knows no dialect.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.errors import ErrorBody
from anamnesis.kit.errors import UpstreamFailed
from anamnesis.kit.logs import logger
from anamnesis.kit.sse import KEEP_ALIVE, SEND_TIMEOUT
from services.gateway.answering import Answer, Answering
from services.gateway.backends.base import BackendFailure, Finish, Piece, Started
from services.gateway.recall import MemoryScope
from services.gateway.surfaces.asked import Asked, bounded
from services.gateway.surfaces.frames import KEEP_ALIVE_FRAME, content_of, encoded
from services.gateway.surfaces.telling import Telling

MAX_IDS = 4096  # characters of the header that names what was recalled
CLOSE_WITHIN = 5.0  # seconds for a backend to end its work

_CUT_OFF = "the answer was cut off"


class Patience(NamedTuple):
    """Seconds: between comments on a silent stream, and for a client to take what is sent."""

    keep_alive: float = KEEP_ALIVE
    send: float = SEND_TIMEOUT


class Order(NamedTuple):
    """What an exchange needs beside the conversation."""

    names: Sequence[str]
    """Backends to ask, in order."""
    scope: MemoryScope | None
    """Where to recall from; none = recall nothing."""
    owner: str


class Exchange(Response):
    """A response that asks for an answer when the server sends it.

    What fails before the first content is raised as one of our errors; from there on the answer's status is said.
    """

    def __init__(self, answering: Answering, asked: Asked, order: Order, telling: Telling, patience: Patience) -> None:
        super().__init__()
        self._answering = answering
        self._asked = asked
        self._order = order
        self._telling = telling
        self._patience = patience
        self._open = False
        """The stream has begun and has not ended."""
        self._writing = asyncio.Lock()
        self._sent_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.create_task(self._exchange(send))
        watch = asyncio.create_task(_left(receive))
        try:
            while not work.done() and not watch.done():
                await asyncio.wait(
                    {work, watch}, timeout=self._patience.keep_alive, return_when=asyncio.FIRST_COMPLETED
                )
                if self._silent():
                    await self._send(send, KEEP_ALIVE_FRAME)
            if work.done():
                work.result()
        except _TooSlow:
            # Returning with the answer unfinished makes the server close the connection.
            logger().warning("slow_reader_dropped", seconds=self._patience.send)
        finally:
            for task in (work, watch):
                task.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    async def _exchange(self, send: Send) -> None:
        answer = await self._answering.begin(self._asked.ask, *self._order, whole=not self._asked.stream)
        self._telling.said(Started(answer.model))  # a backend may say it again, or not at all
        try:
            if self._asked.stream:
                await self._stream(answer, send)
            else:
                await self._whole(answer, send)
        finally:
            try:
                async with asyncio.timeout(CLOSE_WITHIN):
                    await answer.aclose()
            except TimeoutError:
                logger().warning("backend_does_not_stop", backend=answer.backend, seconds=CLOSE_WITHIN)

    async def _stream(self, answer: Answer, send: Send) -> None:
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        headers["x-accel-buffering"] = "no"
        await self._begin(send, answer, headers)
        telling, native = self._telling, answer.dialect is self._telling.dialect
        ended = whole = False
        try:
            async for piece in answer:
                whole = whole or isinstance(piece.delta, Finish)
                if native:
                    content = piece.raw
                    ended = ended or (bool(content) and telling.ends(content))
                else:
                    content = b"".join(map(telling.frame, telling.said(piece.delta))) if piece.delta else b""
                if content:
                    await self._send(send, content)
            if not whole:
                raise BackendFailure(_CUT_OFF)
            last = b"" if ended else telling.ending()
        except (BackendFailure, ValueError) as failure:
            error = _broken_off(answer, failure)
            last = telling.failure(error.status, ErrorBody(code=error.code, message=error.message))
        await self._send(send, last, more=False)

    async def _whole(self, answer: Answer, send: Send) -> None:
        telling, native = self._telling, answer.dialect is self._telling.dialect
        whole = False
        try:
            async for piece in answer:
                whole = whole or isinstance(piece.delta, Finish)
                for event in _native_events(piece) if native else telling.said(piece.delta) if piece.delta else ():
                    telling.gather(event)
            if not whole:
                raise BackendFailure(_CUT_OFF)
            content = encoded(telling.whole())
        except (BackendFailure, ValueError) as failure:
            raise _broken_off(answer, failure) from None
        await self._begin(send, answer, {"content-type": "application/json", "content-length": str(len(content))})
        await self._send(send, content, more=False)

    async def _begin(self, send: Send, answer: Answer, headers: Mapping[str, str]) -> None:
        said = {**headers, **told(answer, self._asked, native=answer.dialect is self._telling.dialect)}
        raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in said.items()]
        self._sent_at = time.monotonic()
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        self._open = self._asked.stream

    async def _send(self, send: Send, content: bytes, more: bool = True) -> None:
        try:
            async with asyncio.timeout(self._patience.send), self._writing:
                self._open = self._open and more
                await send({"type": "http.response.body", "body": content, "more_body": more})
        except TimeoutError:
            raise _TooSlow from None
        self._sent_at = time.monotonic()

    def _silent(self) -> bool:
        """Whether the stream is open and nothing has been said on it for a while."""
        quiet = time.monotonic() - self._sent_at >= self._patience.keep_alive * 0.9
        return self._open and not self._writing.locked() and quiet


class _TooSlow(Exception):
    """The client takes nothing of what is sent."""


def told(answer: Answer, asked: Asked, *, native: bool) -> dict[str, str]:
    """The headers that say who answers and what was recalled."""
    remembered = answer.remembered
    ids = ",".join(one.episode_id for one in remembered.episodes) if remembered is not None else ""
    if len(ids) > MAX_IDS:
        ids = ids[:MAX_IDS].rpartition(",")[0]
    state = "off"
    if remembered is not None:
        state = "failed" if remembered.error else "recalled" if remembered.episodes else "nothing-relevant"
    headers = {
        "x-anamnesis-backend": answer.backend,
        "x-anamnesis-endpoint": answer.endpoint,
        "x-anamnesis-model": answer.model,
        "x-anamnesis-attempts": str(len(answer.attempts)),
        "x-anamnesis-memory": state,
        "x-anamnesis-recalled": ids,
        "x-anamnesis-left-out": "" if native else bounded(asked.left_out),
    }
    return {name: "".join(filter(str.isprintable, value)) for name, value in headers.items() if value}


def _native_events(piece: Piece) -> list[JsonObject]:
    event = content_of(piece.raw) if piece.raw else None
    return [] if event is None else [event]


def _broken_off(answer: Answer, failure: BackendFailure | ValueError) -> UpstreamFailed:
    reason = failure.reason if isinstance(failure, BackendFailure) else str(failure)
    logged = failure.logged if isinstance(failure, BackendFailure) else "gave what its dialect does not know"
    logger().warning("answer_broken_off", backend=answer.backend, endpoint=answer.endpoint, reason=logged)
    return UpstreamFailed(f"{answer.backend} broke off its answer: {reason}")


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
