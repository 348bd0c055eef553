"""How fast the embedded store searches, beside exact numpy over the same matrix and beside FTS5, in one run.

    python -m bench.search_exact [--episodes 50000] [--dimension 384] [--rounds 200] [--json OUT] [--markdown OUT]

A child process fills a store with seeded episodes (60 terms each, Zipf over 50,000 words; ten projects, a hundred
instances, sessions of twenty), so that this one measures what a service that starts up would. The store's figures
are whole calls of `candidates`: filter, cosine of every episode, BM25 over eight terms, neighbours, the event
loop's hops. numpy's are `M @ q` and `argpartition` alone.
"""

import argparse
import asyncio
import hashlib
import json
import os
import platform
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anamnesis.contracts.episodes import Episode, EpisodeSource
from services.memory.stores.base import CandidateQuery, Filter, Record, Vectors
from services.memory.stores.sqlite import SqliteStore

MODEL = "bench"
WORDS = 50_000
STOP_WORDS = 20
"""Ranks of Zipf's law that are not indexed; the most frequent word that is lies in a third of the episodes."""
TERMS = 60
QUERY_TERMS = 8
LIMIT = 50
PROJECTS = 10
INSTANCES = 100
BATCH = 500
CLIENTS = 8
START = datetime(2025, 1, 1, tzinfo=UTC)
FTS_ROUNDS = 20
BLAS_THREADS = "OPENBLAS_NUM_THREADS"


class Times(NamedTuple):
    """Milliseconds."""

    p50: float
    p95: float
    cpu_p50: float
    """Of all this process's threads: what a busy machine cannot blur."""


class Taken(NamedTuple):
    """Seconds of one call."""

    wall: float
    cpu: float


def words(count: int, episodes: int) -> NDArray[np.int64]:
    """(episodes, count): word numbers, Zipf distributed, seeded; the head is gone, as stop words are left out."""
    generator = np.random.default_rng(11)
    weights = 1.0 / (STOP_WORDS + np.arange(1, WORDS + 1))
    return generator.choice(WORDS, size=(episodes, count), p=weights / weights.sum())


