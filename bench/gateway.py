"""What the gateway adds to an answer: JSON and streams, beside the upstream itself and a plain httpx pass-through.

    python -m bench.gateway [--seconds 8] [--rounds 3] [--json OUT] [--markdown OUT]

Upstream, gateway and pass-through are processes of their own; all paths are measured in turn, round after round in one
run, so that a machine that slows down slows all. Overhead is the difference of medians at one client. LiteLLM's
published overhead is 4.34 ms at the median in a sequential test.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import httpx
import numpy as np

from bench.upstream import PIECES
from tests.e2e.conftest import KEY, SERVICE_KEY
from tests.ports import free_ports

TARGETS = """Targets: overhead at one client p50 <= 1.5 ms for JSON and <= 5 ms over a 64-piece stream; >= 400 JSON
requests a second at 32 clients on 2 cores."""
GENERATE = {"prompt": "Tell me.", "max_tokens": PIECES}
COMPLETE = {"model": "openai", "stream": True, "memory": False, "messages": [{"role": "user", "content": "Tell me."}]}


class Way(NamedTuple):
    """One way to the same bytes."""

    name: str
    method: str
    url: str
    body: object | None
    ends: bytes


class Figures(NamedTuple):
    p50: float
    """Milliseconds at one client."""
    p95: float
    per_second: float
    """At 32 clients."""


@contextlib.contextmanager
def processes(data: Path) -> Iterator[dict[str, str]]:
    """Upstream, pass-through and gateway, ready; their addresses."""
    ports = dict(zip(("upstream", "httpx", "gateway"), free_ports(3), strict=True))
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANAMNESIS_")} | {
        "ANAMNESIS_DATA_DIR": str(data),
        "ANAMNESIS_SERVICE_KEY": SERVICE_KEY,
        "ANAMNESIS_GATEWAY_PORT": str(ports["gateway"]),
        "ANAMNESIS_MEMORY_URL": urls["upstream"],
        "ANAMNESIS_INGEST_URL": urls["upstream"],
        "ANAMNESIS_OPENAI_URLS": urls["upstream"] + "/v1",
        "ANAMNESIS_OPENAI_MODEL": "m",
        "ANAMNESIS_LOG_LEVEL": "warning",
        "TRAINER_URLS": urls["upstream"],
    }
    commands = (
        ["bench.upstream", str(ports["upstream"])],
        ["bench.upstream", str(ports["httpx"]), urls["upstream"]],
        ["services.gateway"],
    )
    running = [subprocess.Popen([sys.executable, "-m", *command], env=environment) for command in commands]
    try:
        for url in urls.values():
            until = time.monotonic() + 60
            while time.monotonic() < until:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{url}/ready", timeout=2, trust_env=False).status_code == 200:
                        break
                time.sleep(0.1)
        yield urls
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(timeout=30)


async def once(session: aiohttp.ClientSession, path: Way) -> float:
    """Milliseconds of one request, its answer read whole and looked at."""
    started = time.perf_counter()
    async with session.request(path.method, path.url, json=path.body) as answer:
        content = await answer.read()
    took = (time.perf_counter() - started) * 1000
    assert answer.status == 200, (path.name, answer.status, content[:300])
    assert content.rstrip().endswith(path.ends), (path.name, content[-100:])
    return took


async def load(path: Way, clients: int, seconds: float) -> tuple[list[float], float]:
    """Milliseconds of each request, and requests a second."""
    times: list[float] = []
    until = time.perf_counter() + seconds

    async def client(session: aiohttp.ClientSession) -> None:
        while time.perf_counter() < until:
            times.append(await once(session, path))

    headers = {"X-API-Key": KEY}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(once(session, path) for _ in range(clients)))  # connections, and the key's look-up
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return times, len(times) / seconds


def measure(paths: list[Way], seconds: float, rounds: int) -> dict[str, Figures]:
    alone: dict[str, list[float]] = {path.name: [] for path in paths}
    rates: dict[str, list[float]] = {path.name: [] for path in paths}
    for number in range(rounds):
        for path in paths:
            print(f"round {number + 1}/{rounds}: {path.name}", file=sys.stderr)
            alone[path.name] += asyncio.run(load(path, 1, seconds / 2))[0]
            rates[path.name].append(asyncio.run(load(path, 32, seconds / 2))[1])
    return {
        name: Figures(float(np.median(times)), float(np.percentile(times, 95)), float(np.median(rates[name])))
        for name, times in alone.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="for each path in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, processes(Path(scratch)) as urls:
        up, gate, plain = urls["upstream"], urls["gateway"], urls["httpx"]
        paths = [
            Way("JSON, upstream", "GET", f"{up}/api/episodes", None, b"}"),
            Way("JSON, gateway", "GET", f"{gate}/api/episodes", None, b"}"),
            Way("JSON, httpx pass-through", "GET", f"{plain}/api/episodes", None, b"}"),
            Way("stream, upstream", "POST", f"{up}/generate", GENERATE, b"[DONE]"),
            Way("stream, gateway with failover", "POST", f"{gate}/api/anamnesis-gpt/generate", GENERATE, b"[DONE]"),
            Way("stream, gateway /v1/chat/completions", "POST", f"{gate}/v1/chat/completions", COMPLETE, b"[DONE]"),
            Way("stream, httpx pass-through", "POST", f"{plain}/generate", GENERATE, b"[DONE]"),
        ]
        figures = measure(paths, options.seconds, options.rounds)
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    lines = ["| path | p50 ms | p95 ms | added p50 ms | a second at 32 clients |", "|---|---|---|---|---|"]
    for name, one in figures.items():
        direct = figures[name.partition(",")[0] + ", upstream"].p50
        lines.append(f"| {name} | {one.p50:.2f} | {one.p95:.2f} | {one.p50 - direct:.2f} | {one.per_second:.0f} |")
    text = (
        f"# What the gateway adds\n\n`python -m bench.gateway` on {machine}. {' '.join(TARGETS.split())} LiteLLM's "
        f"published median overhead: 4.34 ms.\n\n" + "\n".join(lines) + "\n"
    )
    print(text)
    if options.json:
        found = {"machine": machine, **{name: one._asdict() for name, one in figures.items()}}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
