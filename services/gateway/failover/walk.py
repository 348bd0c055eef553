"""One walk over endpoints until somebody has said something; and the rest of that answer, watched to its end.

The line is the first content (`Piece.commits`). Before it the next one is asked, under one total deadline; after it
nobody else ever is. What came before the content is held back and given out with it. Where nothing is given out until
the answer is whole (`whole=True`, for an answer that is not streamed), the end of the answer is the line instead.

Every try tells its endpoint's breaker how it ended exactly once, in passing: no ending waits for bookkeeping.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from anamnesis.contracts.chat import Attempt, StopReason
from anamnesis.kit.logs import logger
from services.gateway.backends.base import (
    BackendFailure,
    Dialect,
    Endpoint,
    Finish,
    Piece,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolInput,
)
from services.gateway.failover.patience import Patience
from services.gateway.failover.pool import Lease, Pool

CLOSE = 2.0  # seconds that a backend may take to let go of an answer
TAIL = 1.0  # seconds for what follows the end of an answer: the frames after it, the end of the connection
MAX_HELD = 10_000  # pieces before the first content
MAX_HELD_BYTES = 4 << 20
MAX_WHOLE = 200_000  # pieces of an answer that is not streamed
MAX_WHOLE_BYTES = 16 << 20
MAX_STREAMED = 1_000_000  # pieces of an answer that is streamed
MAX_STREAMED_BYTES = 32 << 20
BROKE_OFF = "broke off before its answer was whole"
BACKOFF = (0.05, 0.15)  # seconds before the same endpoint is asked again
PASSING = frozenset({None, 502, 503, 504})
"""Statuses of failures that a second try of the same endpoint may not meet: broken connections, restarts behind it."""


class Deadlines(NamedTuple):
    """Seconds: until the first content, per try; between two pieces; and for all tries and the answer together."""

    first: float
    idle: float
    total: float


@dataclass(frozen=True)
class Stop:
    """A backend on the way."""

    backend: str
    pool: Pool
    answer: Callable[[Endpoint], AsyncGenerator[Piece, None]]
    model: str = ""
    """The model that is asked for, where one is."""
    dialect: Dialect | None = None


@dataclass(frozen=True)
class Begun:
    """An answer whose first content is at hand. Whoever has it must iterate `pieces` to the end, or close them."""

    backend: str
    endpoint: str
    model: str
    """As the backend says, else as it was asked for; empty = neither said."""
    dialect: Dialect | None
    attempts: tuple[Attempt, ...]
    """All tries and all that were passed over; the last one is this answer's."""
    tries: int
    """Endpoints that were really asked, this one included."""
    pieces: AsyncGenerator[Piece, None]
    """The held-back pieces, then the rest. Raises `BackendFailure` where the answer breaks off, stalls, or ends
    without `Finish`; `aclose` ends the work at the backend at once."""


class Kind(StrEnum):
    """What sort of failure a try was."""

    BAD = "bad"
    BUSY = "busy"
    LATE = "late"
    AWAY = "away"
    BROKEN = "broken"


class Failed(NamedTuple):
    backend: str
    failure: BackendFailure
    kind: Kind


class NobodyAnswered(Exception):
    """Every try failed, or one failed in a way that everybody would, or the time was over."""

    def __init__(self, attempts: Sequence[Attempt], failed: Sequence[Failed], *, expired: bool) -> None:
        super().__init__("nobody answered")
        self.attempts = tuple(attempts)
        self.failed = tuple(failed)
        self.expired = expired
        """The total deadline ended the walk."""


class _Stalled(BackendFailure):
    """Time ran out at this endpoint. Not `fair`: earlier tries had left it too little to judge it by."""

    def __init__(self, reason: str, *, fair: bool) -> None:
        super().__init__(reason)
        self.fair = fair


