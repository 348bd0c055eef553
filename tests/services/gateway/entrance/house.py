"""A gateway on a real port before memory's real keys, and browsers that keep cookies."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from pydantic import HttpUrl, JsonValue, SecretStr

from anamnesis.contracts.keys import Identity, KeyCreate, KeyCreated, KeyKind, Scope
from anamnesis.kit.app import create_app
from anamnesis.kit.auth import ServiceKey
from anamnesis.kit.errors import Unavailable
from services.gateway.settings import GatewaySettings
from services.memory.endpoints import keys as key_endpoints
from services.memory.keys import StoredKeys
from services.memory.last_used import LastUsed
from services.memory.stores.sqlite import SqliteStore

from ..conftest import SERVICE_KEY, gateway


class House:
    """Where the gateway is, and what memory knows and has seen."""

    def __init__(self, keys: StoredKeys, url: str, memory: "Memory") -> None:
        self.keys = keys
        self.url = url
        self.memory = memory

    async def key(self, scope: Scope = Scope.ADMIN, days: float | None = None) -> KeyCreated:
        name = f"key of scope {scope}"
        return await self.keys.create(KeyCreate.model_validate({"name": name, "scope": scope, "expires_in_days": days}))

    def browser(self, **headers: str) -> "Browser":
        return Browser(self.url, headers)

    async def logged_in(self, **headers: str) -> "Browser":
        """A browser that came in by a link."""
        browser = self.browser(**headers)
        answer = await browser.log_in(token=await self.link())
        assert answer.status == 303
        return browser

    async def link(self) -> str:
        """The token of a fresh link."""
        async with (
            caller(self.url, SERVICE_KEY) as session,
            session.post("/api/login-links") as answer,
        ):
            assert answer.status == 201
            path: str = (await answer.json())["path"]
        found = re.fullmatch(r"/login\?token=([A-Za-z0-9_-]{43})", path)
        assert found is not None
        return found[1]

    async def sessions(self) -> list[str]:
        """The ids of browsers' sessions."""
        return [one.key_id for one in await self.keys.list() if one.kind is KeyKind.BROWSER]


class Memory:
    """What stands behind the gateway besides keys: it writes down what arrives."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], Identity]] = []
        self.away = False

    def routes(self) -> APIRouter:
        router = APIRouter()

        @router.api_route("/api/episodes/{rest:path}", methods=["GET", "POST", "DELETE"])
        async def any_(request: Request) -> dict[str, JsonValue]:
            self.seen.append((request.method, request.url.path, dict(request.headers), request.state.identity))
            return {"scope": request.state.identity.scope}

        return router


class Browser:
    """Keeps cookies and says where a request comes from, as browsers do."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self.url = url
        self.session = aiohttp.ClientSession(
            base_url=url,
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            headers={"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0", **headers},
            timeout=aiohttp.ClientTimeout(total=20),
        )

    async def __aenter__(self) -> "Browser":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    @property
    def cookie(self) -> str:
        """The session's cookie; empty = there is none."""
        found = {cookie.key: cookie.value for cookie in self.session.cookie_jar}
        return found.get("anamnesis_session", "")

    async def log_in(self, origin: str | None = None, **form: str) -> aiohttp.ClientResponse:
        headers = {"Origin": origin if origin is not None else self.url}
        answer = await self.session.post("/login", data=form, headers=headers, allow_redirects=False)
        await answer.read()
        return answer

    async def csrf(self) -> str:
        async with self.session.get("/api/session") as answer:
            assert answer.status == 200
            token: str = (await answer.json())["csrf_token"]
            return token

    async def send(self, method: str, path: str, **headers: str) -> aiohttp.ClientResponse:
        answer = await self.session.request(method, path, headers=headers, allow_redirects=False)
        await answer.read()
        return answer

    async def own(self, method: str, path: str, **headers: str) -> aiohttp.ClientResponse:
        """A request as a page of ours makes it."""
        return await self.send(method, path, **{"Origin": self.url, "X-CSRF-Token": await self.csrf(), **headers})


def caller(url: str, key: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=aiohttp.ClientTimeout(total=20)
    )


@asynccontextmanager
async def house(
    directory: Path, *, rate: str = "6000/minute", path: str = "", days: float = 30.0
) -> AsyncIterator[House]:
    store = SqliteStore(directory / "keys.db")
    await store.open()
    uses = LastUsed(store)
    keys = StoredKeys(store, uses)
    behind = Memory()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    async def ready() -> None:
        if behind.away:
            raise Unavailable("memory is away")

    holder = ServiceKey(SecretStr(SERVICE_KEY), keys)
    app = create_app(
        "memory",
        routers=[key_endpoints.routes(keys, on_revoked=holder.forget), behind.routes()],
        holder=holder,
        allowed_hosts=["127.0.0.1"],
        ready=ready,
        lifespan=lifespan,
    )
    async with serving(app) as memory:
        settings = GatewaySettings(
            memory_url=HttpUrl(memory),
            ingest_url=HttpUrl(memory),
            service_key=SecretStr(SERVICE_KEY),
            gateway_rate=rate,
            gateway_path=path,
            login_days=days,
        )
        async with gateway(settings) as url:
            yield House(keys, url, behind)
    await uses.close()
    await store.close()


@contextlib.asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """An app on a free port of the loopback; gives its address."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the server did not start"
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 10)
