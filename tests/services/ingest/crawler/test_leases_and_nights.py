"""Who waits for whom: scans that are awaited at night, cut off by another configuration, or left without a lease."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path, PosixPath

import pytest
from pydantic import SecretStr

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.crawler import CrawledFile, CrawlerConfig, PreviewRequest, Source, SourceKind
from anamnesis.contracts.state import Lease, LeaseRequest
from anamnesis.crawl.counts import CrawlCounts
from anamnesis.crawl.watching import Changes, Watcher
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import Busy, Conflict, DeadlineExceeded
from services.ingest.crawler.checking import Reach
from services.ingest.crawler.configuration import Configuration
from services.ingest.crawler.crawls import CHANGED, Crawls
from services.ingest.crawler.figures import CrawlFigures
from services.ingest.crawler.files import Files
from services.ingest.crawler.lease import Held, ScanLease, holder
from services.ingest.crawler.previews import Previews
from tests.services.ingest.conftest import SERVICE_KEY
from tests.services.ingest.crawler.conftest import config
from tests.services.ingest.remembering import Remembering

CONFIG = CrawlerConfig(scan_seconds=0, watch=False)


class Waits:
    """A crawl that takes until it is let go on, and notes what it was asked."""

    def __init__(self, told: Callable[[CrawlCounts], None]) -> None:
        self.told = told
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.asked: list[tuple[Collection[str] | None, bool]] = []
        self.at_once = 0
        self.most = 0

    async def run(self, only: Collection[str] | None = None, *, anew: bool = False) -> CrawlCounts:
        self.asked.append((only, anew))
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.begun.set()
        try:
            await self.go_on.wait()
        finally:
            self.at_once -= 1
            self.begun.clear()
        return CrawlCounts(files=1)

    async def files(self) -> list[CrawledFile]:
        return []


class Stage:
    """Scans of a crawl that waits, over a real memory."""

    def __init__(self, memory: Remembering, root: Path, renew: float = 20.0) -> None:
        self.client = ServiceClient(memory.url, SecretStr(SERVICE_KEY))
        reach = Reach((root,), "laptop")
        self.configuration = Configuration(self.client, reach)
        self.lease = ScanLease(self.client, "laptop", "me", renew=renew)
        self.crawl: Waits | None = None
        watcher = Watcher(lambda: self.configuration.current()[0], reach.allowed, reach.instance)
        self.crawls = Crawls(self._made, self.configuration, self.lease, watcher, CrawlFigures())

    def _made(self, told: Callable[[CrawlCounts], None]) -> Waits:
        self.crawl = Waits(told)
        return self.crawl


@asynccontextmanager
async def stage(memory: Remembering, root: Path, renew: float = 20.0) -> AsyncIterator[tuple[Stage, Waits]]:
    one = Stage(memory, root, renew)
    assert one.crawl is not None
    async with one.client:
        yield one, one.crawl
        one.crawl.go_on.set()
        await one.crawls.close()


async def test_the_night_waits_for_what_is_under_way_and_then_has_its_own(memory: Remembering, tree: Path) -> None:
    """Whoever awaits a whole scan gets one that began after they asked; there is never more than one at once."""
    async with stage(memory, tree) as (one, crawl):
        first, started = await one.crawls.start("request", anew=True)
        nights = [asyncio.create_task(one.crawls.run("night")) for _ in range(3)]
        await crawl.begun.wait()
        crawl.go_on.set()
        ended = await asyncio.gather(*nights)
    assert started
    assert [run.state for run in ended] == ["done"] * 3
    assert {run.trigger for run in ended} == {"night"}
    assert len({first.run_id, *(run.run_id for run in ended)}) == 4
    assert crawl.asked == [(None, True), *[(None, False)] * 3]
    assert crawl.most == 1


async def test_who_waits_may_go_and_the_scan_goes_on(memory: Remembering, tree: Path) -> None:
    """A night that is stopped leaves the scan to the service, which ends it when it stops itself."""
    async with stage(memory, tree) as (one, crawl):
        waiting = asyncio.create_task(one.crawls.run("night"))
        await crawl.begun.wait()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert one.crawls.status({}).state == "running"
        await one.crawls.close()
        last = one.crawls.status({}).last
    assert last is not None
    assert (last.state, last.error) == ("stopped", "the service was stopped")


async def test_another_configuration_ends_the_scan_and_the_night_gets_a_whole_one(
    memory: Remembering, tree: Path
) -> None:
    """A scan by the old configuration is stopped; who awaited it is given the next one."""
    async with stage(memory, tree) as (one, crawl):
        night = asyncio.create_task(one.crawls.run("night"))
        await crawl.begun.wait()
        await one.configuration.put(CrawlerConfig.model_validate(config(tree)), None)
        async with asyncio.timeout(20):
            while len(crawl.asked) < 2:  # noqa: ASYNC110 -- seen from outside
                await asyncio.sleep(0.01)
        stopped = one.crawls.status({}).last
        crawl.go_on.set()
        run = await night
    assert stopped is not None
    assert (stopped.state, stopped.error) == ("stopped", CHANGED)
    assert (run.state, run.files) == ("done", 1)
    assert run.run_id != stopped.run_id


async def test_a_scan_without_its_lease_ends(memory: Remembering, tree: Path) -> None:
    """When the lease has gone to another one in the meantime, the scan stops at the next renewal and says why."""
    async with stage(memory, tree, renew=0.05) as (one, crawl):
        night = asyncio.create_task(one.crawls.run("night"))
        await crawl.begun.wait()
        await one.lease.release()
        thief = LeaseRequest(holder="thief", seconds=60)
        await one.client.request("POST", "/api/leases/crawl:laptop", Lease, body=thief)
        run = await night
        with pytest.raises(Held) as held:
            await one.crawls.start("request")
        status = one.crawls.status({})
    assert run.state == "failed"
    assert run.error is not None
    assert "lease" in run.error
    assert held.value.holder == status.held_by == "thief"


async def test_a_scan_outlives_a_short_absence_of_memory(memory: Remembering, tree: Path) -> None:
    """A renewal that memory does not answer is tried again; the lease lasts for several of them."""
    async with stage(memory, tree, renew=0.05) as (one, crawl):
        night = asyncio.create_task(one.crawls.run("night"))
        await crawl.begun.wait()
        await memory.stop()
        await asyncio.sleep(0.5)
        await memory.start()
        crawl.go_on.set()
        assert (await night).state == "done"


async def test_a_lease_is_held_until_the_next_scan(memory: Remembering, tree: Path) -> None:
    """Between two scans it stays with the one that scans; where no scan is due, and after a stop, it is free."""
    other = LeaseRequest(holder="other", seconds=1)
    path = "/api/leases/crawl:laptop"
    async with stage(memory, tree) as (one, crawl):
        crawl.go_on.set()
        await one.configuration.put(CONFIG, None)
        await one.crawls.run("night")
        free = await one.client.request("POST", path, Lease, body=other)
        assert free.holder == "other"
    async with stage(memory, tree) as (one, crawl):
        crawl.go_on.set()
        await one.configuration.put(CONFIG.model_copy(update={"scan_seconds": 300.0}), None)
        async with asyncio.timeout(20):
            while True:
                try:
                    await one.crawls.run("request")
                    break
                except Held:
                    await asyncio.sleep(0.1)
        with pytest.raises(Conflict, match="me holds this lease"):
            await one.client.request("POST", path, Lease, body=other)
    async with ServiceClient(memory.url, SecretStr(SERVICE_KEY)) as client:
        assert (await client.request("POST", path, Lease, body=other)).holder == "other"


async def test_nothing_takes_a_lease_again_that_was_given_back(
    memory: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal that is cut off is carried out by memory all the same; the lease is given back after it."""
    asked = asyncio.Event()
    write = memory.store.write

    async def slowly(kind: str, key: str, value: JsonObject, expect: int | None = None) -> int | None:
        asked.set()
        await asyncio.sleep(0.3)
        return await write(kind, key, value, expect=expect)

    async with ServiceClient(memory.url, SecretStr(SERVICE_KEY)) as client:
        lease = ScanLease(client, "laptop", "me")
        await lease.take()
        monkeypatch.setattr(memory.store, "write", slowly)
        renewing = asyncio.create_task(lease.take())
        await asyncio.wait_for(asked.wait(), 10)
        renewing.cancel()
        await lease.release()
        monkeypatch.undo()
        other = LeaseRequest(holder="other", seconds=1)
        assert (await client.request("POST", "/api/leases/crawl:laptop", Lease, body=other)).holder == "other"


