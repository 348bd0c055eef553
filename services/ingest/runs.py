"""Runs of the transcript reader: one at a time, on request, by the clock or at night, in the background."""

import asyncio
from collections.abc import Callable
from typing import Literal

from anamnesis.contracts.ingest import IngestRun
from anamnesis.kit.logs import logger
from anamnesis.transcripts.progress import Progress
from anamnesis.transcripts.sync import Sync
from services.ingest.background import Background, Run

Trigger = Literal["request", "schedule", "night"]


class Runs:
    """Starts runs and knows the present and the last one."""

    def __init__(self, make_sync: Callable[[Callable[[Progress], None]], Sync], poll: float) -> None:
        """`make_sync` is given what is to be told of progress; `poll` is in seconds, 0 = only on request."""
        self._runs: Background[Trigger, Progress] = Background("ingest", lambda seen: bool(seen.files_changed), _report)
        self._sync = make_sync(self._runs.tell)
        self._poll = poll
        self._clock: asyncio.Task[None] | None = None

    @property
    def current(self) -> IngestRun | None:
        return _view(self._runs.current) if self._runs.current else None

    @property
    def last(self) -> IngestRun | None:
        return _view(self._runs.last) if self._runs.last else None

    @property
    def last_change(self) -> IngestRun | None:
        return _view(self._runs.last_change) if self._runs.last_change else None

    def open(self) -> None:
        if self._poll:
            self._clock = asyncio.create_task(self._keep_looking())

    async def close(self) -> None:
        """Stop; what was sent is awaited for a while, so that it is not sent again after the next start."""
        if self._clock is not None:
            self._clock.cancel()
            await asyncio.wait([self._clock])
        await self._runs.stop()

    def start(self, trigger: Trigger, *, anew: bool = False) -> tuple[IngestRun, bool]:
        """Begin a run, or give the one that is under way; and whether it was begun."""
        run, started = self._start(trigger, anew)
        return _view(run), started

    async def run(self, trigger: Trigger, *, anew: bool = False) -> IngestRun:
        """Do a whole run and give it when it is over; one that is under way is awaited first."""
        while True:
            run, started = self._start(trigger, anew)
            await self._runs.ended()
            if started:
                return _view(run)

    def _start(self, trigger: Trigger, anew: bool) -> tuple[Run[Trigger, Progress], bool]:
        return self._runs.start(trigger, Progress(), lambda: self._sync.run(anew=anew))

    async def _keep_looking(self) -> None:
        while True:
            self.start("schedule")
            await self._runs.ended()
            await asyncio.sleep(self._poll)


def _view(run: Run[Trigger, Progress]) -> IngestRun:
    seen = run.progress
    return IngestRun(
        run_id=run.run_id,
        state=run.state,
        trigger=run.trigger,
        started_at=run.started_at,
        finished_at=run.finished_at,
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
        eta_seconds=seen.eta if run.state == "running" else None,
        error=run.error,
    )


def _report(run: Run[Trigger, Progress]) -> None:
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
