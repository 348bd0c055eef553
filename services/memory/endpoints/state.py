"""Small state for the other services: documents (offsets), leases, settings."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import StringConstraints

from anamnesis.contracts.base import JsonObject, Name, StorableJson, now
from anamnesis.contracts.episodes import Changed
from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.keys import Scope
from anamnesis.contracts.state import AllDocuments, Documents, Keys, Lease, LeaseRequest, Setting
from anamnesis.kit.auth import Needs
from anamnesis.kit.errors import Conflict, NotFound, TooLarge
from services.memory.stores.base import Store

Namespace = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:@-]{1,200}$"), Path()]
SettingName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$"), Path()]
TOGETHER = 100  # keys that are read together, and deletions that may share one commit
MAX_DOCUMENT = 8 << 20  # bytes as JSON; a document of MongoDB ends at 16 MB
MAX_SETTING = 1 << 20  # bytes
MAX_ANSWER = 64 << 20  # bytes of documents that are asked for by key
_SEPARATOR = "\x1f"  # cannot occur in a namespace


ADMIN = [Depends(Needs(Scope.ADMIN))]


def routes(store: Store, clean: Callable[[JsonObject], Awaitable[JsonObject]]) -> APIRouter:
    """`clean` takes the secrets out of a setting: people write questions and notes into them, and keys that may only
    read can read them."""
    router = APIRouter(tags=["state"])

    @router.get("/api/state/{kind}/{namespace}")
    async def documents(kind: Literal["offsets"], namespace: Namespace) -> AllDocuments:
        """Every document of a namespace."""
        prefix = namespace + _SEPARATOR
        found = await store.list(kind, prefix)
        return AllDocuments(documents={document.key.removeprefix(prefix): document.value for document in found})

    @router.put("/api/state/{kind}/{namespace}", responses={413: {"model": ErrorEnvelope}})
    async def put(kind: Literal["offsets"], namespace: Namespace, body: Documents) -> Changed:
        """Write documents in one durable write; others of the namespace stay."""
        if any(len(json.dumps(value)) > MAX_DOCUMENT for value in body.documents.values()):
            raise TooLarge(f"a document holds at most {MAX_DOCUMENT} bytes")
        await store.write_many(kind, {f"{namespace}{_SEPARATOR}{key}": value for key, value in body.documents.items()})
        return Changed(changed=len(body.documents))

    @router.post("/api/state/{kind}/{namespace}/read", responses={413: {"model": ErrorEnvelope}})
    async def read(kind: Literal["offsets"], namespace: Namespace, body: Keys) -> AllDocuments:
        """The documents of these keys, without those that there are not."""
        prefix = namespace + _SEPARATOR
        keys = [f"{prefix}{key}" for key in dict.fromkeys(body.keys)]
        documents: dict[str, JsonObject] = {}
        size = 0
        for start in range(0, len(keys), TOGETHER):
            for document in await store.read_many(kind, keys[start : start + TOGETHER]):
                documents[document.key.removeprefix(prefix)] = document.value
                size += len(json.dumps(document.value))
            if size > MAX_ANSWER:
                raise TooLarge(f"these documents hold more than {MAX_ANSWER} bytes; ask for fewer keys at a time")
        return AllDocuments(documents=documents)

    @router.post("/api/state/{kind}/{namespace}/remove")
    async def remove(kind: Literal["offsets"], namespace: Namespace, body: Keys) -> Changed:
        """Remove documents by key."""
        changed = 0
        for start in range(0, len(body.keys), TOGETHER):
            keys = [f"{namespace}{_SEPARATOR}{key}" for key in body.keys[start : start + TOGETHER]]
            changed += sum(await asyncio.gather(*(store.delete(kind, key) for key in keys)))
        return Changed(changed=changed)

    @router.post("/api/leases/{name}", responses={409: {"model": ErrorEnvelope}})
    async def lease(name: Namespace, request: LeaseRequest) -> Lease:
        """Take or renew a lease; 409 while another holder has it."""
        present = await store.read("leases", name)
        held = Lease.model_validate(present.value) if present else None
        if held is not None and held.holder != request.holder and held.until > now():
            raise Conflict(f"{held.holder} holds this lease", {"until": held.until.isoformat()})
        taken = Lease(name=name, holder=request.holder, until=now() + timedelta(seconds=request.seconds))
        document = taken.model_dump(mode="json")
        if await store.write("leases", name, document, expect=present.version if present else 0) is None:
            raise Conflict("another holder was faster")
        return taken

    @router.delete("/api/leases/{name}")
    async def release(name: Namespace, holder: Annotated[Name, Query()]) -> Changed:
        """Give a lease back before it lapses."""
        while True:
            present = await store.read("leases", name)
            held = Lease.model_validate(present.value) if present else None
            if present is None or held is None or held.holder != holder or held.until <= now():
                return Changed(changed=0)
            # Never a delete: versions would begin anew, and what was read of this lease would fit a later one.
            lapsed = held.model_copy(update={"until": now()}).model_dump(mode="json")
            if await store.write("leases", name, lapsed, expect=present.version) is not None:
                return Changed(changed=1)

    @router.get("/api/settings/{name}", responses={404: {"model": ErrorEnvelope}})
    async def setting(name: SettingName) -> Setting:
        """A named setting."""
        document = await store.read("settings", name)
        if document is None:
            raise NotFound(f"the setting {name} has never been set")
        return Setting(name=name, value=document.value, version=document.version)

    @router.put("/api/settings/{name}", dependencies=ADMIN, responses={409: {"model": ErrorEnvelope}})
    async def set_setting(
        name: SettingName,
        value: StorableJson,
        version: Annotated[int | None, Query(ge=0, lt=2**53, description="Write only over this version.")] = None,
    ) -> Setting:
        """Write a named setting; with `version` only if nobody wrote meanwhile."""
        if len(str(value)) > MAX_SETTING:
            raise TooLarge(f"a setting holds at most {MAX_SETTING} bytes")
        value = await clean(value)
        written = await store.write("settings", name, value, expect=version)
        if written is None:
            raise Conflict("the setting has changed meanwhile; read it again")
        return Setting(name=name, value=value, version=written)

    return router