class Walk:
    """The way over some stops. Used once."""

    def __init__(
        self,
        stops: Sequence[Stop],
        deadlines: Deadlines,
        *,
        chance: random.Random,
        attempts: Sequence[Attempt] = (),
        whole: bool = False,
    ) -> None:
        """`attempts`: who was passed over before."""
        self._stops = stops
        self._idle = deadlines.idle
        self._first = min(deadlines.first, deadlines.total)
        self._ends = asyncio.get_running_loop().time() + deadlines.total
        self._total = deadlines.total
        self._chance = chance
        self._attempts = list(attempts)
        self._whole = whole
        self._failed: list[Failed] = []

    async def begin(self) -> Begun:
        """Raises `NobodyAnswered`. Cancelling it ends the work at the backend that is being asked."""
        asked: list[tuple[Stop, str]] = []
        for stop in self._stops:
            passed: set[str] = set()
            while (lease := stop.pool.take(passed)) is not None:
                asked.append((stop, lease.endpoint.name))
                passed.add(lease.endpoint.name)
                if (begun := await self._try(stop, lease)) is not None:
                    return begun
        if (left := self._left_alone(asked)) is not None:
            stop, name = left
            asked.append(left)
            if (begun := await self._try(stop, stop.pool.insist(name))) is not None:
                return begun
        if len(asked) == 1 and self._failed[0].failure.status in PASSING and self._failed[0].kind is not Kind.LATE:
            stop, name = asked[0]
            await asyncio.sleep(min(self._chance.uniform(*BACKOFF), max(0.0, self._remaining())))
            if (begun := await self._try(stop, stop.pool.insist(name))) is not None:
                return begun
        raise NobodyAnswered(self._attempts, self._failed, expired=False)

    def _left_alone(self, asked: Sequence[tuple[Stop, str]]) -> tuple[Stop, str] | None:
        """Of the endpoints whose breakers are open, the one that is let in first; asked when all else has failed."""
        soonest: tuple[float, Stop, str] | None = None
        for stop in self._stops:
            found = stop.pool.soonest({name for other, name in asked if other is stop})
            if found is not None and (soonest is None or found[0] < soonest[0]):
                soonest = (found[0], stop, found[1])
        return None if soonest is None else soonest[1:]

    async def _try(self, stop: Stop, lease: Lease) -> Begun | None:
        """One endpoint's answer, or none where the next may be asked."""
        endpoint = lease.endpoint
        pieces: AsyncGenerator[Piece, None] | None = None
        patience = Patience()
        begun = False
        try:
            if self._remaining() <= 0:
                raise NobodyAnswered(self._attempts, self._failed, expired=True)
            pieces = stop.answer(endpoint)
            held, finished = await self._hold_back(pieces, patience)
            model = next((piece.delta.model for piece in held if isinstance(piece.delta, Started)), stop.model)
            self._attempts.append(Attempt(backend=stop.backend, endpoint=endpoint.name))
            if finished:
                lease.succeeded()
            rest = _rest(pieces, patience, held, finished, lease, self._idle, self._ends, self._total)
            await anext(rest)  # from here on closing it reaches its `finally`, also when nobody has taken a piece
            begun = True
            return Begun(
                backend=stop.backend,
                endpoint=endpoint.name,
                model=model,
                dialect=stop.dialect,
                attempts=tuple(self._attempts),
                tries=len(self._failed) + 1,
                pieces=rest,
            )
        except BackendFailure as failure:
            lost = isinstance(failure, _Stalled) and self._remaining() <= 0
            if not isinstance(failure, _Stalled) or failure.fair:
                lease.failed(failure)
            self._note(stop, endpoint, failure)
            if lost or not failure.moves_on:
                raise NobodyAnswered(self._attempts, self._failed, expired=lost) from None
            return None
        finally:
            if not begun:
                patience.close()
                lease.let_go()
                if pieces is not None:
                    await _close(pieces)

    async def _hold_back(self, pieces: AsyncGenerator[Piece, None], patience: Patience) -> tuple[list[Piece], bool]:
        """Pieces up to the line, and whether the end of the answer is among them."""
        held: list[Piece] = []
        size, content = 0, False
        until = min(asyncio.get_running_loop().time() + self._first, self._ends)
        fair = self._remaining() >= 0.9 * self._first
        while True:
            try:
                piece = await patience.wait(anext(pieces), until)
            except StopAsyncIteration:
                raise BackendFailure(BROKE_OFF if content else "ended its answer without a word") from None
            except TimeoutError:
                late = f"no piece within {self._idle:g} s" if content else f"no content within {self._first:g} s"
                over = f"out of time after {self._total:g} s in all"
                raise _Stalled(over if self._remaining() <= 0 else late, fair=fair) from None
            held.append(piece)
            size += _weight(piece)
            content = content or piece.commits
            if isinstance(piece.delta, Finish):
                if not content and not _meant(piece.delta):
                    raise BackendFailure("gave an empty answer", status=200)
                return held, True
            if content and not self._whole:
                return held, False
            if content:
                until = min(asyncio.get_running_loop().time() + self._idle, self._ends)
            if len(held) > (MAX_WHOLE if content else MAX_HELD) or size > (
                MAX_WHOLE_BYTES if content else MAX_HELD_BYTES
            ):
                raise BackendFailure("sent too much without an end" if content else "sent too much without content")

    def _note(self, stop: Stop, endpoint: Endpoint, failure: BackendFailure) -> None:
        self._failed.append(Failed(stop.backend, failure, _kind(failure)))
        self._attempts.append(Attempt(backend=stop.backend, endpoint=endpoint.name, error=failure.reason))
        logger().warning(
            "backend_failed",
            backend=stop.backend,
            endpoint=endpoint.name,
            reason=failure.logged,
            status=failure.status,
            moves_on=failure.moves_on,
        )

    def _remaining(self) -> float:
        return self._ends - asyncio.get_running_loop().time()


