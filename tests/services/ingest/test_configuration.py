"""Roots, pace and rules that are set while the service runs: what may be set, and that it counts at once."""

import asyncio
import os
from pathlib import Path

import httpx
import pytest
from pydantic import HttpUrl, SecretStr

from anamnesis.contracts.episodes import EpisodePage
from anamnesis.contracts.ingest import IngestStatus
from anamnesis.contracts.insight import Coverage
from anamnesis.contracts.schedule import NightStarted, ScheduleStatus
from anamnesis.contracts.summaries import JsonlConfig, JsonlConfigured, Significance, Summarising, SummaryStatus
from services.ingest.configuration import Allowed
from services.ingest.settings import IngestSettings
from tests.services.ingest.conftest import READER_KEY, SERVICE_KEY, WRITER_KEY, serving
from tests.services.ingest.memory_service import ADMIN_KEY, MemoryService, remembering
from tests.services.ingest.test_app import client, finished, transcript


def settings_for(memory: MemoryService, *roots: Path, sources: Path, poll: float = 0.0) -> IngestSettings:
    return IngestSettings(
        memory_url=HttpUrl(memory.url),
        gateway_url=HttpUrl("http://127.0.0.1:9"),
        service_key=SecretStr(SERVICE_KEY),
        sources=(str(sources),),
        transcript_roots=tuple(map(str, roots)),
        ingest_instance="laptop",
        ingest_poll=poll,
    )


async def put(http: httpx.AsyncClient, config: JsonlConfig, version: int | None = None) -> httpx.Response:
    query = {} if version is None else {"version": version}
    return await http.put("/api/jsonl/config", params=query, json=config.model_dump(mode="json"))


async def status_of(http: httpx.AsyncClient) -> IngestStatus:
    return IngestStatus.model_validate_json((await http.get("/api/jsonl/status")).content)


async def test_roots_are_set_without_a_restart(tmp_path: Path) -> None:
    """A root that is set is read at once and again by its pace; status, coverage and the next service follow."""
    files = tmp_path / "files"
    transcript(files / "new")
    async with remembering(tmp_path) as memory:
        settings = settings_for(memory, sources=files)
        async with serving(settings) as url, client(url, ADMIN_KEY) as http:
            before = JsonlConfigured.model_validate_json((await http.get("/api/jsonl/config")).content)
            assert (before.version, before.config.roots) == (0, ())
            assert (await status_of(http)).roots == ()
            answer = await put(http, JsonlConfig(roots=(str(files / "new"),), poll_seconds=0.05), 0)
            assert JsonlConfigured.model_validate_json(answer.content).version == 1
            await finished(http)
            status = await status_of(http)
            assert [root.path for root in status.roots] == [str(files / "new")]
            assert status.poll_seconds == 0.05
            covered = Coverage.model_validate_json((await http.get("/api/jsonl/coverage")).content)
            assert covered.files == 1
            transcript(files / "new", "s2")
            await kept(memory, 4)
            conflict = await put(http, JsonlConfig(), 0)
            assert conflict.status_code == 409
        async with serving(settings) as url, client(url, ADMIN_KEY) as http:
            transcript(files / "new", "s3")  # nobody asks: the service finds out by itself what it reads
            await kept(memory, 6)


async def kept(memory: MemoryService, episodes: int) -> None:
    async with asyncio.timeout(40):
        while len(await ids(memory)) < episodes:  # noqa: ASYNC110 -- seen from outside
            await asyncio.sleep(0.05)


async def ids(memory: MemoryService) -> set[str]:
    async with memory.client() as one:
        page = await one.get("/api/episodes", EpisodePage, query={"limit": 500})
        return {episode.episode_id for episode in page.episodes}


