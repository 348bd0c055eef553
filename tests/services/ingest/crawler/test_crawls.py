"""When files are looked at, and what becomes of a scan: over HTTP, with a memory that may be away."""

import asyncio
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from anamnesis.contracts.crawler import CrawledFiles
from services.ingest.background import STOP_WITHIN
from tests.services.ingest.conftest import serving
from tests.services.ingest.crawler.conftest import NOTE, client, config, configured, note, scanned, settings, until
from tests.services.ingest.remembering import Remembering


async def test_a_scan_brings_files_to_memory(memory: Remembering, tree: Path) -> None:
    """A requested scan reads what is configured; its counts, its files and its sources can be seen when it is over."""
    (tree / "shop" / ".env").write_text("KEY=1")
    async with serving(settings(memory, tree)) as url, client(url) as http:
        await configured(http, config(tree))
        run = await scanned(http)
        again = await scanned(http)
        anew = await scanned(http, anew=True)
        status = await until(http, lambda one: True)
        files = CrawledFiles.model_validate_json((await http.get("/api/crawler/files")).content)
        page = (await http.get("/api/crawler/files?source=notes&state=read&skip=1&limit=1")).json()
        none = (await http.get("/api/crawler/files?source=other")).json()
    assert (run.state, run.trigger, run.files, run.files_changed, run.created) == ("done", "request", 2, 2, 2)
    assert (again.files_changed, again.created) == (0, 0)
    assert (anew.files_changed, anew.created) == (2, 0)
    assert {one.source.path for one in await memory.episodes() if one.source} == {
        str(tree / "shop" / "backups.md"),
        str(tree / "shop" / "invoices.md"),
    }
    assert [(one.name, one.files, one.error) for one in status.sources] == [("notes", 2, None)]
    assert (status.state, status.next_scan, status.watching) == ("idle", None, False)
    assert [(Path(one.path).name, one.state, one.episodes) for one in files.files] == [
        ("backups.md", "read", 1),
        ("invoices.md", "read", 1),
    ]
    assert (page["total"], [Path(one["path"]).name for one in page["files"]]) == (2, ["invoices.md"])
    assert none == {"files": [], "total": 0}


async def test_it_scans_by_itself_from_the_start(memory: Remembering, tree: Path) -> None:
    """With a clock, a service that starts scans at once, and again whenever it is time."""
    async with serving(settings(memory, tree)) as url, client(url) as http:
        await configured(http, config(tree, scan_seconds=300))
        await until(http, lambda one: one.last is not None and one.last.state == "done")
    note(tree, "later")
    async with serving(settings(memory, tree)) as url, client(url) as http:
        status = await until(http, lambda one: one.last is not None)
        await configured(http, config(tree, scan_seconds=0.2))
        await until(http, lambda one: one.last is not None and one.last.state == "done")
        note(tree, "still-later")
        await until(http, lambda one: bool(one.sources) and one.sources[0].files == 4)
    assert status.last is not None
    assert (status.last.trigger, status.last.created) == ("schedule", 1)
    assert status.next_scan is not None


async def test_what_changes_is_read_at_once(memory: Remembering, tree: Path) -> None:
    """Where the file system tells, a new and a changed file are read without a scan being due."""
    async with serving(settings(memory, tree)) as url, client(url) as http:
        await configured(http, config(tree, watch=True))
        await scanned(http)
        await until(http, lambda one: one.watching)
        note(tree, "new")
        (tree / "shop" / "backups.md").write_text(NOTE.format("other things"))
        await until(http, lambda one: one.last is not None and one.last.trigger == "watch")
        async with asyncio.timeout(30):
            while True:
                current = {one.source.path for one in await memory.episodes() if one.source and not one.superseded_by}
                said = [one for one in await memory.episodes() if "other things" in (one.raw_exchange or "")]
                if said and str(tree / "shop" / "new.md") in current:
                    break
                await asyncio.sleep(0.05)
        status = await until(http, lambda one: one.current is None)
    assert status.last is not None
    assert status.last.state == "done"


