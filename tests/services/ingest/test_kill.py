"""kill -9 of the ingest service, again and again, while it reads: nothing is lost, nothing comes twice."""

import asyncio
import os
import random
import signal
import socket
import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest

from anamnesis.contracts.episodes import BatchResult, EpisodeBatch
from tests.anamnesis.transcripts.destination import Memory
from tests.anamnesis.transcripts.writing import Script
from tests.services.ingest.conftest import SERVICE_KEY, WRITER_KEY, MemoryPeer

ROOT = Path(__file__).parents[3]
ASKED = "What do we do about the flaky upload test that fails every other night?"
KILLS = 4
SESSIONS, TURNS = 20, 60
PATIENCE = 100  # seconds for a start, or for the end of a run, on a loaded machine


class Gate(Memory):
    """Takes so many batches and lets the others wait, so that a kill always finds some under way."""

    def __init__(self) -> None:
        super().__init__()
        self.may_pass = asyncio.Semaphore(0)
        self.waits = asyncio.Event()

    async def push(self, batch: EpisodeBatch) -> BatchResult:
        if self.may_pass.locked():
            self.waits.set()
        await self.may_pass.acquire()
        return await super().push(batch)

    def let_pass(self, batches: int) -> None:
        self.waits.clear()
        for _ in range(batches):
            self.may_pass.release()


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_kills_lose_nothing_and_repeat_little(peer: MemoryPeer, tmp_path: Path) -> None:
    """After any number of kills and one quiet run memory holds every exchange once, and little was sent again."""
    dice = random.Random(20260301)
    expected = set()
    for number in range(SESSIONS):
        script = Script(session=f"s{number}", prefix=f"{number:02d}")
        for turn in range(TURNS):
            script.user(f"{ASKED} ({number}, {turn})")
            expected.add(script.last)
            script.says("It waits for the upload itself now.")
        (tmp_path / f"s{number}.jsonl").write_bytes(script.data)
    peer.memory = memory = Gate()
    for _ in range(KILLS):
        memory.let_pass(dice.randint(0, 2))  # those that an earlier process had sent count: their answers are lost
        process = await _start(peer, tmp_path)
        async with asyncio.timeout(PATIENCE):
            await memory.waits.wait()
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert 0 < len(memory.episodes) < SESSIONS * TURNS
    memory.let_pass(1_000)
    process = await _start(peer, tmp_path)
    async with asyncio.timeout(PATIENCE):
        while len(memory.marks) < SESSIONS:  # noqa: ASYNC110 -- seen from outside
            await asyncio.sleep(0.02)
    process.terminate()
    await process.wait()
    assert {one.source.uuid for one in memory.episodes.values() if one.source} == expected
    sent = Counter(memory.pushed)
    # A kill costs at most the batches that were under way: two, of up to 150 episodes.
    assert sum(count - 1 for count in sent.values()) <= KILLS * 2 * 150


async def _start(peer: MemoryPeer, root: Path) -> asyncio.subprocess.Process:
    """A fresh ingest process that has been asked to begin."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANAMNESIS_")},
        "ANAMNESIS_INGEST_PORT": str(port),
        "ANAMNESIS_MEMORY_URL": peer.url,
        "ANAMNESIS_SERVICE_KEY": SERVICE_KEY,
        "ANAMNESIS_TRANSCRIPT_ROOTS": str(root),
        "ANAMNESIS_INGEST_INSTANCE": "laptop",
        "ANAMNESIS_INGEST_POLL": "0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.ingest", cwd=ROOT, env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    headers = {"X-API-Key": WRITER_KEY}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as http:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    (await http.post("/api/jsonl/ingest", timeout=5)).raise_for_status()
                    return process
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