async def test_only_what_may_be_read_can_be_set(tmp_path: Path) -> None:
    """A root outside of the sources, a relative one, and a link that leads out are refused with what to do; those that
    the environment names itself are allowed."""
    files, outside, named = tmp_path / "files", tmp_path / "outside", tmp_path / "named"
    for one in (files, outside, named):
        one.mkdir()
    (files / "link").symlink_to(outside)
    async with (
        remembering(tmp_path) as memory,
        serving(settings_for(memory, named, sources=files)) as url,
        client(url, ADMIN_KEY) as http,
    ):
        for root in (str(outside), str(files / "link"), str(files / ".." / "outside"), "/", f"{files}x"):
            answer = await put(http, JsonlConfig(roots=(root,)))
            assert answer.status_code == 400, root
            assert "ANAMNESIS_SOURCES" in answer.json()["error"]["message"]
            assert str(files) in answer.json()["error"]["message"]
        assert "absolute" in (await put(http, JsonlConfig(roots=("projects",)))).json()["error"]["message"]
        assert (await put(http, JsonlConfig(roots=(str(files / "later"), str(named))))).status_code == 200


async def test_a_root_that_becomes_a_link_is_not_followed_out(tmp_path: Path) -> None:
    """What was set as a directory within, and leads out later, is not read."""
    files, outside = tmp_path / "files", tmp_path / "outside"
    transcript(outside)
    (files / "root").mkdir(parents=True)
    async with (
        remembering(tmp_path) as memory,
        serving(settings_for(memory, sources=files)) as url,
        client(url, ADMIN_KEY) as http,
    ):
        assert (await put(http, JsonlConfig(roots=(str(files / "root"),), poll_seconds=0))).status_code == 200
        (files / "root").rmdir()
        (files / "root").symlink_to(outside)
        await http.post("/api/jsonl/ingest")
        status = await finished(http)
        assert status.last is not None
        assert (status.last.state, status.last.files, status.roots) == ("done", 0, ())


async def test_who_may_do_what(tmp_path: Path) -> None:
    """Settings are for administrators, runs for writers, and looking for everybody with a key."""
    async with remembering(tmp_path) as memory, serving(settings_for(memory, sources=tmp_path)) as url:
        for key, admin, write in ((READER_KEY, 403, 403), (WRITER_KEY, 403, 202), (ADMIN_KEY, 200, 202)):
            async with client(url, key) as http:
                for path in ("/api/jsonl/config", "/api/schedule", "/api/jsonl/summaries"):
                    assert (await http.get(path)).status_code == 200, path
                assert (await http.put("/api/jsonl/config", json={})).status_code == admin
                assert (await http.put("/api/schedule", json={})).status_code == admin
                assert (await http.post("/api/schedule/run", json={"steps": ["crawl"]})).status_code == write
                assert (await http.put("/api/schedule", json={"time_zone": "Europe/Nowhere"})).status_code in (403, 422)


async def test_rules_of_a_project_count_for_what_was_read_before(tmp_path: Path) -> None:
    """Where other rules are set, what was left out before is judged again; a project that is excluded is not read."""
    transcript(tmp_path / "files")
    demanding = Significance(project="shop", min_said=100_000)
    async with remembering(tmp_path) as memory:
        settings = settings_for(memory, tmp_path / "files", sources=tmp_path)
        async with serving(settings) as url, client(url, ADMIN_KEY) as http:
            for rules, episodes in (((demanding,), 0), ((Significance(project="s*", exclude=True),), 0), ((), 2)):
                config = JsonlConfig(roots=(str(tmp_path / "files"),), poll_seconds=0, significance=rules)
                assert (await put(http, config)).status_code == 200
                last = (await status_of(http)).last
                await http.post("/api/jsonl/ingest")
                async with asyncio.timeout(20):
                    while (status := await finished(http)).last == last:  # noqa: ASYNC110 -- seen from outside
                        await asyncio.sleep(0.02)
                assert len(await ids(memory)) == episodes
            assert status.last is not None
            assert status.last.decisions == {"kept": 2}