async def test_another_configuration_counts_at_once(memory: Remembering, tree: Path) -> None:
    """What runs by the old configuration ends, and a scan by the new one follows without being asked for."""
    async with serving(settings(memory, tree)) as url, client(url) as http:
        memory.vectors.go_on.clear()
        await configured(http, config(tree, scan_seconds=300))
        await memory.vectors.asked.wait()
        only = {"name": "backups", "kind": "named", "globs": ["backups.md"]}
        await configured(http, config(tree, scan_seconds=300, sources=[only]))
        memory.vectors.go_on.set()
        status = await until(
            http, lambda one: one.current is None and one.last is not None and one.last.state == "done"
        )
    assert status.last is not None
    assert (status.last.files, status.last.trigger) == (1, "schedule")
    assert status.last_change is not None
    assert [source.name for source in status.sources] == ["backups"]


async def test_a_second_request_gets_the_scan_under_way(memory: Remembering, tree: Path) -> None:
    """There is never more than one scan."""
    async with serving(settings(memory, tree)) as url, client(url) as http:
        await configured(http, config(tree))
        memory.vectors.go_on.clear()
        answers = await asyncio.gather(*(http.post("/api/crawler/scan") for _ in range(4)))
        running = await until(http, lambda one: one.state == "running")
        memory.vectors.go_on.set()
        await until(http, lambda one: one.current is None)
    assert sorted(answer.json()["started"] for answer in answers) == [False, False, False, True]
    assert len({answer.json()["run"]["run_id"] for answer in answers}) == 1
    assert running.current is not None


async def test_memory_may_come_later(memory: Remembering, tree: Path) -> None:
    """A service that finds no memory says so, and begins when there is one."""
    async with serving(settings(memory, tree)) as url, client(url) as http:
        await configured(http, config(tree, scan_seconds=300))
        await until(http, lambda one: one.last is not None and one.current is None)
    await memory.stop()
    note(tree, "meanwhile")
    async with serving(settings(memory, tree)) as url, client(url) as http:
        assert (await http.get("/health")).status_code == 200
        assert (await http.get("/ready")).status_code == 503
        await memory.start()
        status = await until(http, lambda one: one.last is not None)
    assert status.last is not None
    assert (status.last.state, status.last.created, status.error) == ("done", 1, None)


async def test_memory_may_go_away_in_between(memory: Remembering, tree: Path) -> None:
    """A request is refused with the reason while memory is away; the state of what is known is still told."""
    async with serving(settings(memory, tree)) as url, client(url) as http:
        await configured(http, config(tree))
        await scanned(http)
        await memory.stop()
        answers = [await http.post("/api/crawler/scan"), await http.get("/api/crawler/config")]
        status = await until(http, lambda one: True)
        await memory.start()
        run = await scanned(http)
    assert [answer.status_code for answer in answers] == [503, 503]
    assert status.sources[0].files == 2
    assert run.state == "done"


async def test_two_services_of_one_instance_do_not_fight(memory: Remembering, tree: Path, tmp_path: Path) -> None:
    """The second one, which sees other directories, stands by and says who scans; it takes over when that one ends."""
    other = tmp_path / "other"
    note(other, "elsewhere")
    async with serving(settings(memory, tree, other, port=1)) as second_url, client(second_url) as second:
        async with serving(settings(memory, tree, port=2)) as url, client(url) as http:
            await configured(http, config(tree, scan_seconds=300))
            await until(http, lambda one: one.last is not None and one.last.state == "done")
            refused = await second.post("/api/crawler/scan")
            held = await until(second, lambda one: one.held_by is not None)
        run = await scanned(second)
        after = await until(second, lambda one: True)
    assert refused.status_code == 409
    assert "ANAMNESIS_INGEST_INSTANCE" in refused.json()["error"]["message"]
    assert held.held_by is not None
    assert ":2/" in held.held_by
    assert (held.state, held.last) == ("failed", None)
    assert (run.state, run.files) == ("done", 2)
    assert (after.held_by, after.state) == (None, "idle")


