"""What a page that only listens costs the gateway: resident memory for each of thousands of idle event streams.

    python -m bench.idle_pages [--pages 5000] [--seconds 45] [--json OUT] [--markdown OUT]

The gateway is one worker in a process of its own; bare sockets ask for `/api/events` and read whatever comes, through
at least two keep-alives. Beside it, in the same run: how long a JSON request takes without and with the listeners.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp
import psutil

from bench.gateway import processes
from tests.e2e.conftest import KEY

TARGET_KB = 60.0


async def listen(host: str, port: int, pages: int, seconds: float, gateway: psutil.Process) -> dict[str, float]:
    """Opens the pages, keeps them for a while, and looks at the gateway before and with them."""
    url = f"http://{host}:{port}"
    alone = await requests(url)
    before = gateway.memory_info().rss
    received = 0
    asked = f"GET /api/events HTTP/1.1\r\nHost: {host}:{port}\r\nX-API-Key: {KEY}\r\nAccept: text/event-stream\r\n\r\n"
    writers: list[asyncio.StreamWriter] = []

    async def read(reader: asyncio.StreamReader) -> None:
        nonlocal received
        while piece := await reader.read(4096):
            received += len(piece)

    started = time.perf_counter()
    readers: list[asyncio.Task[None]] = []
    for _ in range(pages):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(asked.encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert b" 200 " in head.partition(b"\r\n")[0], head
        writers.append(writer)
        readers.append(asyncio.create_task(read(reader)))
    opened = time.perf_counter() - started
    await asyncio.sleep(seconds)
    gone = sum(task.done() for task in readers)
    after = gateway.memory_info().rss
    beside = await requests(url)
    for writer in writers:
        writer.close()
    await asyncio.gather(*readers, return_exceptions=True)
    assert gone == 0, f"{gone} listeners were dropped"
    return {
        "pages": pages,
        "opened_in_s": round(opened, 1),
        "kb_each": round((after - before) / pages / 1000, 1),
        "rss_before_mb": round(before / 1e6, 1),
        "rss_with_mb": round(after / 1e6, 1),
        "bytes_received_each": round(received / pages),
        "json_p50_ms_alone": round(alone, 2),
        "json_p50_ms_beside": round(beside, 2),
    }


async def requests(url: str) -> float:
    """Median milliseconds of a small JSON request."""
    times: list[float] = []
    async with aiohttp.ClientSession(headers={"X-API-Key": KEY}) as session:
        for _ in range(200):
            started = time.perf_counter()
            async with session.get(f"{url}/api/episodes") as answer:
                await answer.read()
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=45, help="that they stay open")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as scratch, processes(Path(scratch)) as urls:
        host, _, port = urls["gateway"].removeprefix("http://").partition(":")
        [gateway] = [one for one in psutil.Process().children() if "services.gateway" in one.cmdline()]
        figures = asyncio.run(listen(host, int(port), options.pages, options.seconds, gateway))
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    text = (
        f"# Idle pages\n\n`python -m bench.idle_pages` on {machine}. Target: {options.pages} idle listeners on one "
        f"worker within {TARGET_KB:.0f} kB each.\n\n| | |\n|---|---|\n"
        + "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in figures.items())
        + "\n"
    )
    print(text)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, **figures}, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
