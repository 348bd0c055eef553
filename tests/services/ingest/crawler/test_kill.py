"""kill -9 of the ingest service, again and again, while it crawls: nothing is lost, nothing comes twice."""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import httpx
import pytest

from anamnesis.contracts.crawler import CrawlerStatus
from tests.ports import free_ports
from tests.services.ingest.conftest import SERVICE_KEY
from tests.services.ingest.crawler.conftest import client, config, note, until
from tests.services.ingest.remembering import Remembering

ROOT = Path(__file__).parents[4]
FILES = 1500
KILLS = 4
LEAST = 2
"""Kills that find a scan with work left, however fast the machine is."""
PATIENCE = 100.0  # seconds for a start, or for the end of a scan, on a loaded machine


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_kills_lose_nothing_and_double_nothing(memory: Remembering, tree: Path) -> None:
    """After any number of kills one quiet start reads the rest by itself, at once: its lease is its own still."""
    dice = random.Random(20260301)
    for number in range(FILES):
        note(tree, f"note{number:03d}")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    process = await _start(memory, tree, port)
    async with client(url) as http:
        await _answering(http)
        assert (await http.put("/api/crawler/config", json=config(tree, scan_seconds=300))).status_code == 200
    interrupted = 0
    for _ in range(KILLS):
        if len(await memory.episodes()) >= FILES:
            break
        memory.vectors.asked.clear()
        async with asyncio.timeout(PATIENCE):
            await memory.vectors.asked.wait()
        await asyncio.sleep(dice.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        interrupted += len(await memory.episodes()) < FILES
        process = await _start(memory, tree, port)
    assert interrupted >= LEAST
    async with client(url) as http:
        await _answering(http)
        status = await until(http, lambda one: one.last is not None and one.current is None, within=PATIENCE)
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 60) in (0, -signal.SIGTERM)
    assert status.last is not None
    assert (status.last.state, status.last.files, status.last.trigger) == ("done", FILES + 2, "schedule")
    current = [one for one in await memory.episodes() if one.superseded_by is None]
    paths = [str(one.source.path) for one in current if one.source]
    assert sorted(paths) == sorted(str(path) for path in (tree / "shop").iterdir())


async def _start(memory: Remembering, root: Path, port: int) -> asyncio.subprocess.Process:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANAMNESIS_")},
        "ANAMNESIS_INGEST_PORT": str(port),
        "ANAMNESIS_MEMORY_URL": memory.url,
        "ANAMNESIS_SERVICE_KEY": SERVICE_KEY,
        "ANAMNESIS_SOURCES": str(root),
        "ANAMNESIS_INGEST_INSTANCE": "laptop",
        "ANAMNESIS_INGEST_POLL": "0",
        "ANAMNESIS_DATA_DIR": str(root.parent / "data"),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.ingest", cwd=ROOT, env=environment, stderr=asyncio.subprocess.DEVNULL
    )


async def _answering(http: httpx.AsyncClient) -> CrawlerStatus:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                answer = await http.get("/api/crawler/status")
                return CrawlerStatus.model_validate_json(answer.content)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
