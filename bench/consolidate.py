"""Consolidation: how long a run over 50,000 episodes takes, and what it would put together in real conversations.

    python -m bench.consolidate [--episodes 50000] [--data ../shared/data/beam-100k] [--chats 5] [--json OUT]
                                [--markdown OUT]

Dry runs over the embedded store, on one thread as the service has it: synthetic episodes of which a hundredth have a
twin, all of them and then only those ingested last, with searches beside the run; then BEAM's chats, if they are
there, whose groups are printed for somebody to judge, beside the pairs that openings alone would have put together.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sentence_transformers import SentenceTransformer
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from anamnesis.contracts.consolidate import Consolidated, ConsolidateRequest
from anamnesis.contracts.embedding import EmbeddingModel
from anamnesis.contracts.episodes import Episode, EpisodeSource
from bench.beam_data import MAX_TOKENS, MODEL, read
from services.memory.blocklist import Blocks
from services.memory.consolidation.run import Consolidator
from services.memory.door import Door, content_hash
from services.memory.removal import Remover
from services.memory.search.text import HEAD_END, cut, tokens_of
from services.memory.stores.base import CandidateQuery, Filter, Record, Vectors
from services.memory.stores.sqlite import SqliteStore

DATA = Path(__file__).parents[2] / "shared/data/beam-100k"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
WIDTH = 384
TWINS = 100
"""One of so many has a twin."""
TARGET_SECONDS = 60.0
_SHOWN = 160  # characters of an example


class Model:
    """The model that is searched with; dry runs embed nothing."""

    active = EmbeddingModel(name="bench", dimension=WIDTH, max_tokens=MAX_TOKENS, licence="none")

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        yield

    async def passages(self, texts: Sequence[str]) -> tuple[str, list[Vectors]]:
        raise NotImplementedError


class House(NamedTuple):
    store: SqliteStore
    consolidator: Consolidator


@asynccontextmanager
async def house(path: Path) -> AsyncIterator[House]:
    """A store and what consolidates it."""
    store, blocks, model = SqliteStore(path), Blocks(), Model()
    await store.open()
    with ThreadPoolExecutor(1) as workers:
        consolidator = Consolidator(store, Door(store, blocks, model, workers), Remover(store, blocks), model)
        await store.prepare("bench", WIDTH)
        await store.activate("bench")
        yield House(store, consolidator)
        await consolidator.close()
    await store.close()


def record(name: str, minute: int, summary: str, raw: str | None, session: str, vectors: Vectors) -> Record:
    episode = Episode(
        episode_id=name,
        timestamp=BEGAN + timedelta(minutes=minute),
        ingested_at=BEGAN + timedelta(minutes=minute),
        instance="bench",
        project="bench",
        summary=summary,
        raw_exchange=raw,
        source=EpisodeSource(kind="bench", session=session),
        embedding_model="bench",
        content_hash=content_hash(summary, raw),
    )
    return Record(episode, vectors, {"bench": 1})


def synthetic(episodes: int) -> list[Record]:
    """Episodes of one to three windows in random directions; a twin repeats the one before it, nearly."""
    generator = np.random.default_rng(1)
    records: list[Record] = []
    vectors = np.zeros((1, WIDTH), dtype=np.float32)
    for number in range(episodes):
        if number % TWINS == 1:
            vectors = vectors + np.float32(0.003) * generator.standard_normal((1, WIDTH), dtype=np.float32)
        else:
            vectors = generator.standard_normal((int(generator.integers(1, 4)), WIDTH), dtype=np.float32)
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        text = f"Number {number} of many. " * 40
        records.append(record(f"ep_{number:06}", number, f"Number {number}.", text, f"s{number % 500}", vectors))
    return records


async def search(store: SqliteStore, times: list[float], question: Vectors) -> None:
    """Search again and again, until cancelled, as one person would."""
    while True:
        began = time.perf_counter()
        await store.candidates(CandidateQuery("bench", question[0], ("bench",), Filter(), 50))
        times.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.05)


class Timed(NamedTuple):
    done: Consolidated
    seconds: float
    processor: float
    """Seconds of one core: what it takes where nobody else wants it."""


async def timed(place: House, request: ConsolidateRequest) -> Timed:
    began, used = time.perf_counter(), time.process_time()
    done = await place.consolidator.run(request)
    return Timed(done, time.perf_counter() - began, time.process_time() - used)


async def measure(path: Path, episodes: int) -> dict[str, float | int | bool]:
    question = np.random.default_rng(2).standard_normal((1, WIDTH)).astype(np.float32)
    question /= np.linalg.norm(question)
    async with house(path) as place:
        records = synthetic(episodes)
        for start in range(0, episodes, 2_000):
            await place.store.insert(records[start : start + 2_000])
        del records
        alone: list[float] = []
        searching = asyncio.create_task(search(place.store, alone, question))
        await asyncio.sleep(3)
        searching.cancel()
        whole = await timed(place, ConsolidateRequest())
        late = BEGAN + timedelta(minutes=episodes - episodes // 100)
        some = await timed(place, ConsolidateRequest(since=late))
        beside: list[float] = []
        searching = asyncio.create_task(search(place.store, beside, question))
        running = asyncio.create_task(place.consolidator.run(ConsolidateRequest()))
        await asyncio.wait({running}, timeout=10)
        running.cancel()
        searching.cancel()
    return {
        "episodes": whole.done.examined,
        "groups": len(whole.done.groups),
        "complete": whole.done.complete,
        "seconds": round(whole.seconds, 1),
        "processor_s": round(whole.processor, 1),
        "newest_hundredth_groups": len(some.done.groups),
        "newest_hundredth_s": round(some.seconds, 1),
        "newest_hundredth_processor_s": round(some.processor, 1),
        "search_p50_ms_alone": round(statistics.median(alone), 1),
        "search_p50_ms_beside": round(statistics.median(beside), 1),
        "search_p99_ms_beside": round(sorted(beside)[int(len(beside) * 0.99)], 1),
    }


async def judge(path: Path, data: Path, chats: Sequence[str]) -> tuple[dict[str, int], str]:
    """What would become one in real conversations, told for somebody to judge."""
    encoder, tokens = SentenceTransformer(str(MODEL), device="cpu"), tokens_of(MODEL)
    texts: dict[str, str] = {}
    openings: dict[str, Vectors] = {}
    async with house(path) as place:
        for chat in (one for one in read(data, "exchange") if one.name in chats):
            windows = [cut(text, MAX_TOKENS, tokens).windows for text in chat.texts]
            flat = [window for own in windows for window in own]
            vectors = np.asarray(encoder.encode(flat, batch_size=32, normalize_embeddings=True), dtype=np.float32)
            parts = np.split(vectors, np.cumsum([len(own) for own in windows])[:-1])
            records = []
            for place_in_chat, (text, own) in enumerate(zip(chat.texts, parts, strict=True)):
                name = f"ep_{chat.name}_{place_in_chat:03}"
                head, _, body = text.partition(HEAD_END)
                texts[name] = head
                openings[name] = own[0]
                records.append(record(name, place_in_chat, head[:20_000], body or None, f"chat {chat.name}", own))
            for sent, kept in zip(records, await place.store.insert(records), strict=True):
                if not kept.created:  # the same text: the store keeps one by itself
                    del openings[sent.episode.episode_id]
        strict = await place.consolidator.run(ConsolidateRequest())
        # As if each exchange were of another session: what the threshold across sources would put together.
        done = await place.consolidator.run(ConsolidateRequest(within_session=0.92))
    together = {frozenset(pair) for one in done.groups for pair in combinations(one.members, 2)}
    alike = [
        (float(openings[one] @ openings[other]), one, other)
        for one, other in combinations(openings, 2)
        if openings[one] @ openings[other] >= 0.92 and frozenset((one, other)) not in together
    ]
    told = [
        f"Of {done.examined} exchanges (chats {', '.join(chats)}): {len(strict.groups)} groups at 0.95, as within a "
        f"session; {len(done.groups)} at 0.92, as across sources.\n"
    ]
    for group in done.groups:
        told.append(f"- one, at {group.similarity:.3f}:")
        told += [f"  - `{name}` {' '.join(texts[name].split())[:_SHOWN]}" for name in group.members]
    for cosine, one, other in sorted(alike, reverse=True):
        told.append(f"- **not** one, though the openings are at {cosine:.3f}:")
        told += [f"  - `{name}` {' '.join(texts[name].split())[:_SHOWN]}" for name in (one, other)]
    figures = {
        "exchanges": done.examined,
        "groups_within_session": len(strict.groups),
        "groups_across_sources": len(done.groups),
        "pairs_by_openings_alone": len(alike) + len(together),
    }
    return figures, "\n".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=50_000)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--chats", nargs="*", default=["5"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, threadpool_limits(1):
        figures = asyncio.run(measure(Path(scratch) / "many.db", options.episodes))
        real: dict[str, int] = {}
        told = f"{options.data} is absent: real conversations were not looked at."
        if options.data.is_dir() and options.chats:
            real, told = asyncio.run(judge(Path(scratch) / "beam.db", options.data, options.chats))
    machine = f"{os.cpu_count()} cores, one used"
    text = (
        f"# Consolidation\n\n`python -m bench.consolidate` on {machine}. Target: 50,000 episodes x {WIDTH} within "
        f"{TARGET_SECONDS:.0f} s.\n\n| | |\n|---|---|\n"
        + "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in figures.items())
        + f"\n\n## In real conversations\n\n{told}\n"
    )
    print(text)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, **figures, "beam": real}, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
