"""Runs of the transcript reader: one at a time, on request or by the clock, in the background."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from anamnesis.contracts.base import now
from anamnesis.contracts.ingest import IngestRun
from anamnesis.kit.errors import AnamnesisError, Unavailable
from anamnesis.kit.logs import logger, where
from anamnesis.transcripts.progress import Progress
from anamnesis.transcripts.sync import Sync

Trigger = Literal["request", "schedule"]
STOP_WITHIN = 15.0  # seconds for what is under way to be acknowledged and marked


@dataclass
class _Run:
    run_id: str
    trigger: Trigger
    started_at: datetime
    progress: Progress = field(default_factory=Progress)
    state: Literal["running", "done", "failed", "stopped"] = "running"
    finished_at: datetime | None = None
    error: str | None = None

    def view(self) -> IngestRun:
        seen = self.progress
        return IngestRun(
            run_id=self.run_id,
            state=self.state,
            trigger=self.trigger,
            started_at=self.started_at,
            finished_at=self.finished_at,
            files=seen.files,
            files_changed=seen.files_changed,
            files_done=seen.files_done,
            bytes=seen.bytes,
            bytes_done=seen.bytes_done,
            created=seen.created,
            updated=seen.updated,
            duplicate=seen.duplicate,
            blocked=seen.blocked,
            refused=seen.refused,
            refusals=dict(seen.refusals),
            unreadable=seen.unreadable,
            replayed=seen.replayed,
            removed=seen.removed,
            redactions=dict(seen.redactions),
            decisions=dict(seen.decisions),
            errors=dict(seen.errors),
            eta_seconds=seen.eta if self.state == "running" else None,
            error=self.error,
        )


class Runs:
    """Starts runs and knows the present and the last one."""

    def __init__(self, make_sync: Callable[[Callable[[Progress], None]], Sync], poll: float) -> None:
        """`make_sync` is given what is to be told of progress; `poll` is in seconds, 0 = only on request."""
        self._sync = make_sync(self._on_progress)
        self._poll = poll
        self._current: _Run | None = None
        self._last: _Run | None = None
        self._last_change: _Run | None = None
        self._task: asyncio.Task[None] | None = None
        self._clock: asyncio.Task[None] | None = None

    @property
    def current(self) -> IngestRun | None:
        return self._current.view() if self._current else None

    @property
    def last(self) -> IngestRun | None:
        return self._last.view() if self._last else None

    @property
    def last_change(self) -> IngestRun | None:
        return self._last_change.view() if self._last_change else None

    def open(self) -> None:
        if self._poll:
            self._clock = asyncio.create_task(self._keep_looking())

    async def close(self) -> None:
        """Stop; what was sent is awaited for a while, so that it is not sent again after the next start."""
        tasks = [task for task in (self._clock, self._task) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_WITHIN)

    def start(self, trigger: Trigger, *, anew: bool = False) -> tuple[IngestRun, bool]:
        """Begin a run, or give the one that is under way; and whether it was begun."""
        if self._current is not None:
            return self._current.view(), False
        self._current = _Run(uuid.uuid4().hex, trigger, now())
        self._task = asyncio.create_task(self._run(self._current, anew))
        return self._current.view(), True

    def _on_progress(self, progress: Progress) -> None:
        if self._current is not None:
            self._current.progress = progress

    async def _keep_looking(self) -> None:
        while True:
            self.start("schedule")
            if self._task is not None:
                await asyncio.wait([self._task])
            await asyncio.sleep(self._poll)

    async def _run(self, run: _Run, anew: bool) -> None:
        try:
            run.progress = await self._sync.run(anew=anew)
            run.state = "done"
        except asyncio.CancelledError:
            run.state, run.error = "stopped", "the service was stopped"
            raise
        except Unavailable as error:
            run.state, run.error = "failed", error.message
            logger().warning("ingest_waits", reason=error.code)
        except AnamnesisError as error:
            run.state, run.error = "failed", error.message
            logger().error("ingest_failed", reason=error.code)
        except Exception as error:  # noqa: BLE001 -- the edge of a background task: nobody else would see it
            run.state, run.error = "failed", "something went wrong; the log of the ingest service names the place"
            logger().error("ingest_failed", error=where(error))
        finally:
            run.finished_at = now()
            self._current, self._last = None, run
            if run.progress.files_changed or run.state != "done":
                self._last_change = run
            self._report(run)

    @staticmethod
    def _report(run: _Run) -> None:
        seen = run.progress
        if seen.files_changed or seen.errors:
            logger().info(
                "ingest_run",
                state=run.state,
                files=seen.files_changed,
                created=seen.created,
                updated=seen.updated,
                duplicate=seen.duplicate,
                refused=seen.refused,
                refusals=dict(seen.refusals),
                unreadable=seen.unreadable,
                replayed=seen.replayed,
                redactions=seen.redactions.total(),
                errors=dict(seen.errors),
                examples=dict(seen.examples),
                seconds=round(seen.seconds, 1),
            )