def matrix(episodes: int, dimension: int) -> Vectors:
    """(episodes dimension): unit vectors around 200 topics, seeded."""
    generator = np.random.default_rng(7)
    topics = generator.standard_normal((200, dimension), dtype=np.float32)
    vectors = generator.standard_normal((episodes, dimension), dtype=np.float32)
    vectors += topics[generator.integers(0, len(topics), episodes)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def records(episodes: int, dimension: int) -> list[Record]:
    vectors, spoken = matrix(episodes, dimension), words(TERMS, episodes)
    return [
        Record(
            Episode(
                episode_id=f"ep_{number:08}",
                timestamp=START + timedelta(minutes=number),
                ingested_at=START,
                instance=f"machine-{number * 7919 % INSTANCES}",
                project=f"project-{number * 104_729 % PROJECTS}",
                summary=" ".join(f"w{word}" for word in spoken[number]),
                tags=(f"tag-{number % 20}",),
                source=EpisodeSource(kind="bench", session=f"session-{number // 20}", position=number % 20),
                embedding_model=MODEL,
                content_hash=hashlib.sha256(str(number).encode()).hexdigest(),
            ),
            vectors[number : number + 1],
            Counter(f"w{word}" for word in spoken[number]),
        )
        for number in range(episodes)
    ]


async def build(path: Path, episodes: int, dimension: int) -> float:
    """Fill a store; returns episodes a second."""
    made = records(episodes, dimension)
    store = SqliteStore(path)
    await store.open()
    await store.activate(MODEL)
    started = time.perf_counter()
    for at in range(0, episodes, BATCH):
        await store.insert(made[at : at + BATCH])
    seconds = time.perf_counter() - started
    await store.close()
    return episodes / seconds


def questions(rounds: int, episodes: int, dimension: int) -> list[tuple[NDArray[np.float32], tuple[str, ...]]]:
    """Noisy copies of episodes, with words of theirs."""
    generator = np.random.default_rng(3)
    vectors, spoken = matrix(episodes, dimension), words(TERMS, episodes)
    made = []
    for number in generator.integers(0, episodes, rounds):
        vector = vectors[number] + generator.standard_normal(dimension, dtype=np.float32) * 0.05
        terms = tuple(f"w{word}" for word in generator.choice(spoken[number], QUERY_TERMS, replace=False))
        made.append((vector / np.linalg.norm(vector), tuple(dict.fromkeys(terms))))
    return made


class Clock:
    """Measures one call after the other."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def taken(self) -> Taken:
        return Taken(time.perf_counter() - self._wall, time.process_time() - self._cpu)


def summary(taken: Sequence[Taken]) -> Times:
    walls = sorted(one.wall for one in taken)
    cpu = statistics.median(one.cpu for one in taken)
    return Times(statistics.median(walls) * 1e3, walls[int(len(walls) * 0.95)] * 1e3, cpu * 1e3)


def timed(work: Callable[[int], object], rounds: int) -> Times:
    work(0)
    taken = []
    for at in range(rounds):
        clock = Clock()
        work(at)
        taken.append(clock.taken())
    return summary(taken)


def resident() -> float:
    """MB of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def exact(vectors: Vectors, vector: NDArray[np.float32]) -> set[int]:
    scores = vectors @ vector
    return set(np.argpartition(scores, len(scores) - LIMIT)[-LIMIT:].tolist())


async def measured(path: Path, episodes: int, dimension: int, rounds: int) -> dict[str, object]:
    before = resident()
    store = SqliteStore(path)
    started = time.perf_counter()
    await store.open()
    await store.activate(MODEL)
    loaded = time.perf_counter() - started
    held = resident() - before

    asked = questions(rounds, episodes, dimension)
    filters = {
        "none": Filter(),
        "10 %": Filter(project="project-3"),
        "1 %": Filter(instance="machine-42"),
        "tag (5 %)": Filter(tags=("tag-3",)),
        "last 10 % of time": Filter(since=START + timedelta(minutes=int(episodes * 0.9))),
    }
    vectors = matrix(episodes, dimension)
    # Turn by turn, so that a neighbour's load on this machine falls on all of them alike.
    taken: dict[str, list[Taken]] = {name: [] for name in [*filters, "numpy"]}
    found = wanted = 0
    for at, (vector, terms) in enumerate(asked):
        for name, where in filters.items():
            clock = Clock()
            answer = await store.candidates(CandidateQuery(MODEL, vector, terms, where, LIMIT))
            taken[name].append(clock.taken())
            if name == "none":
                ids = {candidate.episode_id for candidate in answer.found}
        clock = Clock()
        best = exact(vectors, vector)
        taken["numpy"].append(clock.taken())
        if at == 0:
            for times in taken.values():
                times.clear()
        wanted += len(best)
        found += len(best & {int(name[3:]) for name in ids})

    together: list[Taken] = []

    async def client(which: int) -> None:
        for vector, terms in asked[which::CLIENTS]:
            clock = Clock()
            await store.candidates(CandidateQuery(MODEL, vector, terms, Filter(), LIMIT))
            together.append(clock.taken())

    whole = Clock()
    await asyncio.gather(*[client(which) for which in range(CLIENTS)])
    spent = whole.taken()
    await store.close()
    kept = {name: summary(seconds) for name, seconds in taken.items()}
    return {
        "load_seconds": loaded,
        "resident_mb": held,
        "recall": found / wanted,
        "store_ms": {name: kept[name]._asdict() for name in filters},
        "numpy_ms": kept["numpy"]._asdict(),
        "ratio_p50": kept["none"].p50 / kept["numpy"].p50,
        "ratio_cpu_p50": kept["none"].cpu_p50 / kept["numpy"].cpu_p50,
        "eight_clients_ms": summary(together)._replace(cpu_p50=spent.cpu / len(asked) * 1e3)._asdict(),
        "eight_clients_per_second": len(asked) / spent.wall,
    }


def full_text(path: Path, episodes: int, dimension: int, rounds: int) -> dict[str, object]:
    """FTS5 over the same words: the ten best by bm25() of any of the question's words."""
    spoken = words(TERMS, episodes)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE VIRTUAL TABLE texts USING fts5 (words, content='', detail=full)")
    started = time.perf_counter()
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO texts (rowid, words) VALUES (?, ?)",
        ((number, " ".join(f"w{word}" for word in spoken[number])) for number in range(episodes)),
    )
    connection.execute("COMMIT")
    built = time.perf_counter() - started
    asked = [terms for _, terms in questions(rounds, episodes, dimension)]

    def ask(at: int) -> object:
        expression = " OR ".join(f'"{term}"' for term in asked[at])
        return connection.execute(
            "SELECT rowid, bm25(texts) FROM texts WHERE texts MATCH ? ORDER BY rank LIMIT ?", (expression, LIMIT)
        ).fetchall()

    times = timed(ask, rounds)
    connection.close()
    return {"ms": times._asdict(), "build_seconds": built}


