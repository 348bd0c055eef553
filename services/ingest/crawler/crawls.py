"""When files are looked at: at the start, by the clock, when they change, on request and at night; one scan at a time.

Every scan reads the configuration first, so that what was changed counts, and needs the lease. Memory may be away at
any time: scans then wait for it, and the service goes on.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from typing import Literal, Protocol

from anamnesis.contracts.base import now
from anamnesis.contracts.crawler import CrawledFile, CrawlerConfig, CrawlerStatus, CrawlRun, SourceState
from anamnesis.crawl.counts import CrawlCounts
from anamnesis.crawl.watching import Watcher
from anamnesis.kit.errors import AnamnesisError
from anamnesis.kit.logs import logger, where
from services.ingest.background import STOP_WITHIN, Background, Run
from services.ingest.crawler.configuration import Configuration
from services.ingest.crawler.figures import CrawlFigures
from services.ingest.crawler.lease import Held, ScanLease

Trigger = Literal["request", "schedule", "watch", "night"]
OnProgress = Callable[[CrawlCounts], None]
BROKEN = "something went wrong; the log of the ingest service names the place, and it is tried again"
CHANGED = "the configuration has changed; another scan begins with it"
LOOK = 300.0  # seconds between two looks at a configuration that asks for no scans
FAILED = 60.0  # seconds until a scan that failed is tried again, if it is not due earlier
RETRY = 1.0  # seconds until memory is tried again, twice as many each time
MAX_RETRY = 30.0


class Crawler(Protocol):
    """Does the work."""

    async def run(self, only: Collection[str] | None = None, *, anew: bool = False) -> CrawlCounts:
        """Look at all files, or at some paths."""

    async def files(self) -> list[CrawledFile]:
        """What is known of every file, by path."""


class Crawls:
    """Begins scans and knows the present and the last one."""

    def __init__(
        self,
        make_crawl: Callable[[OnProgress], Crawler],
        configuration: Configuration,
        lease: ScanLease,
        watcher: Watcher,
        figures: CrawlFigures,
    ) -> None:
        """`make_crawl` is given what is to be told of progress."""
        self._runs: Background[Trigger, CrawlCounts] = Background("crawl", _changed, self._report)
        self._crawl = make_crawl(self._runs.tell)
        self._configuration = configuration
        self._lease = lease
        self._watcher = watcher
        self._figures = figures
        configuration.on_change = self.changed
        self._starting = asyncio.Lock()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._changes = 0
        """Times that the configuration was written here."""
        self._restart: asyncio.Task[None] | None = None
        self._next: datetime | None = None
        self._error: str | None = None
        self._held: Held | None = None
        self._problems: dict[str, str] = {}

    def open(self) -> None:
        self._tasks = [asyncio.create_task(self._keep_scanning()), asyncio.create_task(self._keep_watching())]

    async def close(self) -> None:
        """Stop; what was sent is awaited for a while, so that it is not sent again after the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._runs.stop(), *(asyncio.wait([task], timeout=STOP_WITHIN) for task in self._tasks))
        await self._lease.release()

    def changed(self) -> None:
        """There is another configuration: what runs by the old one ends, and the next scan begins at once."""
        self._changes += 1
        if self._runs.current is not None:
            self._restart = asyncio.create_task(self._runs.stop(CHANGED))
        self._wake.set()

    async def start(self, trigger: Trigger, *, anew: bool = False) -> tuple[CrawlRun, bool]:
        """Begin a scan, or give the one that is under way; and whether it was begun.

        Raises `Held` where another instance of the service scans, and what memory raises.
        """
        run, started = await self._start(trigger, None, anew)
        if not started and run.trigger == "watch":
            self._wake.set()  # it may look at some paths alone: the clock scans all of them when it is over
        return _view(run), started

    async def run(self, trigger: Trigger, *, only: Collection[str] | None = None, anew: bool = False) -> CrawlRun:
        """Do a whole scan and give it when it is over; one that is under way is awaited first. Raises as `start`."""
        while True:
            run, started = await self._start(trigger, only, anew)
            await self._runs.ended()
            if started and run.error != CHANGED:
                return _view(run)

    async def files(self) -> list[CrawledFile]:
        """What is known of every file, by path. Raises what memory raises."""
        return await self._crawl.files()

    @property
    def last(self) -> object:
        """Another thing after each scan."""
        return self._runs.last

    def status(self, files: dict[str, int]) -> CrawlerStatus:
        """`files` are counts of known files by source."""
        config, _ = self._configuration.current()
        last, current, change = self._runs.last, self._runs.current, self._runs.last_change
        error = str(self._held) if self._held is not None else self._error
        failed = error is not None or (last is not None and last.state == "failed")
        return CrawlerStatus(
            state="running" if current else "failed" if failed else "idle" if _is_on(config) else "off",
            watching=self._watcher.watching,
            watch_error=self._watcher.reason,
            next_scan=self._next,
            held_by=self._held.holder if self._held is not None else None,
            error=error,
            sources=tuple(
                SourceState(
                    name=source.name,
                    kind=source.kind,
                    enabled=source.enabled,
                    files=files.get(source.name, 0),
                    error=self._problems.get(source.name) if source.enabled else None,
                )
                for source in config.sources
            ),
            current=_view(current) if current else None,
            last=_view(last) if last else None,
            last_change=_view(change) if change else None,
        )

    async def _start(
        self, trigger: Trigger, only: Collection[str] | None, anew: bool
    ) -> tuple[Run[Trigger, CrawlCounts], bool]:
        async with self._starting:
            if self._runs.current is not None:
                return self._runs.current, False
            while True:
                seen = self._changes
                config = await self._configuration.load()
                try:
                    await self._lease.take()
                except Held as held:
                    self._held = held
                    raise
                if seen == self._changes:
                    break
            self._held = self._error = None
            return self._runs.start(trigger, CrawlCounts(), lambda: self._work(config, only, anew))

    async def _work(self, config: CrawlerConfig, only: Collection[str] | None, anew: bool) -> CrawlCounts:
        try:
            async with self._lease.renewed():
                return await self._crawl.run(only, anew=anew)
        finally:
            await self._lease.keep(config.scan_seconds)

    async def _keep_scanning(self) -> None:
        retry = RETRY
        while True:
            self._wake.clear()
            self._next = None
            try:
                pause = await self._scan()
                retry = RETRY
            except Held as held:
                pause = min(max((held.until - now()).total_seconds(), 0.0) + 1.0, LOOK)
            except AnamnesisError as error:
                self._error = error.message
                logger().warning("crawl_waits", reason=error.code)
                pause, retry = retry, min(retry * 2, MAX_RETRY)
            except Exception as error:  # noqa: BLE001 -- the edge of a background task: scans must not end with it
                self._error = BROKEN
                logger().error("crawl_failed", error=where(error))
                pause, retry = retry, min(retry * 2, MAX_RETRY)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _scan(self) -> float:
        """Scan once, if scans are wanted; the seconds until the next time."""
        config = await self._configuration.load()
        self._error = None
        if not config.scan_seconds or not _is_on(config):
            return config.scan_seconds or LOOK
        started = False
        while not started:
            run, started = await self._start("schedule", None, False)
            await self._runs.ended()
            started = started or run.trigger != "watch"  # which may have looked at some paths alone
        pause = config.scan_seconds if run.state == "done" else min(config.scan_seconds, FAILED)
        self._next = now() + timedelta(seconds=pause)
        return pause

    async def _keep_watching(self) -> None:
        """Look at what changes. What fails here is found by the next scan."""
        retry = RETRY
        while True:
            try:
                async with aclosing(self._watcher.changes()) as changes:
                    async for change in changes:
                        retry = RETRY
                        try:
                            await self.run("watch", only=None if change.everything else change.paths)
                        except AnamnesisError as error:
                            logger().warning("crawl_watch_waits", reason=error.code)
            except Exception as error:  # noqa: BLE001 -- the edge of a background task: watching must not end with it
                logger().error("crawl_watch_failed", error=where(error))
            await asyncio.sleep(retry)
            retry = min(retry * 2, MAX_RETRY)

    def _report(self, run: Run[Trigger, CrawlCounts]) -> None:
        seen = run.progress
        seconds = ((run.finished_at or now()) - run.started_at).total_seconds()
        self._figures.observe(seen, run.trigger, run.state, seconds)
        if run.trigger != "watch" and run.state == "done":
            self._problems = dict(seen.problems)
        if _changed(seen) or seen.errors or run.state != "done":
            logger().info(
                "crawl_run",
                trigger=run.trigger,
                state=run.state,
                files=seen.files,
                changed=seen.files_changed,
                renamed=seen.renamed,
                deleted=seen.deleted,
                created=seen.created,
                superseded=seen.superseded,
                duplicate=seen.duplicate,
                refused=seen.refused,
                redactions=seen.redactions.total(),
                errors=dict(seen.errors),
                seconds=round(seconds, 1),
            )


