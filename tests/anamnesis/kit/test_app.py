"""The app factory over a real server: what every service promises, whatever it does."""

import asyncio
import contextlib
import gc
import logging
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import structlog
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import SecretStr
from starlette.types import Message, Receive, Scope, Send

from anamnesis.contracts.base import Contract
from anamnesis.contracts.keys import Identity
from anamnesis.contracts.keys import Scope as KeyScope
from anamnesis.kit.app import create_app
from anamnesis.kit.auth import Needs, ServiceKey, key_hash, new_key
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import Busy, DeadlineExceeded, Forbidden, Invalid, Unauthorized, Unavailable, UpstreamFailed
from anamnesis.kit.hosts import TrustedHosts
from anamnesis.kit.logs import configure

KEY = new_key()
SERVICE = new_key()
READER = new_key()


class OneKey:
    """Knows a single key, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False

    async def identify(self, hash: str) -> Identity | None:
        self.asked += 1
        if self.away:
            raise Unavailable("the keys are away")
        scope = {key_hash(KEY): KeyScope.WRITE, key_hash(READER): KeyScope.READ}.get(hash)
        return Identity(key_id="k", name="one", scope=scope) if scope is not None else None


class Word(Contract):
    word: str


class State:
    def __init__(self) -> None:
        self.holder = OneKey()
        self.ready = True
        self.failures = 0
        self.over = asyncio.Event()
        """Ends what is slow."""
        self.waiting = asyncio.Event()
        """Something slow is under way."""


def app_of(state: State) -> FastAPI:
    router = APIRouter()

    @router.get("/echo/{word}")
    async def echo(word: str) -> Word:
        return Word(word=word)

    @router.post("/take")
    async def take(body: Word) -> Word:
        return body

    @router.post("/size")
    async def size(request: Request) -> Word:
        return Word(word=str(sum([len(piece) async for piece in request.stream()])))

    @router.get("/boom")
    async def boom() -> Word:
        raise ValueError("the secret text of an episode")

    @router.get("/stream")
    async def stream(fault: str) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"begun "
            if fault == "away":
                raise Unavailable("the database is away")
            Word.model_validate({"word": ["the secret text of an episode"]})

        return StreamingResponse(pieces())

    @router.get("/busy")
    async def busy() -> Word:
        state.failures += 1
        if state.failures < 3:
            raise Busy("full", retry_after=0.1)
        return Word(word="through")

    @router.get("/slow")
    async def slow() -> Word:
        state.waiting.set()
        await asyncio.wait_for(state.over.wait(), 60)
        return Word(word="late")

    @router.get("/whoami")
    async def whoami(request: Request) -> Word:
        Needs(KeyScope.ADMIN)(request)
        return Word(word="admin")

    async def ready() -> None:
        if not state.ready:
            raise Unavailable("not yet")

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    return create_app(
        "test",
        routers=[router],
        holder=ServiceKey(SecretStr(SERVICE), state.holder),
        allowed_hosts=["127.0.0.1"],
        ready=ready,
        lifespan=lifespan,
        max_body=1000,
    )


@contextlib.asynccontextmanager
async def served(app: FastAPI, stop_within: int | None = None) -> AsyncIterator[str]:
    """The app behind a real uvicorn on a free port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False)
    config.timeout_graceful_shutdown = stop_within
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 -- uvicorn offers a flag, no event
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 10)


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def url(state: State) -> AsyncIterator[str]:
    async with served(app_of(state)) as address:
        yield address


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": KEY}, trust_env=False) as client:
        yield client


async def test_every_path_needs_a_key_whether_it_exists_or_not(url: str) -> None:
    """Without a key everything but GET /health and /ready answers 401, unknown paths and methods included."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        for path in ("/echo/a", "/nothing", "/openapi.json", "/metrics", "/health/", "/docs"):
            response = await client.get(path)
            assert (response.status_code, response.json()["error"]["code"]) == (401, "unauthorized"), path
        assert (await client.post("/health")).status_code == 401
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/ready")).json() == {"status": "ready"}
        wrong = await client.get("/echo/a", headers={"Authorization": f"Bearer {KEY}x"})
        assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, "Bearer")


async def test_both_header_forms_are_accepted(url: str) -> None:
    """A key is taken as Bearer and as X-API-Key."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        for headers in ({"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}, {"X-API-Key": KEY}):
            assert (await client.get("/echo/a", headers=headers)).json() == {"word": "a"}


