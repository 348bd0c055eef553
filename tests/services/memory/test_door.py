"""The door over a real store, with an embedder that gives every text the same vector."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from anamnesis.contracts.episodes import MAX_PLACE, MAX_RAW, MAX_SUMMARY, EpisodeCreate, EpisodeSource, WriteStatus
from services.memory.blocklist import Blocks, entry
from services.memory.door import Door, create_to_episode
from services.memory.endpoints.transfer import _Importer
from services.memory.stores.base import Filter, Vectors
from services.memory.stores.sqlite import SqliteStore

LONG = "password=ab12cd "  # its mark is longer than the secret


class OneVector:
    """Embeds at once, or when it is let go on."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        yield

    async def passages(self, texts: Sequence[str]) -> tuple[str, list[Vectors]]:
        self.asked.set()
        await self.go_on.wait()
        return "one", [np.full((1, 4), 0.5, np.float32) for _ in texts]


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    store = SqliteStore(tmp_path / "door.db")
    await store.open()
    with ThreadPoolExecutor(1) as workers:
        yield Door(store, Blocks(), OneVector(), workers)
    await store.close()


async def test_what_redaction_lengthens_still_fits(door: Door) -> None:
    """Texts at their bound, full of short secrets, are written and read back within their bounds."""
    create = EpisodeCreate(
        instance="i",
        project="p",
        summary=(LONG * MAX_SUMMARY)[:MAX_SUMMARY],
        raw_exchange=(LONG * MAX_RAW)[: MAX_RAW // 2],
        source=EpisodeSource(kind="api", url=("https://a:ab12cd34@b/ " * MAX_PLACE)[:MAX_PLACE]),
    )
    [written] = await door.write([create])
    assert written.status is WriteStatus.CREATED
    importer = _Importer(door, "skip")
    await importer.take(create_to_episode(create.model_copy(update={"project": "q"})).model_dump_json().encode())
    assert (await importer.finish()).created == 1
    kept, total = await door.store.page(Filter(), 0, 10)
    assert total == len(kept) == 2
    assert all(len(one.summary) <= MAX_SUMMARY and "ab12cd" not in one.summary for one in kept)


@pytest.mark.parametrize("count", [2**63, -1])
async def test_an_import_refuses_counters_that_no_store_keeps(door: Door, count: int) -> None:
    """A hit count out of bounds is a refused line, not an error of the store."""
    whole = create_to_episode(EpisodeCreate(instance="i", project="p", summary="A note."))
    importer = _Importer(door, "skip")
    await importer.take(json.dumps(whole.model_dump(mode="json") | {"retrieval_count": count}).encode())
    result = await importer.finish()
    assert (result.created, result.refused) == (0, 1)
    assert "retrieval_count" in (result.first_refusal or "")


async def test_what_is_forgotten_during_its_embedding_does_not_come_back(door: Door) -> None:
    """A block that arrives between the look at the blocklist and the store still holds."""
    embedder = door.embedder
    assert isinstance(embedder, OneVector)
    embedder.go_on.clear()
    creates = [EpisodeCreate(episode_id=f"e{n}", instance="i", project="p", summary=f"Note {n}.") for n in range(3)]
    writing = asyncio.create_task(door.write(creates))
    await asyncio.wait_for(embedder.asked.wait(), 5)
    door.blocks.add(entry(create_to_episode(creates[1]), "forgotten")[0])
    embedder.go_on.set()
    results = await asyncio.wait_for(writing, 5)
    assert [one.status for one in results] == [WriteStatus.CREATED, WriteStatus.BLOCKED, WriteStatus.CREATED]
    assert sorted(await door.store.get(["e0", "e1", "e2"])) == ["e0", "e2"]