def _is_on(config: CrawlerConfig) -> bool:
    return any(source.enabled for source in config.sources)


def _changed(counts: CrawlCounts) -> bool:
    return bool(counts.files_changed or counts.renamed or counts.deleted)


def _view(run: Run[Trigger, CrawlCounts]) -> CrawlRun:
    seen = run.progress
    return CrawlRun(
        run_id=run.run_id,
        state=run.state,
        trigger=run.trigger,
        started_at=run.started_at,
        finished_at=run.finished_at,
        files=seen.files,
        files_changed=seen.files_changed,
        files_done=seen.files_done,
        renamed=seen.renamed,
        deleted=seen.deleted,
        created=seen.created,
        superseded=seen.superseded,
        duplicate=seen.duplicate,
        blocked=seen.blocked,
        refused=seen.refused,
        redactions=dict(seen.redactions),
        left_out=dict(seen.left_out),
        errors=dict(seen.errors),
        examples={reason: tuple(paths) for reason, paths in seen.examples.items()},
        eta_seconds=_eta(run),
        error=run.error,
    )


def _eta(run: Run[Trigger, CrawlCounts]) -> float | None:
    """Seconds that are left at the present rate; none while nobody can tell."""
    seen = run.progress
    if run.state != "running" or not seen.files_done:
        return None
    seconds = (now() - run.started_at).total_seconds()
    return max(seconds * (seen.files_changed - seen.files_done) / seen.files_done, 0.0)