async def _rest(
    pieces: AsyncGenerator[Piece, None],
    patience: Patience,
    held: Sequence[Piece],
    finished: bool,
    lease: Lease,
    idle: float,
    ends: float,
    total: float,
) -> AsyncGenerator[Piece, None]:
    """What is held, then what follows. Its first piece is of no meaning, and taken before anybody sees it."""
    loop = asyncio.get_running_loop()
    count = size = 0
    try:
        yield Piece(None)
        for piece in held:
            yield piece
        while True:
            until = min(loop.time() + (TAIL if finished else idle), ends)
            try:
                piece = await patience.wait(anext(pieces), until)
            except StopAsyncIteration:
                if not finished:
                    raise BackendFailure(BROKE_OFF) from None
                return
            except TimeoutError:
                if finished:
                    return
                late = f"out of time after {total:g} s in all" if loop.time() >= ends else f"no piece within {idle:g} s"
                raise BackendFailure(late) from None
            except BackendFailure:
                if finished:  # what follows the end is decoration
                    return
                raise
            if isinstance(piece.delta, Finish):
                finished = True
                lease.succeeded()
            count, size = count + 1, size + _weight(piece)
            if count > MAX_STREAMED or size > MAX_STREAMED_BYTES:
                raise BackendFailure("sent too much without an end")
            yield piece
    except BackendFailure as failure:
        lease.failed(failure)
        logger().warning("answer_broken_off", endpoint=lease.endpoint.name, reason=failure.logged)
        raise
    finally:
        patience.close()
        lease.let_go()
        await _close(pieces)


async def _close(pieces: AsyncGenerator[Piece, None]) -> None:
    """Let a backend's generator end its work; one that hangs on doing so is left behind."""
    with contextlib.suppress(TimeoutError, BackendFailure):
        async with asyncio.timeout(CLOSE):
            await pieces.aclose()


def _weight(piece: Piece) -> int:
    """About how many bytes are held with it."""
    match piece.delta:
        case TextDelta(text) | ThinkingDelta(text) | ToolInput(text):
            return len(piece.raw) + len(text)
        case _:
            return len(piece.raw)


def _meant(finish: Finish) -> bool:
    """Whether an end without content is an answer: a refusal is; so is one that spent all its tokens unseen."""
    if finish.reason is StopReason.REFUSED:
        return True
    return finish.reason is not StopReason.END and finish.usage is not None


def _kind(failure: BackendFailure) -> Kind:
    if not failure.moves_on:
        return Kind.BAD
    match failure.status:
        case 429:
            return Kind.BUSY
        case 408 | 504:
            return Kind.LATE
        case None:
            return Kind.LATE if isinstance(failure, _Stalled) else Kind.AWAY
        case 503 | 529:
            return Kind.AWAY
        case _:
            return Kind.BROKEN