async def test_a_reader_changes_nothing(http: httpx.AsyncClient) -> None:
    """A key of scope `read` may GET; everything that could change something is 403 before it is even looked at."""
    reader = {"X-API-Key": READER}
    assert (await http.get("/echo/a", headers=reader)).status_code == 200
    for method, path in (("POST", "/take"), ("PUT", "/nothing"), ("DELETE", "/echo/a"), ("PATCH", "/take")):
        refused = await http.request(method, path, headers=reader)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden"), path
    assert (await http.post("/api/episodes/search", headers=reader)).status_code == 404  # a question, not a change


async def test_an_empty_bearer_does_not_hide_a_key(url: str) -> None:
    """Clients that always send `Authorization: Bearer` may still name their key in the other header."""
    request = f"GET /echo/a HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer\r\nX-API-Key: {KEY}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
    writer.write(request.encode())
    assert (await asyncio.wait_for(reader.readline(), 5)).split()[1] == b"200"
    writer.close()


async def test_a_known_key_is_looked_up_once(state: State, http: httpx.AsyncClient) -> None:
    """The answer about a key is kept for a while; the service key asks nobody."""
    for _ in range(5):
        assert (await http.get("/echo/a")).status_code == 200
    assert state.holder.asked == 1
    assert (await http.get("/echo/a", headers={"X-API-Key": SERVICE})).status_code == 200
    assert state.holder.asked == 1


async def test_nobody_comes_in_while_the_keys_are_away(state: State, http: httpx.AsyncClient) -> None:
    """When keys cannot be checked the answer is 503, never the resource."""
    state.holder.away = True
    assert (await http.get("/echo/a")).json()["error"]["code"] == "unavailable"


async def test_another_host_name_is_refused(http: httpx.AsyncClient) -> None:
    """A page that rebinds its name to this address gets 400, in the one shape, with what to do."""
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::", ""):
        refused = await http.get("/echo/a", headers={"Host": host})
        assert refused.status_code == 400
        if host.isascii() and host.strip("[:"):
            assert "ANAMNESIS_ALLOWED_HOSTS" in refused.json()["error"]["message"]
    assert (await http.get("/echo/a", headers={"Host": "127.0.0.1:1"})).status_code == 200


@pytest.mark.parametrize(
    ("allowed", "host", "known"),
    [
        ("*", "any.example", True),
        ("*.example", "one.example:3010", True),
        ("*.example", "example", False),
        ("*.example", "oneexample", False),
        ("[::1]", "[::1]:3010", True),
        ("LAN.example", "lan.EXAMPLE", True),
        ("lan.example", "lan.example.evil", False),
        ("lan.example", "lan.example evil.example", False),
        ("lan.example", "evil.example lan.example", False),
        ("lan.example", "lan.example lan.example", False),
        ("*", "", False),
    ],
)
async def test_hosts_are_known_by_name(allowed: str, host: str, known: bool) -> None:
    """Ports and case do not count; `*.` stands for all names below one; a request goes to one name."""
    seen: list[int] = []

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(200)

    async def send(message: Message) -> None:
        seen.append(message.get("status", 0))

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "headers": [(b"host", name.encode()) for name in host.split()]}
    await TrustedHosts(inside, [allowed])(scope, receive, send)
    assert seen[0] == (200 if known else 400)


async def test_no_redirect_names_the_service(http: httpx.AsyncClient) -> None:
    """A slash too many is 404: a redirect would send callers of the gateway to an address behind it."""
    assert (await http.get("/echo/a/")).status_code == 404


