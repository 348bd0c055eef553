"""The ingest service beside a memory that keeps settings, leases, marks and episodes, and a tree of files."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from pydantic import HttpUrl, SecretStr

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.crawler import CrawlerConfigured, CrawlerStatus, CrawlRun
from services.ingest.settings import IngestSettings
from tests.services.ingest.conftest import SERVICE_KEY
from tests.services.ingest.remembering import ADMIN_KEY, Remembering

NOTE = "# {0}\n\nWhat we decided about {0}: it is done by hand, once a week, and noted down here.\n"


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Remembering]:
    directory = tmp_path / "memory"
    directory.mkdir()
    one = await Remembering(directory).start()
    yield one
    await one.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A machine's root with a project of two notes."""
    root = tmp_path / "machine"
    for name in ("backups", "invoices"):
        note(root, name)
    return root


def note(root: Path, name: str) -> Path:
    path = root / "shop" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(NOTE.format(name))
    return path


def settings(memory: Remembering, *sources: Path, instance: str = "laptop", port: int = 0) -> IngestSettings:
    return IngestSettings(
        memory_url=HttpUrl(memory.url),
        service_key=SecretStr(SERVICE_KEY),
        sources=tuple(map(str, sources)),
        ingest_instance=instance,
        ingest_port=port,
    )


def config(root: Path, **more: object) -> JsonObject:
    """All notes below a root; scans only on request and no watcher, unless told otherwise."""
    body: JsonObject = {
        "machine_roots": [{"instance": "laptop", "path": str(root)}],
        "sources": [{"name": "notes", "kind": "named", "globs": ["*.md"]}],
        "scan_seconds": 0,
        "watch": False,
    }
    return {**body, **more}  # type: ignore[dict-item]


def client(url: str, key: str | None = ADMIN_KEY) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=30)


async def configured(http: httpx.AsyncClient, body: JsonObject) -> CrawlerConfigured:
    answer = await http.put("/api/crawler/config", json=body)
    assert answer.status_code == 200, answer.text
    return CrawlerConfigured.model_validate_json(answer.content)


async def until(
    http: httpx.AsyncClient, wanted: Callable[[CrawlerStatus], bool], within: float = 30.0
) -> CrawlerStatus:
    """The status as soon as it is as wanted."""
    async with asyncio.timeout(within):
        while True:
            answer = await http.get("/api/crawler/status")
            if answer.status_code == 200:
                status = CrawlerStatus.model_validate_json(answer.content)
                if wanted(status):
                    return status
            await asyncio.sleep(0.05)


async def scanned(http: httpx.AsyncClient, *, anew: bool = False) -> CrawlRun:
    """A scan that was asked for, when it is over."""
    answer = await http.post("/api/crawler/scan", json={"anew": anew})
    assert answer.status_code == 202, answer.text
    run_id = answer.json()["run"]["run_id"]
    status = await until(http, lambda one: one.last is not None and one.last.run_id == run_id)
    assert status.last is not None
    return status.last
