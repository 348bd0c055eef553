"""The ingest service over HTTP: who may come in, how a run is begun and told of, and that it goes on by itself."""

import asyncio
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute

from anamnesis.contracts.episodes import BatchResult, EpisodeBatch
from anamnesis.contracts.ingest import IngestStarted, IngestStatus
from anamnesis.kit.errors import StorageFull
from services.ingest.app import build
from services.ingest.settings import IngestSettings
from tests.anamnesis.transcripts.destination import Memory
from tests.anamnesis.transcripts.writing import Script
from tests.services.ingest.conftest import READER_KEY, WRITER_KEY, MemoryPeer, serving, settings_for

ASKED = "What do we do about the flaky upload test that fails every other night?"
ANSWERED = "The test waited for a fixed time; it now waits for the upload itself."


def transcript(root: Path, name: str = "s1", turns: int = 2) -> Path:
    path = root / "-home-me-shop" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    script = Script(session=name, prefix=name)
    for turn in range(turns):
        script.exchange(f"{ASKED} ({name}, {turn})", ANSWERED)
    path.write_bytes(script.data)
    return path


def client(url: str, key: str | None = WRITER_KEY) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=10)


async def finished(http: httpx.AsyncClient, runs: int = 1) -> IngestStatus:
    """The status once a run is over."""
    async with asyncio.timeout(20):
        while True:
            status = IngestStatus.model_validate_json((await http.get("/api/jsonl/status")).content)
            if status.last is not None and status.current is None:
                return status
            await asyncio.sleep(0.02)


async def test_a_run_brings_the_transcripts_to_memory(peer: MemoryPeer, tmp_path: Path) -> None:
    """A request begins a run in the background; its counts can be read when it is over."""
    transcript(tmp_path)
    async with serving(settings_for(peer, tmp_path, tmp_path / "missing")) as url, client(url) as http:
        before = IngestStatus.model_validate_json((await http.get("/api/jsonl/status")).content)
        answer = await http.post("/api/jsonl/ingest")
        status = await finished(http)
        await http.post("/api/jsonl/ingest")
        async with asyncio.timeout(10):
            while (later := await finished(http)).last == status.last:  # noqa: ASYNC110 -- seen from outside
                await asyncio.sleep(0.02)
    assert later.last_change == status.last
    assert (before.state, before.last, before.instance) == ("idle", None, "laptop")
    assert [root.exists for root in before.roots] == [True, False]
    assert answer.status_code == 202
    started = IngestStarted.model_validate_json(answer.content)
    assert started.started
    assert status.last is not None
    assert status.last.run_id == started.run.run_id
    assert (status.last.state, status.last.created, status.last.errors) == ("done", 2, {"root-missing": 1})
    assert len(peer.memory.episodes) == 2
    assert {one.instance for one in peer.memory.episodes.values()} == {"laptop"}


async def test_a_second_request_gets_the_run_under_way(peer: MemoryPeer, tmp_path: Path) -> None:
    """There is never more than one run."""
    transcript(tmp_path)
    release = asyncio.Event()

    class Waiting(Memory):
        async def push(self, batch: EpisodeBatch) -> BatchResult:
            await release.wait()
            return await super().push(batch)

    peer.memory = Waiting()
    async with serving(settings_for(peer, tmp_path)) as url, client(url) as http:
        first = IngestStarted.model_validate_json((await http.post("/api/jsonl/ingest")).content)
        second = IngestStarted.model_validate_json((await http.post("/api/jsonl/ingest", json={"anew": True})).content)
        release.set()
        await finished(http)
    assert (first.started, second.started) == (True, False)
    assert first.run.run_id == second.run.run_id


async def test_a_document_is_not_the_word_of_who_hands_it_in(peer: MemoryPeer, tmp_path: Path) -> None:
    """What an upload holds is trusted as what the crawler finds, not as what its sender says."""
    async with serving(settings_for(peer, tmp_path)) as url, client(url) as http:
        form = {"file": ("report.md", b"# Report\n\nAlways run the installer first.\n")}
        answer = await http.post("/api/episodes/upload", data={"project": "shop"}, files=form)
    assert answer.status_code == 201, answer.text
    [episode] = peer.memory.episodes.values()
    assert (episode.trust, episode.source and episode.source.kind) == ("tool", "document")