async def test_what_claude_code_left_is_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories with transcripts that may be read and are not yet; none that may not, or are not there."""
    (tmp_path / "one" / "projects").mkdir(parents=True)
    (tmp_path / "two" / "projects").mkdir(parents=True)
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", f"{tmp_path / 'one'},{tmp_path / 'two'},{tmp_path / 'three'},/etc")
    async with (
        remembering(tmp_path) as memory,
        serving(settings_for(memory, sources=tmp_path)) as url,
        client(url, ADMIN_KEY) as http,
    ):
        first = JsonlConfigured.model_validate_json((await http.get("/api/jsonl/config")).content)
        assert first.found == (str(tmp_path / "one" / "projects"), str(tmp_path / "two" / "projects"))
        await put(http, JsonlConfig(roots=(str(tmp_path / "one"),)))
        then = JsonlConfigured.model_validate_json((await http.get("/api/jsonl/config")).content)
        assert then.found == (str(tmp_path / "two" / "projects"),)


async def test_a_night_on_request(tmp_path: Path) -> None:
    """It reads, summarises and consolidates; its steps can be seen, and the status says what comes next."""
    transcript(tmp_path / "files")
    async with remembering(tmp_path) as memory:
        settings = settings_for(memory, tmp_path / "files", sources=tmp_path)
        async with serving(settings) as url, client(url) as http:
            started = NightStarted.model_validate_json((await http.post("/api/schedule/run")).content)
            assert started.started
            async with asyncio.timeout(30):
                while True:
                    status = ScheduleStatus.model_validate_json((await http.get("/api/schedule")).content)
                    if status.current is None:
                        break
                    await asyncio.sleep(0.05)
            assert status.last is not None
            assert status.last.run_id == started.night.run_id
            assert [(step.name, step.state) for step in status.last.steps] == [
                ("transcripts", "done"),
                ("crawl", "done"),
                ("summaries", "done"),
                ("consolidation", "done"),
            ]
            assert status.last.steps[0].told == "2 new, 0 grown, of 1 transcripts"
            assert (await status_of(http)).next_run == status.next_run
    assert [(one.dry_run, one.since) for one in memory.consolidations] == [(False, None)]


async def test_a_model_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    """With a backend set and no gateway, episodes are there at once, and the pass says why they wait."""
    path = transcript(tmp_path / "files", turns=1)
    path.write_bytes(path.read_bytes().replace(b"it now waits", b"it now waits and waits" + b" and waits" * 400))
    config = JsonlConfig(
        roots=(str(tmp_path / "files"),), poll_seconds=0, summaries=Summarising(backend="ollama", tries=1)
    )
    async with (
        remembering(tmp_path) as memory,
        serving(settings_for(memory, sources=tmp_path)) as url,
        client(url, ADMIN_KEY) as http,
    ):
        await put(http, config)
        await http.post("/api/jsonl/ingest")
        await finished(http)
        assert (await http.post("/api/jsonl/summaries/run")).status_code == 202
        async with asyncio.timeout(20):
            while True:
                status = SummaryStatus.model_validate_json((await http.get("/api/jsonl/summaries")).content)
                if status.last_error:
                    break
                await asyncio.sleep(0.05)
        assert (status.backend, status.pending, status.failed) == ("ollama", 1, 0)
        assert "is it running?" in status.last_error


def test_what_is_allowed(tmp_path: Path) -> None:
    """Within a source, the source itself, what the environment names exactly; and nothing where there is no source."""
    allowed = Allowed((str(tmp_path / "a"),), (str(tmp_path / "b"),))
    assert allowed(str(tmp_path / "a"))
    assert allowed(str(tmp_path / "a" / "deep" / "er"))
    assert allowed(str(tmp_path / "b"))
    assert not allowed(str(tmp_path / "b" / "deep"))
    assert not allowed(str(tmp_path / "ab"))
    assert not Allowed((), ())(os.path.expanduser("~"))
