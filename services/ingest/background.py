"""One piece of work at a time, in the background: how it goes, how it ended, and how it is stopped.

Knows nothing of what is done; readers of transcripts and of files each bring their own work and their own counts.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Literal, TypeVar

from anamnesis.contracts.base import now
from anamnesis.kit.errors import AnamnesisError, Unavailable
from anamnesis.kit.logs import logger, where

State = Literal["running", "done", "failed", "stopped"]
STOP_WITHIN = 15.0  # seconds for what is under way to be acknowledged and marked
STOPPED = "the service was stopped"

T = TypeVar("T")
"""What may begin a run."""
P = TypeVar("P")
"""The counts of a run."""


@dataclass
class Run(Generic[T, P]):
    """One piece of work, under way or over."""

    trigger: T
    progress: P
    """What has been seen and done so far."""
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started_at: datetime = field(default_factory=now)
    state: State = "running"
    finished_at: datetime | None = None
    error: str | None = None
    """Why it ended early."""


class Background(Generic[T, P]):
    """Starts work and knows the present and the last run of it."""

    def __init__(self, name: str, changed: Callable[[P], bool], on_end: Callable[[Run[T, P]], None]) -> None:
        """`name` is what the log calls it; `changed` says whether something new was found; `on_end` reports."""
        self._name = name
        self._changed = changed
        self._on_end = on_end
        self._task: asyncio.Task[None] | None = None
        self._why = STOPPED
        self.current: Run[T, P] | None = None
        self.last: Run[T, P] | None = None
        self.last_change: Run[T, P] | None = None
        """The last one that found something new, or did not end well."""

    def start(self, trigger: T, fresh: P, work: Callable[[], Awaitable[P]]) -> tuple[Run[T, P], bool]:
        """Begin, or give the run that is under way; and whether it was begun. `fresh` are counts of nothing."""
        if self.current is not None:
            return self.current, False
        self.current = run = Run(trigger, fresh)
        self._why = STOPPED
        self._task = asyncio.create_task(self._do(run, work))
        return run, True

    def tell(self, progress: P) -> None:
        """How far the run under way has come."""
        if self.current is not None:
            self.current.progress = progress

    async def ended(self) -> None:
        """Wait until nothing is under way. Whoever waits may be cancelled; the run goes on."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def stop(self, why: str = STOPPED) -> None:
        """End what is under way; what was sent is awaited for a while, so that it is not sent again next time."""
        if self._task is not None and not self._task.done():
            self._why = why
            self._task.cancel()
            await asyncio.wait([self._task], timeout=STOP_WITHIN)
            if self._task.done() and self.current is not None:  # it had not even begun
                self._end(self.current, "stopped", why)

    async def _do(self, run: Run[T, P], work: Callable[[], Awaitable[P]]) -> None:
        try:
            run.progress = await work()
        except asyncio.CancelledError:
            self._end(run, "stopped", self._why)
            raise
        except Unavailable as error:
            logger().warning(f"{self._name}_waits", reason=error.code)
            self._end(run, "failed", error.message)
        except AnamnesisError as error:
            logger().error(f"{self._name}_failed", reason=error.code)
            self._end(run, "failed", error.message)
        except Exception as error:  # noqa: BLE001 -- the edge of a background task: nobody else would see it
            logger().error(f"{self._name}_failed", error=where(error))
            self._end(run, "failed", "something went wrong; the log of the ingest service names the place")
        else:
            self._end(run, "done")

    def _end(self, run: Run[T, P], state: State, error: str | None = None) -> None:
        run.state, run.error, run.finished_at = state, error, now()
        self.current, self.last = None, run
        if self._changed(run.progress) or state != "done":
            self.last_change = run
        self._on_end(run)
