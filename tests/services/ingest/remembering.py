"""A memory service for the crawler's tests: memory's own endpoints over its own store, one vector for every text."""

import asyncio
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import APIRouter, FastAPI

from anamnesis.contracts.episodes import Episode
from anamnesis.contracts.keys import Identity, KeyCheck, Scope
from anamnesis.kit.app import create_app
from anamnesis.kit.auth import key_hash, new_key
from anamnesis.kit.errors import NotFound
from services.memory.blocklist import Blocks
from services.memory.door import Door
from services.memory.embedding.service import Embedding
from services.memory.endpoints import episodes, state
from services.memory.removal import Remover
from services.memory.settings import MemorySettings
from services.memory.stores.base import Filter
from services.memory.stores.sqlite import SqliteStore
from tests.services.ingest.conftest import READER_KEY, SERVICE_KEY, WRITER_KEY
from tests.services.memory.conftest import OneVector

ADMIN_KEY = new_key()


class Keys:
    """Who may come in: the four kinds of callers."""

    def __init__(self) -> None:
        scopes = {READER_KEY: Scope.READ, WRITER_KEY: Scope.WRITE, ADMIN_KEY: Scope.ADMIN, SERVICE_KEY: Scope.SERVICE}
        self._known = {
            key_hash(key): Identity(key_id=f"k{scope}", name="tests", scope=scope) for key, scope in scopes.items()
        }

    async def identify(self, hash: str) -> Identity | None:
        return self._known.get(hash)


class Remembering:
    """It may be stopped and started again at the same address; `vectors` can make writers wait."""

    def __init__(self, directory: Path) -> None:
        self.store = SqliteStore(directory / "memory.db", timeout=10.0)
        self.vectors = OneVector()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._workers = ThreadPoolExecutor(1)
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._opened = False

    async def start(self) -> "Remembering":
        if not self._opened:
            await self.store.open()
            self._opened = True
        config = uvicorn.Config(
            self._app(), host="127.0.0.1", port=self._port, log_config=None, timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve())
        async with asyncio.timeout(10):
            while not self._server.started:  # noqa: ASYNC110 -- uvicorn has no event for it
                await asyncio.sleep(0.01)
        return self

    async def stop(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
            self._server = self._serving = None

    async def close(self) -> None:
        self.vectors.go_on.set()
        await self.stop()
        await self.store.close()
        self._workers.shutdown()

    async def episodes(self) -> list[Episode]:
        """All that are current, in no order."""
        return [one async for some in self.store.scan(Filter()) for one in some]

    def _app(self) -> FastAPI:
        keys, blocks = Keys(), Blocks()
        door = Door(self.store, blocks, self.vectors, self._workers)
        remover = Remover(self.store, blocks)
        checks = APIRouter()

        @checks.post("/api/keys/check")
        async def check(body: KeyCheck) -> Identity:
            identity = await keys.identify(body.hash)
            if identity is None:
                raise NotFound("no such key")
            return identity

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            yield

        async def ready() -> None:
            return

        return create_app(
            "memory",
            routers=[
                episodes.routes(self.store, door, remover, blocks, Embedding(self.store, MemorySettings())),
                state.routes(self.store, door.clean_json),
                checks,
            ],
            holder=keys,
            allowed_hosts=["127.0.0.1"],
            ready=ready,
            lifespan=lifespan,
        )
