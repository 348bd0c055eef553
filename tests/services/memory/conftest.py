"""The door over a real store, with an embedder that gives every text the same vector."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from services.memory.blocklist import Blocks
from services.memory.door import Door
from services.memory.stores.base import Vectors
from services.memory.stores.sqlite import SqliteStore


class OneVector:
    """Embeds at once, or when it is let go on."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.texts = 0

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        yield

    async def passages(self, texts: Sequence[str]) -> tuple[str, list[Vectors]]:
        self.asked.set()
        await self.go_on.wait()
        self.texts += len(texts)
        return "one", [np.full((1, 4), 0.5, np.float32) for _ in texts]


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    store = SqliteStore(tmp_path / "door.db", timeout=3.0)
    await store.open()
    with ThreadPoolExecutor(1) as workers:
        yield Door(store, Blocks(), OneVector(), workers)
    await store.close()
