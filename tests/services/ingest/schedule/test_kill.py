"""kill -9 of real services in mid-night, and two of them at once: each step ends once, each day has one night."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from anamnesis.contracts.base import now
from anamnesis.contracts.schedule import Night, ScheduleStatus
from services.ingest.schedule.book import Record
from tests.ports import free_ports
from tests.services.ingest.conftest import SERVICE_KEY, WRITER_KEY
from tests.services.ingest.memory_service import MemoryService, remembering
from tests.services.ingest.test_app import transcript

ROOT = Path(__file__).parents[4]
PATIENCE = 120  # seconds for what a loaded machine may take


@asynccontextmanager
async def process(memory: MemoryService, files: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    (port,) = free_ports(1)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANAMNESIS_")},
        "ANAMNESIS_INGEST_PORT": str(port),
        "ANAMNESIS_MEMORY_URL": memory.url,
        "ANAMNESIS_SERVICE_KEY": SERVICE_KEY,
        "ANAMNESIS_TRANSCRIPT_ROOTS": str(files),
        "ANAMNESIS_INGEST_INSTANCE": "laptop",
        "ANAMNESIS_INGEST_POLL": "0",
    }
    one = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.ingest", cwd=ROOT, env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield one, port
    finally:
        if one.returncode is None:
            one.kill()
            await one.wait()


async def record(memory: MemoryService) -> Record:
    document = await memory.store.read("settings", "nights")
    assert document is not None
    return Record.model_validate(document.value)


async def reached(memory: MemoryService, step: str) -> Night:
    async with asyncio.timeout(PATIENCE):
        while True:
            night = (await record(memory)).current
            if night is not None and any(one.name == step and one.state == "running" for one in night.steps):
                return night
            await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_killed_night_is_gone_on_with_by_the_next(tmp_path: Path) -> None:
    """A night that was slept through begins with the service; killed, it goes on elsewhere, and two end it once."""
    transcript(tmp_path / "files")
    async with remembering(tmp_path) as memory:
        begun = Record(begun=now() - timedelta(days=5))
        await memory.store.write("settings", "nights", begun.model_dump(mode="json"), expect=0)
        memory.hold.clear()
        async with process(memory, tmp_path / "files") as (one, _):
            night = await reached(memory, "consolidation")
            one.send_signal(signal.SIGKILL)
            await one.wait()
        first = len(memory.consolidations)
        await memory.lapse("night")
        memory.hold.set()
        async with process(memory, tmp_path / "files") as (_, port), process(memory, tmp_path / "files") as (_, other):
            async with asyncio.timeout(PATIENCE):
                while (await record(memory)).current is not None:  # noqa: ASYNC110 -- seen from outside
                    await asyncio.sleep(0.05)
            statuses = [await status(port), await status(other)]
    for seen in statuses:
        assert seen.last is not None
        assert (seen.last.run_id, seen.last.state, seen.current) == (night.run_id, "done", None)
        assert seen.last_successful_day == night.day
    assert (first, len(memory.consolidations)) == (1, 2)


async def status(port: int) -> ScheduleStatus:
    headers = {"X-API-Key": WRITER_KEY}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as http:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    return ScheduleStatus.model_validate_json((await http.get("/api/schedule", timeout=20)).content)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