def test_a_service_is_itself_after_a_crash() -> None:
    """The holder of a lease is the same for every start of one service, and another one at another port."""
    assert holder(3013) == holder(3013) != holder(3014)
    assert holder(0) != holder(0)


async def test_a_hanging_preview_keeps_only_previews_waiting(tree: Path) -> None:
    """One look at a time; a file system that does not answer ends in an error, within seconds."""
    release = threading.Event()

    class Hangs(PosixPath):
        def expanduser(self) -> "Hangs":
            release.wait(30)
            return self

    async def load() -> CrawlerConfig:
        return CONFIG

    previews = Previews(load, Reach((Hangs(tree),), "laptop"), seconds=0.05, grace=0.05)
    request = PreviewRequest(source=Source(name="a", kind=SourceKind.SCRIPTS))
    with pytest.raises(DeadlineExceeded):
        await previews.get(request)
    with pytest.raises(Busy):
        await previews.get(request)
    release.set()


async def test_the_list_of_files_is_made_once_a_scan() -> None:
    """It is made anew when another scan has ended, and not for everybody who looks."""
    loads = 0
    scan = object()

    async def load() -> list[CrawledFile]:
        nonlocal loads
        loads += 1
        return []

    files = Files(load, lambda: scan)
    await asyncio.gather(*(files.by_source() for _ in range(5)))
    assert loads == 1
    scan = object()
    await files.page(None, None, 0, 10)
    assert loads == 2