async def test_services_of_two_instances_scan_beside_each_other(memory: Remembering, tree: Path) -> None:
    """The lease is that of an instance; the same content is one episode with the tags of both."""
    async with (
        serving(settings(memory, tree, instance="laptop")) as url,
        serving(settings(memory, tree, instance="server")) as other_url,
        client(url) as http,
        client(other_url) as other,
    ):
        roots = {"machine_roots": [], "sources": [{"name": "n", "kind": "named", "root": str(tree), "globs": ["*.md"]}]}
        await configured(http, config(tree, **roots))
        assert (await scanned(http)).created == 2
        assert (await scanned(other)).created == 0
    assert [set(one.tags) >= {"on:laptop", "on:server"} for one in await memory.episodes()] == [True, True]


async def test_stopping_in_the_middle_loses_nothing(memory: Remembering, tree: Path) -> None:
    """A service that is stopped during a scan is gone in time; the next one brings the rest, and nothing twice."""
    for number in range(500):
        note(tree, f"note{number:03d}")
    async with serving(settings(memory, tree)) as url, client(url) as http:
        await configured(http, config(tree, scan_seconds=300))
        await until(http, lambda one: one.current is not None and one.current.created > 0)
        stopped = time.monotonic()
    assert time.monotonic() - stopped < STOP_WITHIN + 5
    async with serving(settings(memory, tree)) as url, client(url) as http:
        await until(http, lambda one: one.last is not None and one.last.state == "done", within=120)
    paths = [one.source.path for one in await memory.episodes() if one.source]
    assert len(paths) == len(set(paths)) == 502


async def test_what_cannot_be_read_is_counted_and_named(memory: Remembering, tree: Path) -> None:
    """Metrics have counts and reasons, and no paths; the scan's own examples name the file to those who may ask."""
    (tree / "shop" / "broken.md").symlink_to("/etc/passwd")
    (tree / "shop" / "long.md").write_text("x" * 100_000)
    (tree / "shop" / "binary.md").write_bytes(b"\0\1\2" * 100)
    async with serving(settings(memory, tree)) as url, client(url) as http:
        await configured(http, config(tree))
        run = await scanned(http)
        text = (await http.get("/metrics")).text
    metrics = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("anamnesis_crawl")
    }
    assert run.state == "done"
    assert "too-large" in "".join(run.left_out) or run.left_out
    assert metrics["anamnesis_crawl_files", ()] == run.files
    assert metrics["anamnesis_crawl_changed_total", ()] == run.files_changed
    assert metrics["anamnesis_crawl_seconds_count", (("state", "done"), ("trigger", "request"))] == 1
    assert sum(value for (name, _), value in metrics.items() if name == "anamnesis_crawl_errors_total") == sum(
        run.errors.values()
    )
    assert "shop" not in text
    assert ".md" not in text


async def test_a_preview_reads_nothing(memory: Remembering, tree: Path) -> None:
    """A source can be tried before it is configured: what it would read is counted, and memory gets nothing."""
    source = {"name": "try", "kind": "named", "globs": ["*.md"]}
    roots = [{"instance": "m", "path": str(tree)}]
    async with serving(settings(memory, tree)) as url, client(url) as http:
        told = await http.post("/api/crawler/preview", json={"source": source, "machine_roots": roots})
        wrong = await http.post("/api/crawler/preview", json={"source": {**source, "globs": ["[x"]}})
        away = await http.post("/api/crawler/preview", json={"source": {**source, "root": "/etc"}})
    assert told.status_code == 200, told.text
    assert (told.json()["files"], told.json()["complete"]) == (2, True)
    assert {Path(path).name for path in told.json()["examples"]} == {"backups.md", "invoices.md"}
    assert [wrong.status_code, away.status_code] == [422, 422]
    assert await memory.episodes() == []


@pytest.mark.parametrize("query", ["state=lost", "skip=-1", "limit=0", "limit=1001", "source=" + "x" * 201])
async def test_pages_that_cannot_be_are_refused(memory: Remembering, tree: Path, query: str) -> None:
    """Bounds hold for every part of a page."""
    async with serving(settings(memory, tree)) as url, client(url) as http:
        assert (await http.get(f"/api/crawler/files?{query}")).status_code == 422
