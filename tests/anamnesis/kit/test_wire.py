"""What a stranger can make a service hold: heads without end, heads that never end, answers that nobody takes."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from anamnesis.kit.wire import MAX_HEAD, BoundedHttp
from tests.ports import free_ports

ROOT = Path(__file__).parents[3]
WITHIN = 20.0  # seconds after which a test gives up


class Quick(BoundedHttp):
    """The same with less patience."""

    head_within = 0.3
    stuck = 0.5


class App:
    """Reads a body and answers with its length; at `/much` it answers more than anybody takes."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.left = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.headers = scope["headers"]
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        if scope["path"] == "/much":
            watch = asyncio.create_task(self._gone(receive))
            while not watch.done():
                await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
            return
        await send({"type": "http.response.body", "body": str(size).encode(), "more_body": False})

    async def _gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()


@contextlib.asynccontextmanager
async def served(app: App, protocol: type[BoundedHttp]) -> AsyncIterator[int]:
    config = uvicorn.Config(app, port=0, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the server did not start"
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, WITHIN)


@pytest.fixture
def app() -> App:
    return App()


async def ask(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """All that comes back until the server ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = bytearray()

    async def read() -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                answer.extend(piece)

    reading = asyncio.create_task(read())
    try:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
        await asyncio.wait_for(reading, WITHIN)
    finally:
        writer.close()
    return bytes(answer)


HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
LINES = b"".join(b"x-%d: %s\r\n" % (number, b"a" * 500) for number in range(1_000))


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param((HEAD, *[LINES] * 20, b"\r\n"), id="many headers"),
        pytest.param((HEAD + b"x: ", *[b"a" * MAX_HEAD] * 3), id="a header that does not end"),
        pytest.param((HEAD, *[b"a" * MAX_HEAD] * 3), id="a name that does not end"),
        pytest.param((b"GET /", *[b"a" * MAX_HEAD] * 3), id="an address that does not end"),
        pytest.param((HEAD + b"a: b\r\n" * 10_000 + b"\r\n",), id="ten thousand short headers"),
        pytest.param(
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", *[b"a" * MAX_HEAD] * 3), id="an extension of a chunk"
        ),
        pytest.param((HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", *[LINES] * 3), id="headers after the body"),
    ],
)
async def test_a_head_has_a_bound(app: App, pieces: tuple[bytes, ...]) -> None:
    """However a stranger makes a head long, it is refused and the connection ended before it takes memory."""
    async with served(app, BoundedHttp) as port:
        answer = await ask(port, *pieces)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 "), answer[:80]
    assert sum(map(len, (part for header in app.headers for part in header))) <= MAX_HEAD


async def test_what_is_no_head_has_no_bound(app: App) -> None:
    """A long body, whole or in chunks, one request after the other, and a head that comes in pieces are taken."""
    body = b"b" * (3 * MAX_HEAD)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [body[:50_000]] * 20) + b"0\r\n\r\n"
    first = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with served(app, BoundedHttp) as port:
        answer = await ask(port, first, first, HEAD, b"Transfer-Enc", b"oding: chunked\r\n\r\n", chunks)
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert b"196608" in answer
    assert b"1000000" in answer


@pytest.mark.parametrize("pieces", [[], [b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 20], [b"\r\n"] * 20])
async def test_a_head_that_does_not_end_ends_the_connection(app: App, pieces: list[bytes]) -> None:
    """Who connects and says nothing, or never ends what was begun, is let go; a byte now and then does not help."""
    async with served(app, Quick) as port:
        answer = await ask(port, *pieces, pause=0.05)
    assert answer == b""


async def test_the_next_request_of_a_connection_has_a_bound_too(app: App) -> None:
    """A connection that was of use once is not held open by half a request."""
    async with served(app, Quick) as port:
        answer = await ask(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /", *[b"a"] * 20, pause=0.05)
    assert answer.count(b"HTTP/1.1 200 ") == 1


async def test_a_slow_body_is_not_a_late_head(app: App) -> None:
    """The time for a head ends with the head: a body that takes its time is for others to judge."""
    async with served(app, Quick) as port:
        answer = await ask(port, HEAD + b"Content-Length: 10\r\n\r\n", *[b"b"] * 10, pause=0.1)
    assert answer.endswith((b"10\r\n0\r\n\r\n", b"10"))


async def test_a_reader_that_takes_nothing_is_cut_off(app: App) -> None:
    """Its connection ends, with what waits for it, although it never reads and never leaves."""
    async with served(app, Quick) as port:
        with socket.create_connection(("127.0.0.1", port)) as reader:
            reader.sendall(b"GET /much HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await asyncio.wait_for(app.left.wait(), WITHIN)


async def test_asking_for_websocket_fills_no_log(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """A stranger's upgrade is answered like any request, and nothing is written of it."""
    async with served(app, BoundedHttp) as port:
        answer = await ask(
            port, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
        )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert not caplog.records


SERVE = """
import sys
from contextlib import asynccontextmanager
from anamnesis.kit.app import create_app
from anamnesis.kit.server import serve

class Nobody:
    async def identify(self, hash):
        return None

@asynccontextmanager
async def lifespan(app):
    yield

async def ready():
    pass

app = create_app("t", routers=[], holder=Nobody(), allowed_hosts=["127.0.0.1"], ready=ready, lifespan=lifespan)
serve(app, "127.0.0.1", int(sys.argv[1]))
"""


@pytest.fixture
def service() -> Iterator[int]:
    [port] = free_ports(1)
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(port)], cwd=ROOT)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


async def test_services_are_served_so(service: int) -> None:
    """The way in which every service is run has these bounds."""
    async with asyncio.timeout(60):
        while True:
            try:
                answer = await ask(service, HEAD, *[LINES] * 20)
                break
            except OSError:
                await asyncio.sleep(0.1)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert b" 200 " in await ask(service, b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