async def test_a_scan_that_is_due_is_not_left_to_the_watcher(memory: Remembering, tmp_path: Path) -> None:
    """While some changed paths are looked at the clock waits, and then scans everything all the same."""
    async with stage(memory, tmp_path) as (one, crawl):
        await one.configuration.put(CrawlerConfig.model_validate(config(tmp_path, scan_seconds=300)), None)
        watched = asyncio.create_task(one.crawls.run("watch", only={"/a"}))
        await asyncio.wait_for(crawl.begun.wait(), 20)
        one.crawls.open()
        try:
            asked, started = await one.crawls.start("request")
            crawl.go_on.set()
            async with asyncio.timeout(20):
                while len(crawl.asked) < 2:  # noqa: ASYNC110 -- nothing tells of a beginning that is over at once
                    await asyncio.sleep(0.02)
        finally:
            await one.crawls.close()
        await watched
    assert (asked.trigger, started) == ("watch", False)
    assert crawl.asked[:2] == [({"/a"}, False), (None, False)]


class _StumblingConfiguration(Configuration):
    """Fails once in a way that nobody has thought of."""

    loads = 0

    async def load(self) -> CrawlerConfig:
        self.loads += 1
        if self.loads == 1:
            raise RuntimeError("unheard of")
        return await super().load()


class _StumblingWatcher(Watcher):
    """Fails once, and then tells of a change."""

    begun = 0

    async def changes(self) -> AsyncGenerator[Changes, None]:
        self.begun += 1
        if self.begun == 1:
            raise ValueError("unheard of")
        yield Changes(frozenset(), everything=True)
        await asyncio.Event().wait()


async def test_what_nobody_thought_of_ends_neither_scans_nor_watching(memory: Remembering, tmp_path: Path) -> None:
    """The clock and the watcher go on after a failure, and the log says where it was."""
    reach = Reach((tmp_path,), "laptop")
    async with ServiceClient(memory.url, SecretStr(SERVICE_KEY)) as http:
        configuration = _StumblingConfiguration(http, reach)
        await configuration.put(CrawlerConfig.model_validate(config(tmp_path, scan_seconds=300)), None)
        watcher = _StumblingWatcher(CrawlerConfig, reach.allowed, reach.instance)
        runs: list[Collection[str] | None] = []

        class Counts:
            async def run(self, only: Collection[str] | None = None, *, anew: bool = False) -> CrawlCounts:
                runs.append(only)
                return CrawlCounts()

            async def files(self) -> list[CrawledFile]:
                return []

        lease = ScanLease(http, "laptop", "me")
        crawls = Crawls(lambda _: Counts(), configuration, lease, watcher, CrawlFigures())
        crawls.open()
        try:
            async with asyncio.timeout(20):
                while len(runs) < 2:  # noqa: ASYNC110 -- one by the clock, one by the watcher
                    await asyncio.sleep(0.05)
        finally:
            await crawls.close()
    assert (watcher.begun, crawls.status({}).error) == (2, None)
