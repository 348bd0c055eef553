"""Keys at memory's endpoints: who may make which, and that a revoked one opens nothing from then on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from anamnesis.contracts.keys import KeyCreate, KeyCreated, Scope
from anamnesis.kit.app import create_app
from anamnesis.kit.auth import ServiceKey, key_hash
from services.memory.endpoints import keys as endpoints
from services.memory.keys import StoredKeys
from services.memory.last_used import LastUsed
from services.memory.stores.sqlite import SqliteStore

SERVICE = {"X-API-Key": "anm_the-key-between-services"}


@pytest.fixture
async def keys(tmp_path: Path) -> AsyncIterator[StoredKeys]:
    store = SqliteStore(tmp_path / "keys.db")
    await store.open()
    uses = LastUsed(store)
    yield StoredKeys(store, uses)
    await uses.close()
    await store.close()


@pytest.fixture
async def client(keys: StoredKeys) -> AsyncIterator[httpx.AsyncClient]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    async def ready() -> None:
        pass

    holder = ServiceKey(SecretStr(SERVICE["X-API-Key"]), keys)
    app = create_app(
        "memory",
        routers=[endpoints.routes(keys, on_revoked=holder.forget)],
        holder=holder,
        allowed_hosts=["memory"],
        ready=ready,
        lifespan=lifespan,
    )
    admin = await keys.create(KeyCreate(name="admin", scope=Scope.ADMIN))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://memory", headers={"X-API-Key": admin.key}
    ) as one:
        yield one


async def test_a_key_is_shown_once(client: httpx.AsyncClient) -> None:
    """The answer to its making holds the key; the list holds neither key nor hash."""
    answer = await client.post("/api/keys", json={"name": "laptop", "scope": "write", "expires_in_days": 7})
    assert answer.status_code == 201
    made = KeyCreated.model_validate_json(answer.content)
    listed = await client.get("/api/keys")
    assert listed.status_code == 200
    assert [key["name"] for key in listed.json()["keys"]] == ["admin", "laptop"]
    assert made.key not in listed.text
    assert key_hash(made.key) not in listed.text
    assert set(listed.json()["keys"][1]) == {
        *("key_id", "name", "scope", "kind", "created_at", "last_used", "expires_at", "parent")
    }


@pytest.mark.parametrize("scope", ["read", "write"])
async def test_keys_are_the_affair_of_admins(client: httpx.AsyncClient, scope: str) -> None:
    """Other scopes neither see keys nor make nor revoke any."""
    made = (await client.post("/api/keys", json={"name": "other", "scope": scope})).json()
    other = {"X-API-Key": made["key"]}
    assert (await client.get("/api/keys", headers=other)).status_code == 403
    wish = {"name": "x", "scope": scope}
    assert (await client.post("/api/keys", json=wish, headers=other)).status_code == 403
    assert (await client.delete(f"/api/keys/{made['key_id']}", headers=other)).status_code == 403


async def test_a_revoked_key_opens_nothing_at_once(client: httpx.AsyncClient) -> None:
    """Memory itself does not go by an answer that it has kept."""
    made = (await client.post("/api/keys", json={"name": "other", "scope": "admin"})).json()
    other = {"X-API-Key": made["key"]}
    assert (await client.get("/api/keys", headers=other)).status_code == 200
    gone = await client.delete(f"/api/keys/{made['key_id']}")
    assert (gone.status_code, gone.json()) == (200, {"key_ids": [made["key_id"]]})
    assert (await client.get("/api/keys", headers=other)).status_code == 401


async def test_the_last_admin_key_says_what_to_do(client: httpx.AsyncClient) -> None:
    """Revoking the last admin key without an end is 409 with the way out; an unknown one is 404."""
    (admin,) = (await client.get("/api/keys")).json()["keys"]
    refused = await client.delete(f"/api/keys/{admin['key_id']}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert "create another one first" in refused.json()["error"]["message"]
    assert (await client.delete("/api/keys/key_000000000000")).status_code == 404


@pytest.mark.parametrize("extra", [{"kind": "browser"}, {"parent": "key_1"}])
async def test_only_the_gateway_makes_sessions_of_browsers(client: httpx.AsyncClient, extra: dict[str, str]) -> None:
    """An admin who asks for one is refused; the key between services may."""
    wish = {"name": "browser on Firefox", "scope": "admin", "expires_in_days": 30, **extra}
    assert (await client.post("/api/keys", json=wish)).status_code == 403
    assert (await client.post("/api/keys", json=wish, headers=SERVICE)).status_code == (
        404 if "parent" in extra else 201
    )


@pytest.mark.parametrize(
    "wish",
    [
        {"name": "x", "scope": "service"},
        {"name": "x", "scope": "root"},
        {"name": "", "scope": "read"},
        {"name": "x" * 201, "scope": "read"},
        {"name": "x", "scope": "read", "expires_in_days": 0},
        {"name": "x", "scope": "read", "expires_in_days": 1e9},
        {"name": "x", "scope": "read", "hash": "0" * 64},
    ],
)
async def test_what_is_no_wish_is_refused(client: httpx.AsyncClient, wish: dict[str, object]) -> None:
    """No key between services, no name that is none, no end outside the calendar."""
    assert (await client.post("/api/keys", json=wish)).status_code == 422