async def test_a_body_over_the_limit_is_refused(http: httpx.AsyncClient) -> None:
    """Too large a body is 413 in the one shape, announced or chunked."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    for content in (b"x" * 2000, pieces()):
        response = await http.post("/size", content=content)
        assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")
    # Where the framework reads the body by itself it would call that a parsing error.
    response = await http.post("/take", content=pieces(), headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")


async def test_a_bug_shows_nothing_of_what_was_processed(
    http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unhandled error is a 500 that names the request id; neither the answer nor the log quotes its message."""
    response = await http.get("/boom", headers={"X-Request-Id": "req-1"})
    assert response.status_code == 500
    assert "req-1" in response.json()["error"]["message"]
    shown = response.text + "".join(capsys.readouterr())
    assert "secret text" not in shown


@pytest.mark.parametrize(("fault", "told"), [("bug", "unhandled"), ("away", "answer broken off")])
@pytest.mark.parametrize("json", [False, True])
async def test_what_breaks_off_quotes_nothing(
    state: State, capfd: pytest.CaptureFixture[str], fault: str, told: str, json: bool
) -> None:
    """An error after the answer has begun cuts the answer off; the log tells type and place, never the message."""
    structlog.reset_defaults()
    root, held = logging.getLogger(), logging.getLogger().handlers[:]
    root.handlers.clear()
    try:
        configure("test", json=json)
        async with served(app_of(state)) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get("/stream", params={"fault": fault}, headers={"X-API-Key": KEY})
    finally:
        root.handlers[:] = held
        structlog.reset_defaults()
    shown = "".join(capfd.readouterr())
    assert told in shown
    assert "secret text" not in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("json", [False, True])
def test_libraries_log_errors_without_their_messages(capfd: pytest.CaptureFixture[str], json: bool) -> None:
    """What a library logs with an error shows the error's type and place, in the form that ours have."""
    root, held = logging.getLogger(), logging.getLogger().handlers[:]
    root.handlers.clear()
    try:
        configure("test", json=json)
        try:
            raise ValueError("the secret text of an episode")
        except ValueError:
            logging.getLogger("some.library").exception("it went wrong")
    finally:
        root.handlers[:] = held
        structlog.reset_defaults()
    [line] = [line for line in capfd.readouterr().err.splitlines() if "it went wrong" in line]
    assert "ValueError at test_app.py:" in line
    assert "secret" not in line
    assert line.startswith("{") == json


async def test_what_libraries_show_of_data_is_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither the error of a task that nobody waited for, nor a callback's arguments, nor what a client of MCP sent."""
    root, held = logging.getLogger(), logging.getLogger().handlers[:]
    root.handlers.clear()

    async def failing() -> None:
        raise ValueError("the secret text of an episode")

    def broken(text: str) -> None:
        raise ValueError(text)

    try:
        configure("test")
        task = asyncio.create_task(failing())
        await asyncio.wait({task})
        del task
        gc.collect()
        asyncio.get_running_loop().call_soon(broken, "the secret argument")
        await asyncio.sleep(0)
        logging.getLogger("mcp.server.runner").warning("dropped %r: malformed params", "the secret method")
        logging.getLogger("some.library").warning("first line of %s\nsecret second line %s", "it", "x" * 1000)
    finally:
        root.handlers[:] = held
        structlog.reset_defaults()
    shown = capfd.readouterr().err
    assert "secret" not in shown
    assert len(shown.splitlines()) == 4
    assert "Task exception was never retrieved" in shown
    assert "ValueError at test_app.py:" in shown
    assert "Exception in callback" in shown
    assert "dropped %r: malformed params" in shown
    assert "first line of it" in shown


async def test_a_stop_is_told_to_whoever_still_waits(state: State) -> None:
    """A request that the stop cannot wait for is answered with what to do, in our own shape."""
    async with httpx.AsyncClient(headers={"X-API-Key": KEY}, trust_env=False) as client:
        async with served(app_of(state), stop_within=1) as url:
            asking = asyncio.create_task(client.get(f"{url}/slow", timeout=30))
            await asyncio.wait_for(state.waiting.wait(), 10)
        answer = await asking
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert "try again" in answer.json()["error"]["message"]


