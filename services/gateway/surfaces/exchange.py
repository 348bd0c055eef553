"""One request of a surface from its recall to its last byte: headers at the first content, frames as they come.

Owns what happens between the two sides: what breaks off after the first content is told in the stream, and the work at
the backend ends with the response. Who leaves or reads too slowly is `streaming`'s to notice. Knows no dialect.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.errors import ErrorBody
from anamnesis.kit.errors import UpstreamFailed
from anamnesis.kit.logs import logger
from anamnesis.kit.sse import KEEP_ALIVE, SEND_TIMEOUT
from services.gateway.answering import Answer, Answering
from services.gateway.backends.base import BackendFailure, Finish, Piece, Started
from services.gateway.recall import MemoryScope
from services.gateway.streaming import Wire
from services.gateway.surfaces.asked import Asked, bounded
from services.gateway.surfaces.frames import content_of, encoded
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


class Exchange:
    """Asks for an answer when the server sends the response, and writes it."""

    def __init__(self, answering: Answering, asked: Asked, order: Order, telling: Telling, keep_alive: float) -> None:
        """`keep_alive`: seconds between comments on a silent stream."""
        self._answering = answering
        self._asked = asked
        self._order = order
        self._telling = telling
        self._keep_alive = keep_alive

    async def write(self, wire: Wire) -> None:
        """What fails before the first content is raised as one of our errors; from there on the status is said."""
        answer = await self._answering.begin(self._asked.ask, *self._order, whole=not self._asked.stream)
        self._telling.said(Started(answer.model))  # a backend may say it again, or not at all
        try:
            if self._asked.stream:
                await self._stream(answer, wire)
            else:
                await self._whole(answer, wire)
        finally:
            try:
                async with asyncio.timeout(CLOSE_WITHIN):
                    await answer.aclose()
            except TimeoutError:
                logger().warning("backend_does_not_stop", backend=answer.backend, seconds=CLOSE_WITHIN)

    async def _stream(self, answer: Answer, wire: Wire) -> None:
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        headers["x-accel-buffering"] = "no"
        await self._begin(wire, answer, headers)
        telling, native = self._telling, answer.dialect is self._telling.dialect
        ended = whole = False
        try:
            async with wire.kept_alive(self._keep_alive):
                async for piece in answer:
                    whole = whole or isinstance(piece.delta, Finish)
                    if native:
                        content = piece.raw
                        ended = ended or (bool(content) and telling.ends(content))
                    else:
                        content = b"".join(map(telling.frame, telling.said(piece.delta))) if piece.delta else b""
                    if content:
                        await wire.send(content)
            if not whole:
                raise BackendFailure(_CUT_OFF)
            last = b"" if ended else telling.ending()
        except (BackendFailure, ValueError) as failure:
            error = _broken_off(answer, failure)
            last = telling.failure(error.status, ErrorBody(code=error.code, message=error.message))
        await wire.end(last)

    async def _whole(self, answer: Answer, wire: Wire) -> None:
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
        await self._begin(wire, answer, {"content-type": "application/json", "content-length": str(len(content))})
        await wire.end(content)

    async def _begin(self, wire: Wire, answer: Answer, headers: Mapping[str, str]) -> None:
        said = {**headers, **told(answer, self._asked, native=answer.dialect is self._telling.dialect)}
        await wire.start(200, [(name.encode(), value.encode("latin-1", "replace")) for name, value in said.items()])


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
