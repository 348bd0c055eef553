"""A scripted upstream: a real server on loopback that does to a client, byte by byte, what a test says.

It speaks HTTP/1.1 over bare sockets, because no HTTP server would break its own framing, and it sees when its client
goes away, also while it says nothing. It knows no dialect: bodies are lists of byte frames.

    async with Upstream(stream([b"data: {...}\\n\\n"])) as upstream:     # every request is answered with one frame
        ...
    Upstream(respond(500), stream(frames))                              # the first fails, all others are answered
    Upstream(stream(frames, then=Reset()))                              # frames, then a reset connection
    Upstream(stream(frames, then=(Until(read), *BAD_FRAMING)))          # the same with a chunk that is none
    Upstream(script, routes={"GET /ready": respond(503)})               # one path answered otherwise
    with refusing() as url: ...                                         # a port where nobody listens

What follows a frame at once may reach the client with it, and a reset may even overtake it: where a test needs the
frame to be read first, `Until(event)` stands between them.
"""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Self

from pydantic import JsonValue

EVENTS = "text/event-stream"
NDJSON = "application/x-ndjson"
JSON = "application/json"
NO_HEADERS: Mapping[str, str] = {}

# Steps --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Head:
    """The status line and the headers; the body comes in chunks unless the headers give its length."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """A piece of the body, in a chunk of its own where the body is chunked."""

    data: bytes


@dataclass(frozen=True)
class Raw:
    """Bytes on the wire as they are, whatever they break."""

    data: bytes


@dataclass(frozen=True)
class Until:
    """Nothing, until a test sets the event (or the client leaves)."""

    event: asyncio.Event


@dataclass(frozen=True)
class Stall:
    """Nothing, until the client leaves."""


@dataclass(frozen=True)
class Late:
    """Nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class End:
    """The end mark of the body; the connection stays open for the next request."""


@dataclass(frozen=True)
class Cut:
    """The connection is closed in good order, whatever is missing."""


@dataclass(frozen=True)
class Reset:
    """The connection is reset: the client sees a broken connection, not an end."""


Step = Head | Frame | Raw | Until | Stall | Late | End | Cut | Reset
Script = Sequence[Step]

# Scripts ------------------------------------------------------------------------------------------


def stream(
    frames: Sequence[bytes], *, then: Step | Script | None = None, kind: str = EVENTS, status: int = 200
) -> Script:
    """A streamed answer: head, frames, and its end, unless something else comes `then`."""
    rest: Script = (End(),) if then is None else then if isinstance(then, Sequence) else (then,)
    return (Head(status, {"Content-Type": kind}), *(Frame(one) for one in frames), *rest)


def respond(status: int, value: JsonValue = None, headers: Mapping[str, str] = NO_HEADERS) -> Script:
    """A JSON answer in one piece."""
    body = json.dumps(value).encode()
    return (Head(status, {"Content-Type": JSON, "Content-Length": str(len(body)), **headers}), Frame(body))


BAD_FRAMING: Script = (Raw(b"zz\r\nnot a chunk\r\n"), Cut())
"""A chunk whose length is no number."""


def sse(value: JsonValue, *, name: str = "") -> bytes:
    """A server-sent event that holds JSON, as most dialects have it."""
    return (f"event: {name}\n" if name else "").encode() + f"data: {json.dumps(value)}\n\n".encode()


def ndjson(value: JsonValue) -> bytes:
    """A line of JSON, as Ollama has it."""
    return json.dumps(value).encode() + b"\n"


# The server ---------------------------------------------------------------------------------------


@dataclass
class Seen:
    """A request as it arrived, and how its client took the answer."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    frames: int = 0
    """Pieces of the body that were sent."""
    whole: bool = False
    """Whether the script was played to its end while the client was there."""
    said: asyncio.Event = field(default_factory=asyncio.Event)
    """The first piece of the body was sent."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """The client closed its connection before the end."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Either of both."""

    @property
    def left_during(self) -> str:
        """`prefill` before the first piece of the body, else `decode`; empty while the client is there."""
        return "" if not self.left.is_set() else "decode" if self.frames else "prefill"

    def json(self) -> JsonValue:
        value: JsonValue = json.loads(self.body)
        return value


class Upstream:
    """Each request plays the next script; the last one is played for ever."""

    def __init__(self, *scripts: Script, routes: Mapping[str, Script] | None = None) -> None:
        """`routes`: what `METHOD /path` always plays instead; such requests are in `asides`, not in `seen`."""
        self._scripts = list(scripts)
        self._routes = dict(routes or {})
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Condition()
        self.seen: list[Seen] = []
        self.asides: list[Seen] = []
        self.connected = 0
        """Connections that were made."""
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def play(self, *scripts: Script) -> None:
        """From the next request on."""
        self._scripts = list(scripts)

    def route(self, path: str, script: Script) -> None:
        self._routes[path] = script

    async def request(self, number: int = 1) -> Seen:
        """The request of this number (1 = the first), when it has arrived."""
        async with asyncio.timeout(15), self._arrived:
            await self._arrived.wait_for(lambda: len(self.seen) >= number)
        return self.seen[number - 1]

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop all connections; `start(port)` opens the same port again."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.connected += 1
        try:
            # Cancelled only by `stop`; asyncio's own callback would log it as a failure.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection can take another."""
        seen = await _read(reader)
        aside = self._routes.get(f"{seen.method} {seen.path.partition('?')[0]}")
        if aside is not None:
            script = aside
            self.asides.append(seen)
        else:
            assert self._scripts, f"no script for {seen.method} {seen.path}"
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            async with self._arrived:
                self.seen.append(seen)
                self._arrived.notify_all()
        playing = asyncio.create_task(_play(script, seen, writer))
        # A client sends its next request only after the answer, so whatever can be read now means that it left.
        leaving = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                seen.whole = True
                return playing.result()
            seen.left.set()
            return False
        except ConnectionError:
            seen.whole = False
            seen.left.set()
            return False
        finally:
            for task in (playing, leaving):
                task.cancel()
            await asyncio.gather(playing, leaving, return_exceptions=True)
            seen.ended.set()


async def _read(reader: asyncio.StreamReader) -> Seen:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readline()).partition(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, path, headers, body)


async def _play(script: Script, seen: Seen, writer: asyncio.StreamWriter) -> bool:
    """Whether the connection can take another request afterwards."""
    chunked = False
    for step in script:
        match step:
            case Head(status, headers):
                chunked = not any(name.lower() == "content-length" for name in headers)
                lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
                if chunked:
                    lines.append("Transfer-Encoding: chunked")
                writer.write("\r\n".join((*lines, "", "")).encode("latin-1"))
            case Frame(data):
                writer.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
                seen.frames += 1
                seen.said.set()
            case Raw(data):
                writer.write(data)
            case Until(event):
                await event.wait()
            case Late(seconds):
                await asyncio.sleep(seconds)
            case Stall():
                await asyncio.Event().wait()
            case End():
                writer.write(b"0\r\n\r\n")
            case Cut():
                return False
            case Reset():
                end = writer.get_extra_info("socket")
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return False
        await writer.drain()
    return True


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """An address where connections are refused: its port is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
