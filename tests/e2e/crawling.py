"""The crawler of a running stack, as tests drive it: configured, waited for, and looked at through the gateway."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from anamnesis.contracts.crawler import CrawlerConfig, CrawlerConfigured, CrawlerStatus, MachineRoot, Source, SourceKind
from anamnesis.contracts.episodes import Episode
from tests.e2e.conftest import Stack

WITHIN = 120.0  # seconds that anything may take on a loaded machine


def config_of(root: Path, *sources: Source, scan: float = 0, watch: bool = False) -> CrawlerConfig:
    """All sources below one directory."""
    return CrawlerConfig(
        machine_roots=(MachineRoot(instance="laptop", path=str(root)),),
        sources=sources,
        scan_seconds=scan,
        watch=watch,
    )


def code(name: str = "code") -> Source:
    return Source(name=name, kind=SourceKind.NAMED, globs=("**/*",))


def documents() -> Source:
    return Source(name="papers", kind=SourceKind.DOCUMENTS, globs=("papers/**",))


def configure(stack: Stack, config: CrawlerConfig) -> None:
    with stack.client() as client:
        version = CrawlerConfigured.model_validate_json(client.get("/api/crawler/config").content).version
        done = client.put("/api/crawler/config", params={"version": version}, json=config.model_dump(mode="json"))
        assert done.status_code == 200, done.text


def status(client: httpx.Client) -> CrawlerStatus:
    answer = client.get("/api/crawler/status")
    assert answer.status_code == 200, answer.text
    return CrawlerStatus.model_validate_json(answer.content)


def scan(stack: Stack, within: float = WITHIN) -> CrawlerStatus:
    """One whole scan that begins now."""
    with stack.client() as client:
        deadline = time.monotonic() + within
        while True:
            begun = client.post("/api/crawler/scan")
            assert begun.status_code == 202, begun.text
            if begun.json()["started"]:
                break
            assert time.monotonic() < deadline, begun.text
            time.sleep(0.1)
        run_id = begun.json()["run"]["run_id"]
        while True:
            now = status(client)
            if now.last is not None and now.last.run_id == run_id:
                return now
            assert time.monotonic() < deadline, now
            time.sleep(0.1)


def eventually(what: Callable[[], bool], within: float = WITHIN, told: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + within
    while not what():
        assert time.monotonic() < deadline, told()
        time.sleep(0.2)


def exported(stack: Stack) -> list[Episode]:
    with stack.client() as client:
        answer = client.post("/api/episodes/export", json={})
        assert answer.status_code == 200, answer.text
    return [Episode.model_validate(json.loads(line)) for line in answer.text.splitlines()]


def current(stack: Stack) -> Mapping[str, str]:
    """What the crawler remembers now: a file's name and its text, of all parts that nothing has replaced."""
    found: dict[str, list[tuple[int, str]]] = {}
    for one in exported(stack):
        if one.source.kind in ("file", "document") and one.superseded_by is None and "deleted" not in one.tags:
            place = (one.source.line or one.source.position or 0, one.raw_exchange or "")
            found.setdefault(Path(one.source.path or "").name, []).append(place)
    return {name: "\n".join(text for _, text in sorted(parts)) for name, parts in found.items()}
