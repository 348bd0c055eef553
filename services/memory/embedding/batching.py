"""What waits to be embedded, and how batches are cut from it.

Queries go before passages, passages of writers before those of a re-embedding. A batch is cut so
that it holds a worker for about the same time whatever the model, and from texts of like length,
because a batch costs its longest text times their number.
"""

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from anamnesis.kit.errors import Busy

_LOOK_AHEAD = 256
"""Texts among which those of like length are sought."""
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Texts in a batch: few sizes, as a worker's memory grows with every shape that it meets."""
_SHORTEST = 24
"""Characters that even the shortest text costs: its special tokens and its share of the call."""


class Rank(IntEnum):
    """Who waits for it; the lower goes first."""

    QUERY = 0
    PASSAGE = 1
    BACKGROUND = 2


@dataclass(eq=False)
class Request:
    """Texts that came in one call, and where their vectors go."""

    rank: Rank
    vectors: NDArray[np.float32]
    """(n d), filled row by row."""
    done: asyncio.Future[None]
    left: int
    """Texts without a vector yet."""


@dataclass(eq=False)
class Job:
    """One text of a request."""

    request: Request
    row: int
    text: str
    tried: int = 0
    cost: int = field(init=False)

    def __post_init__(self) -> None:
        self.cost = max(len(self.text), _SHORTEST)


class Pace:
    """How many padded characters a worker embeds in a second, learned as it works.

    seconds: how long one batch should hold a worker.
    """

    def __init__(self, seconds: float, guess: float = 20_000.0) -> None:
        self.per_second = guess
        self._seconds = seconds

    @property
    def budget(self) -> float:
        """Padded characters in a batch."""
        return self.per_second * self._seconds

    def learn(self, cost: int, seconds: float) -> None:
        """Take in that a batch of `cost` padded characters took so many seconds."""
        if seconds >= self._seconds / 4:
            self.per_second += 0.3 * (cost / seconds - self.per_second)
        elif cost >= self.budget / 2:
            self.per_second *= 2  # full, and far too short: mostly the fixed cost of a call was measured


def padded(jobs: Sequence[Job]) -> int:
    """What a batch costs, in characters: every text is filled up to the longest."""
    return len(jobs) * max((job.cost for job in jobs), default=0)


class Backlog:
    """The bounded queues. Depths count texts."""

    def __init__(self, limits: dict[Rank, int]) -> None:
        self._limits = limits
        self._queues: dict[Rank, deque[Job]] = {rank: deque() for rank in Rank}

    def depth(self, rank: Rank) -> int:
        return sum(not job.request.done.done() for job in self._queues[rank])

    def cost(self, rank: Rank) -> int:
        """Characters that wait at this rank or before it."""
        return sum(job.cost for other in Rank if other <= rank for job in self._queues[other])

    def fits(self, rank: Rank, texts: int) -> bool:
        """Whether a request of so many texts would be taken now."""
        waiting = self.depth(rank)
        return not waiting or waiting + texts <= self._limits[rank]

    def admit(self, jobs: Sequence[Job], pace: float) -> None:
        """Queue the texts of one request. Raises `Busy` when they do not fit.

        An empty queue takes a request of any size: one that is larger than the bound could
        otherwise never be served.
        """
        rank = jobs[0].request.rank
        # Texts that nobody waits for any more must not pile up while no worker takes them.
        self._queues[rank] = deque(job for job in self._queues[rank] if not job.request.done.done())
        if not self.fits(rank, len(jobs)):
            seconds = min(60.0, max(1.0, math.ceil(self.cost(rank) / pace)))
            waiting = self.depth(rank)
            raise Busy(f"{waiting} texts wait to be embedded already: try again in {seconds:.0f} s", None, seconds)
        # Like lengths side by side; the vectors find their rows again by number.
        self._queues[rank].extend(sorted(jobs, key=lambda job: job.cost))

    def take(self, budget: float, background: float | None = None) -> list[Job]:
        """The next batch, at most `budget` padded characters (but at least one text); empty = none waits.

        Texts in the background may have a budget of their own.
        """
        for rank in Rank:
            queue = self._queues[rank]
            ahead: list[Job] = []
            while queue and len(ahead) < _LOOK_AHEAD:
                job = queue.popleft()
                if not job.request.done.done():
                    ahead.append(job)
            if ahead:
                batch = _cut(ahead, background if background is not None and rank is Rank.BACKGROUND else budget)
                chosen = {id(job) for job in batch}
                queue.extendleft(reversed([job for job in ahead if id(job) not in chosen]))
                return batch
        return []

    def put_back(self, jobs: Sequence[Job]) -> None:
        """Return texts whose batch failed, to be tried before all others of their rank."""
        for job in reversed(jobs):
            self._queues[job.request.rank].appendleft(job)

    def clear(self) -> list[Request]:
        """Empty the queues; gives the requests that still waited."""
        waiting = {id(job.request): job.request for queue in self._queues.values() for job in queue}
        for queue in self._queues.values():
            queue.clear()
        return list(waiting.values())


def _cut(ahead: list[Job], budget: float) -> list[Job]:
    """The oldest text and, while they fit, those nearest to it in length."""
    oldest = ahead[0]
    if oldest.tried:
        return [oldest]  # alone: if it was this text that brought a worker down, only its own request fails
    rest = sorted((job for job in ahead[1:] if not job.tried), key=lambda job: abs(job.cost - oldest.cost))
    batch, longest = [oldest], oldest.cost
    for job in rest[: _SIZES[-1] - 1]:
        longest = max(longest, job.cost)
        if longest * (len(batch) + 1) > budget:
            break
        batch.append(job)
    return batch[: max(size for size in _SIZES if size <= len(batch))]
