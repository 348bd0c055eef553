"""Memory's own door, store and endpoints on a real port, without its embedding model; and what a test may do to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvicorn
from fastapi import APIRouter, FastAPI
from pydantic import SecretStr

from anamnesis.contracts.consolidate import Consolidated, ConsolidateRequest
from anamnesis.contracts.keys import Identity, KeyCheck, Scope
from anamnesis.contracts.state import AllDocuments, Keys
from anamnesis.kit.app import create_app
from anamnesis.kit.auth import ServiceKey, key_hash, new_key
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import NotFound
from services.memory.blocklist import Blocks
from services.memory.door import Door
from services.memory.embedding.service import Embedding
from services.memory.endpoints import episodes, state
from services.memory.removal import Remover
from services.memory.stores.sqlite import SqliteStore
from tests.services.ingest.conftest import READER_KEY, SERVICE_KEY, WRITER_KEY
from tests.services.memory.conftest import OneVector

ADMIN_KEY = new_key()
SCOPES = {key_hash(ADMIN_KEY): Scope.ADMIN, key_hash(WRITER_KEY): Scope.WRITE, key_hash(READER_KEY): Scope.READ}


class Nobody:
    async def identify(self, hash: str) -> Identity | None:
        scope = SCOPES.get(hash)
        return Identity(key_id="k", name="tests", scope=scope) if scope else None


@dataclass
class MemoryService:
    url: str
    store: SqliteStore
    door: Door
    consolidations: list[ConsolidateRequest] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, consolidations are not answered."""

    def __post_init__(self) -> None:
        self.hold.set()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[ServiceClient]:
        """As another service."""
        async with ServiceClient(self.url, SecretStr(SERVICE_KEY)) as one:
            yield one

    async def lapse(self, lease: str) -> None:
        """As if the time of a lease had passed."""
        present = await self.store.read("leases", lease)
        assert present is not None
        value = {**present.value, "until": "2000-01-01T00:00:00Z"}
        await self.store.write("leases", lease, value, expect=present.version)


@contextlib.asynccontextmanager
async def remembering(directory: Path) -> AsyncIterator[MemoryService]:
    """A memory service over a store in this directory."""
    store = SqliteStore(directory / "memory.db")
    await store.open()
    blocks = Blocks()
    workers = ThreadPoolExecutor(1)
    door = Door(store, blocks, OneVector(), workers)
    remover = Remover(store, blocks)
    service = MemoryService("", store, door)
    rest = APIRouter()

    @rest.post("/api/keys/check")
    async def check(check: KeyCheck) -> Identity:
        identity = await Nobody().identify(check.hash)
        if identity is None:
            raise NotFound("no such key")
        return identity

    @rest.post("/api/episodes/consolidate")
    async def consolidate(request: ConsolidateRequest) -> Consolidated:
        service.consolidations.append(request)
        await service.hold.wait()
        return Consolidated(dry_run=request.dry_run, examined=0, groups=(), superseded=0)

    @rest.post("/api/state/offsets/{namespace}/read")
    async def read(namespace: str, body: Keys) -> AllDocuments:
        found = await store.list("offsets", f"{namespace}\x1f")
        documents = {one.key.partition("\x1f")[2]: one.value for one in found}
        return AllDocuments(documents={key: documents[key] for key in body.keys if key in documents})

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = create_app(
        "memory",
        routers=[
            state.routes(store, door.clean_json),
            episodes.routes(store, door, remover, blocks, cast("Embedding", door.embedder)),
            rest,
            episodes.routes_by_id(store, door, remover),
        ],
        holder=ServiceKey(SecretStr(SERVICE_KEY), Nobody()),
        allowed_hosts=["127.0.0.1"],
        ready=store.ping,
        lifespan=lifespan,
    )
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False)
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:  # noqa: ASYNC110 -- uvicorn has no event for it
            await asyncio.sleep(0.01)
    service.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield service
    finally:
        server.should_exit = True
        await serving
        await store.close()
        workers.shutdown()
