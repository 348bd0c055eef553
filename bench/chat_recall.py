"""What memory adds before a backend is called: recall and prompt building at 50,000 episodes.

    python -m bench.chat_recall [--episodes 50000] [--turns 200] [--json OUT] [--markdown OUT]

A backend in this process notes the moment at which a conversation reaches it. Each question is sent twice in turn,
with and without memory, through `/v1/chat/completions` of a gateway that stands before a real memory service; the
difference is what memory adds. No question is asked twice with memory.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np
from aiohttp import web

from anamnesis.contracts.base import JsonObject
from bench.search_http import question
from bench.upstream import COMPLETED
from tests.e2e.conftest import KEY, Stack

TARGET_MS = 60.0


class Arrival(NamedTuple):
    at: float
    characters: int
    """Of the conversation."""


class Upstream:
    """An OpenAI-compatible server that notes when a conversation arrives."""

    def __init__(self) -> None:
        self.arrivals: dict[str, Arrival] = {}
        """By the marker that the question begins with."""

    async def start(self) -> str:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        content = await request.text()
        marker = content.partition("mark-")[2][:8]
        self.arrivals[marker] = Arrival(time.perf_counter(), len(content))
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"".join(COMPLETED))
        await answer.write_eof()
        return answer


async def measure(url: str, upstream: Upstream, turns: int, clients: int) -> dict[bool, list[float]]:
    """Milliseconds from sending to arrival, with and without memory."""
    times: dict[bool, list[float]] = {True: [], False: []}
    chance = np.random.default_rng(time.perf_counter_ns())
    left = iter(range(turns))

    async def client(session: aiohttp.ClientSession, warm: bool) -> None:
        for _ in left if not warm else range(3):
            text = question(chance)
            for memory in (True, False):
                marker = f"{chance.integers(10**7, 10**8)}"
                body: JsonObject = {
                    "model": "openai",
                    "memory": memory,
                    "messages": [{"role": "user", "content": f"{text} mark-{marker}"}],
                }
                sent = time.perf_counter()
                async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                    assert answer.status == 200, await answer.text()
                    await answer.read()
                if not warm:
                    times[memory].append((upstream.arrivals[marker].at - sent) * 1000)

    async with aiohttp.ClientSession(headers={"X-API-Key": KEY}) as session:
        await client(session, True)
        await asyncio.gather(*(client(session, False) for _ in range(clients)))
    return times


async def run(data: Path, turns: int) -> dict[str, dict[str, float]]:
    upstream = Upstream()
    address = await upstream.start()
    stack = Stack(data, {"ANAMNESIS_OPENAI_URLS": address, "ANAMNESIS_OPENAI_MODEL": "m"})
    figures: dict[str, dict[str, float]] = {}
    try:
        await asyncio.to_thread(stack.start, "memory", "gateway")
        for clients in (1, 4):
            times = await measure(stack.url(), upstream, turns, clients)
            for memory, name in ((False, "without memory"), (True, "with memory")):
                p50, p95 = np.percentile(times[memory], (50, 95)).tolist()
                figures[f"{name}, {clients} at once"] = {"p50": p50, "p95": p95}
            if clients == 1:  # sent in turn: each difference is that of one moment of the machine
                p50, p95 = np.percentile(np.array(times[True]) - np.array(times[False]), (50, 95)).tolist()
                figures["added by memory, 1 at once"] = {"p50": p50, "p95": p95}
    finally:
        await asyncio.to_thread(stack.stop)
        await upstream.stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=50_000)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch)
        command = ["bench.search_http", "--fill", str(data / "anamnesis.db"), "--episodes", str(options.episodes)]
        subprocess.run([sys.executable, "-m", *command], check=True)
        figures = asyncio.run(run(data, options.turns))
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    rows = [f"| {name} | {one['p50']:.1f} | {one['p95']:.1f} |" for name, one in figures.items()]
    text = (
        f"# What memory adds before a backend is called, {options.episodes:,} episodes\n\n"
        f"`python -m bench.chat_recall` on {machine}: milliseconds from sending a turn to its arrival at the backend. "
        f"Target: memory adds <= {TARGET_MS:.0f} ms at p95.\n\n| turns | p50 ms | p95 ms |\n|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )
    print(text)
    if options.json:
        found = {"machine": machine, "episodes": options.episodes, **figures}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