def table(report: dict[str, object]) -> str:
    """The report as the page that is kept beside this file."""
    text = json.dumps(report)
    plain = json.loads(text)
    lines = [
        "# Exact search in the embedded store",
        "",
        f"`python -m bench.search_exact`, {plain['when']}, {plain['machine']}. {plain['episodes']:,} episodes x "
        f"{plain['dimension']}, {plain['rounds']} questions, the {LIMIT} best by each side; "
        f"BLAS threads: {plain['blas_threads']}.",
        "",
        "| what | p50 ms | p95 ms | CPU p50 ms |",
        "|---|---|---|---|",
        f"| exact numpy: `M @ q`, argpartition | {_cells(plain['numpy_ms'])} |",
        *[f"| store, filter: {name} | {_cells(times)} |" for name, times in plain["store_ms"].items()],
        f"| store, {CLIENTS} clients at once | {_cells(plain['eight_clients_ms'])} |",
        f"| FTS5 bm25(), words alone | {_cells(plain['fts5']['ms'])} |",
        "",
        f"Unfiltered p50 / numpy p50: {plain['ratio_p50']:.2f} (wanted <= 1.5), in CPU time "
        f"{plain['ratio_cpu_p50']:.2f}; load of the machine when this ran: {plain['load']:.1f}.",
        f"Recall of numpy's {LIMIT} best: {plain['recall']:.4f}. "
        f"{CLIENTS} clients: {plain['eight_clients_per_second']:.0f} searches/s.",
        f"Load at start: {plain['load_seconds']:.2f} s. Memory taken by the store: {plain['resident_mb']:.0f} MB. "
        f"Inserts in batches of {BATCH}: {plain['inserts_per_second']:.0f}/s.",
        "",
    ]
    return "\n".join(lines)


def _cells(times: dict[str, float]) -> str:
    return f"{times['p50']:.2f} | {times['p95']:.2f} | {times['cpu_p50']:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--episodes", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if BLAS_THREADS not in os.environ:
        # numpy has been imported already: begin anew, with one thread for numpy and store alike.
        os.execve(
            sys.executable,
            [sys.executable, "-m", "bench.search_exact", *sys.argv[1:]],
            {**os.environ, BLAS_THREADS: "1"},
        )
    if options.build is not None:
        print(asyncio.run(build(options.build, options.episodes, options.dimension)))
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "bench.db"
        size = ["--episodes", str(options.episodes), "--dimension", str(options.dimension)]
        built = subprocess.run(
            [sys.executable, "-m", "bench.search_exact", "--build", str(path), *size],
            check=True,
            capture_output=True,
            text=True,
            timeout=600,
        )
        report: dict[str, object] = {
            "when": datetime.now(UTC).date().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
            f"numpy {np.__version__}, SQLite {sqlite3.sqlite_version}",
            "blas_threads": os.environ[BLAS_THREADS],
            "load": os.getloadavg()[0],
            "episodes": options.episodes,
            "dimension": options.dimension,
            "rounds": options.rounds,
            "inserts_per_second": float(built.stdout),
            **asyncio.run(measured(path, options.episodes, options.dimension, options.rounds)),
            "fts5": full_text(
                Path(directory) / "fts.db", options.episodes, options.dimension, min(options.rounds, FTS_ROUNDS)
            ),
        }
    print(table(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.markdown is not None:
        options.markdown.write_text(table(report))


if __name__ == "__main__":
    main()
