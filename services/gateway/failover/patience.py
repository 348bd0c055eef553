"""Waiting for the pieces of one answer, each until a moment of its own, with one timer for all of them.

The same as `asyncio.timeout_at` around each wait, which costs a timer a piece: for an answer of many small pieces that
is as much as reading them. Here a timer that comes too early is set anew, and most pieces set none.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class Patience:
    """Of one answer: one wait at a time. `close` it at the end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0
        self._waiting: asyncio.Task[object] | None = None
        self._expired = False

    async def wait(self, what: Awaitable[T], until: float) -> T:
        """What it gives. Raises `TimeoutError` at the moment `until` of the loop's clock."""
        self._until = until
        if self._timer is None or self._timer.when() > until:
            self.close()
            self._timer = self._loop.call_at(until, self._ring)
        task = self._waiting = asyncio.current_task()
        assert task is not None
        cancelled_before = task.cancelling()
        try:
            return await what
        except asyncio.CancelledError:
            # Ours alone, or has somebody else cancelled the task too?
            if self._expired and task.cancelling() - 1 <= cancelled_before:
                raise TimeoutError from None
            raise
        finally:
            self._waiting = None
            if self._expired:
                self._expired = False
                task.uncancel()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._waiting is None:
            return  # the next wait sets it again
        if self._loop.time() < self._until:
            self._timer = self._loop.call_at(self._until, self._ring)
        else:
            self._expired = True
            self._waiting.cancel()