async def test_a_request_id_comes_back(http: httpx.AsyncClient) -> None:
    """A sane id of the client is kept, any other is replaced."""
    assert (await http.get("/echo/a", headers={"X-Request-Id": "abc-1"})).headers["x-request-id"] == "abc-1"
    assert (await http.get("/echo/a", headers={"X-Request-Id": "a b;c"})).headers["x-request-id"].isalnum()


async def test_what_does_not_fit_is_named_but_not_quoted(http: httpx.AsyncClient) -> None:
    """A 422 says where and why, never the value."""
    response = await http.post("/take", json={"word": ["private words"]})
    assert response.status_code == 422
    assert response.json()["error"]["detail"][0]["where"] == "body.word"
    assert "private words" not in response.text
    response = await http.post("/take", json={"word": "a", "x" * 900: 1})
    assert response.status_code == 422
    assert len(response.content) < 600


async def test_unknown_paths_and_methods_keep_the_shape(http: httpx.AsyncClient) -> None:
    """404 and 405 come in the same envelope, 405 with its Allow header."""
    assert (await http.get("/nothing")).json()["error"]["code"] == "not_found"
    wrong = await http.delete("/echo/a")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
    assert "error" in wrong.json()


async def test_readiness_follows_the_service(state: State, http: httpx.AsyncClient) -> None:
    """/ready flips with the service; /health does not."""
    state.ready = False
    assert (await http.get("/ready")).status_code == 503
    assert (await http.get("/health")).status_code == 200


async def test_metrics_count_by_route_not_by_path(http: httpx.AsyncClient) -> None:
    """Two words are one route; unknown paths share one label, so a scanner cannot grow the metrics."""
    for path in ("/echo/one", "/echo/two", "/x1", "/x2"):
        await http.get(path)
    text = (await http.get("/metrics")).text
    assert 'method="GET",route="/echo/{word}",service="test",status="200"} 2.0' in text
    assert 'route="unmatched",service="test",status="404"} 2.0' in text
    assert "one" not in text


async def test_the_client_reads_typed_answers_and_errors(url: str) -> None:
    """An answer arrives as its contract, an error as the class that the service raised."""
    async with ServiceClient(url, SecretStr(KEY)) as client:
        assert (await client.get("/echo/hi", Word)).word == "hi"
        with pytest.raises(Forbidden):
            await client.get("/whoami", Word)
        with pytest.raises(Invalid):
            await client.request("POST", "/take", Word)
        with pytest.raises(UpstreamFailed):
            await client.get("/openapi.json", Word)
    async with ServiceClient(url, SecretStr("wrong")) as stranger:
        with pytest.raises(Unauthorized):
            await stranger.get("/echo/hi", Word)


async def test_the_client_waits_out_a_busy_service(url: str, state: State, capfd: pytest.CaptureFixture[str]) -> None:
    """429 is tried again when the service said that it makes sense, until it has room, and silently."""
    async with ServiceClient(url, SecretStr(KEY)) as client:
        began = asyncio.get_running_loop().time()
        assert (await client.get("/busy", Word)).word == "through"
    assert state.failures == 3
    assert asyncio.get_running_loop().time() - began >= 2  # twice the second that the service asked for
    assert "retry" not in capfd.readouterr().out  # what a command prints there is read by programs


async def test_the_client_gives_up_at_its_deadline(url: str, state: State) -> None:
    """A deadline is total: a slow service is DeadlineExceeded, an absent one Unavailable, both in time."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with ServiceClient(url, SecretStr(KEY)) as client:
        with pytest.raises(DeadlineExceeded):
            await client.get("/slow", Word, deadline=0.3)
    async with ServiceClient("http://127.0.0.1:9", None) as nobody:
        with pytest.raises(Unavailable):
            await nobody.get("/echo/a", Word, deadline=0.3)
    assert loop.time() - started < 30  # the slow answer takes 60
    state.over.set()