async def test_it_looks_by_itself(peer: MemoryPeer, tmp_path: Path) -> None:
    """With a clock, what is written later is read without being asked."""
    async with serving(settings_for(peer, tmp_path, poll=0.05)):
        transcript(tmp_path)
        async with asyncio.timeout(10):
            while len(peer.memory.episodes) < 2:  # noqa: ASYNC110 -- seen from outside, as a user would
                await asyncio.sleep(0.02)


async def test_a_failed_run_says_why_and_the_next_one_brings_the_rest(peer: MemoryPeer, tmp_path: Path) -> None:
    """When memory has no room the run ends with its words, and costs nothing but time."""
    transcript(tmp_path)

    class Full(Memory):
        full = True

        async def push(self, batch: EpisodeBatch) -> BatchResult:
            if self.full:
                raise StorageFull("no room on the disk")
            return await super().push(batch)

    peer.memory = memory = Full()
    async with serving(settings_for(peer, tmp_path)) as url, client(url) as http:
        await http.post("/api/jsonl/ingest")
        failed = await finished(http)
        memory.full = False
        await http.post("/api/jsonl/ingest")
        async with asyncio.timeout(10):
            while (status := await finished(http)).state == "failed":  # noqa: ASYNC110 -- seen from outside
                await asyncio.sleep(0.02)
    assert failed.last is not None
    assert (failed.state, failed.last.error) == ("failed", "no room on the disk")
    assert status.last is not None
    assert (status.last.state, status.last.created) == ("done", 2)


async def test_it_is_ready_when_memory_is(peer: MemoryPeer, tmp_path: Path) -> None:
    """Readiness follows memory's; health does not."""
    async with serving(settings_for(peer, tmp_path)) as url, client(url) as http:
        assert (await http.get("/ready")).status_code == 200
        peer.ready = False
        assert (await http.get("/ready")).status_code == 503
        await peer.stop()
        assert (await http.get("/ready")).status_code == 503
        assert (await http.get("/health")).status_code == 200


async def test_nobody_comes_in_without_a_key(peer: MemoryPeer, tmp_path: Path) -> None:
    """Every route but health and readiness answers 401 without a key; reading does not allow beginning a run."""
    settings = settings_for(peer, tmp_path)
    async with serving(settings) as url:
        async with client(url, key=None) as http:
            for route in build(settings).routes:
                if isinstance(route, APIRoute) and route.path not in ("/health", "/ready"):
                    for method in route.methods or ():
                        assert (await http.request(method, route.path)).status_code == 401, route.path
        async with client(url, key=READER_KEY) as http:
            assert (await http.get("/api/jsonl/status")).status_code == 200
            assert (await http.post("/api/jsonl/ingest")).status_code == 403


@pytest.mark.parametrize("body", [{"anew": "perhaps"}, {"everything": True}, [1], "x"])
async def test_bad_requests_are_refused(peer: MemoryPeer, tmp_path: Path, body: object) -> None:
    """A body that does not fit is 422 and begins nothing."""
    async with serving(settings_for(peer, tmp_path)) as url, client(url) as http:
        assert (await http.post("/api/jsonl/ingest", json=body)).status_code == 422
        status = IngestStatus.model_validate_json((await http.get("/api/jsonl/status")).content)
    assert (status.current, status.last) == (None, None)


async def test_stopping_in_the_middle_loses_nothing(peer: MemoryPeer, tmp_path: Path) -> None:
    """A service that is stopped during a run has marked what was acknowledged; the next one brings the rest."""
    for number in range(20):
        transcript(tmp_path, f"s{number}", turns=100)
    begun = asyncio.Event()

    class Slow(Memory):
        async def push(self, batch: EpisodeBatch) -> BatchResult:
            begun.set()
            await asyncio.sleep(1)  # ten seconds for the whole; a stop comes long before
            return await super().push(batch)

    peer.memory = Slow()
    async with serving(settings_for(peer, tmp_path)) as url, client(url) as http:
        await http.post("/api/jsonl/ingest")
        await begun.wait()
    first = len(peer.memory.episodes)
    assert 0 < first < 2000
    peer.memory, before = Memory(), peer.memory
    peer.memory.episodes, peer.memory.marks = before.episodes, before.marks
    async with serving(settings_for(peer, tmp_path)) as url, client(url) as http:
        await http.post("/api/jsonl/ingest")
        await finished(http)
    assert len(peer.memory.episodes) == 2000
    assert len(peer.memory.pushed) == 2000 - first


def test_settings_say_what_is_wrong() -> None:
    """A negative pause between looks is refused at start-up."""
    with pytest.raises(ValueError, match="ingest_poll"):
        IngestSettings(ingest_poll=-1)
