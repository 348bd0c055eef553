"""Passes a request on to the service that owns its path, and the answer back, piece by piece.

Owns deadlines, headers and what happens when either side leaves. Knows nothing of routes or keys:
the caller's own key travels with the request, and the service behind decides what it may do.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import NamedTuple

import aiohttp
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from anamnesis.kit.auth import presented_key
from anamnesis.kit.errors import AnamnesisError, DeadlineExceeded, Unavailable, UpstreamFailed
from anamnesis.kit.logs import logger
from services.gateway.framing import broken_framing_noticed

CONNECT = 2.0  # seconds to reach a service
PIECE = 64 << 10  # bytes read from a service at once
KEEP_ALIVE = 15.0  # seconds an idle connection is kept: less than the services keep theirs, so none is stale
READY = 3.0  # seconds for the answer to a readiness probe

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_SENT = _HOP_BY_HOP | {"host", "expect", "x-request-id", "cookie"}
_NOT_RETURNED = _HOP_BY_HOP | {"date", "server", "x-request-id"}
_OF_BROWSERS = frozenset(
    {
        "alt-svc",
        "clear-site-data",
        "content-security-policy",
        "content-security-policy-report-only",
        "link",
        "nel",
        "permissions-policy",
        "refresh",
        "referrer-policy",
        "report-to",
        "reporting-endpoints",
        "service-worker-allowed",
        "set-cookie",
        "strict-transport-security",
        "www-authenticate",
        "x-content-type-options",
        "x-frame-options",
    }
)
"""What speaks to a browser for the whole origin. That is ours: a trainer on another machine may not log somebody in,
ask for a password, or loosen what its pages live under."""
_SANDBOX = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox allow-downloads")
"""What is passed on is data: a page or a picture among it runs nothing, and is of no origin."""

Header = tuple[bytes, bytes]


class Service(NamedTuple):
    """A service behind the gateway."""

    name: str
    url: str
    cut: int = 0
    """So many segments of a path are ours, and do not travel on."""


class Deadlines(NamedTuple):
    """Seconds: until an answer begins, without a byte once it has, and in all (none = as long as bytes flow)."""

    wait: float
    idle: float
    total: float | None


class Proxy:
    """The connections to the services behind. Open it before use, close it at the end."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=256, keepalive_timeout=KEEP_ALIVE, ttl_dns_cache=10),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            trust_env=False,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def forward(
        self,
        request: Request,
        service: Service,
        deadlines: Deadlines,
        on_answer: Callable[[], None] | None = None,
    ) -> Response:
        """A response that does the work when the server sends it; `on_answer` is called before the caller sees it."""
        return _Relay(self._opened(), request, service, deadlines, on_answer)

    async def require_ready(self, service: Service) -> None:
        """Raise `Unavailable`, naming the service, unless it says that it is ready."""
        try:
            timeout = aiohttp.ClientTimeout(total=READY, sock_connect=CONNECT)
            async with self._opened().get(f"{service.url}/ready", timeout=timeout) as answer:
                if answer.status == 200:
                    return
        except (aiohttp.ClientError, TimeoutError):
            pass
        raise Unavailable(f"the {service.name} service is not ready")

    def _opened(self) -> aiohttp.ClientSession:
        assert self._session is not None, "open the proxy first"
        return self._session


class _Upload:
    """The body of the caller's request, and whether the caller is still there."""

    def __init__(self, receive: Receive, patience: "_Patience") -> None:
        self._receive = receive
        self._patience = patience
        self._ended = asyncio.Event()
        self.failure: Exception | None = None
        """Why the body could not be read; the HTTP client would hide it behind an error of its own."""

    async def pieces(self) -> AsyncIterator[bytes]:
        while True:
            try:
                message = await self._receive()
            except Exception as error:
                self.failure = error
                raise
            if message["type"] == "http.disconnect":
                self.failure = _CallerLeft()
                raise self.failure
            self._patience.touch()
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                self._ended.set()
                return

    async def caller_left(self) -> None:
        """Returns when the caller has closed the connection after sending the body."""
        await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


class _CallerLeft(Exception):
    """The caller closed the connection: an event, nobody is there to be told."""


class _Patience:
    """A deadline that every piece, in either direction, moves on; shorter once the answer has begun."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._seconds = deadlines.wait
        self._idle = deadlines.idle
        self.scope = asyncio.timeout(deadlines.wait)

    def begun(self) -> None:
        self._seconds = self._idle
        self.touch()

    def touch(self) -> None:
        self.scope.reschedule(asyncio.get_running_loop().time() + self._seconds)


class _Relay(Response):
    """One request passed on. What fails before the answer starts is raised as one of our errors.

    What breaks afterwards ends the caller's connection, so that a cut-off body never looks whole.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        request: Request,
        service: Service,
        deadlines: Deadlines,
        on_answer: Callable[[], None] | None,
    ) -> None:
        super().__init__()
        self._session = session
        self._request = request
        self._service = service
        self._deadlines = deadlines
        self._on_answer = on_answer
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        patience = _Patience(self._deadlines)
        upload = _Upload(receive, patience)
        work = asyncio.create_task(self._exchange(upload, patience, send))
        watch = asyncio.create_task(upload.caller_left())
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        except _CallerLeft:
            pass
        except AnamnesisError as error:
            if not self._started:
                raise
            # Returning with the answer unfinished makes the server close the connection without
            # the end mark of the body, which is what tells the caller that something is missing.
            logger().warning("answer_cut_off", upstream=self._service.name, error=error.code)
        finally:
            for task in (work, watch):
                task.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    async def _exchange(self, upload: _Upload, patience: _Patience, send: Send) -> None:
        name = self._service.name
        try:
            async with asyncio.timeout(self._deadlines.total), patience.scope:
                await self._pass_on(upload, patience, send)
        except aiohttp.ConnectionTimeoutError:
            raise Unavailable(f"the {name} service cannot be reached; try again in a moment") from None
        except TimeoutError:
            raise DeadlineExceeded(f"the {name} service did not answer in time") from None
        except aiohttp.ClientError as error:
            if upload.failure is not None:
                raise upload.failure from None
            if isinstance(error, aiohttp.ClientConnectionError):
                raise Unavailable(f"the {name} service is away; try again in a moment") from None
            raise UpstreamFailed(f"the {name} service gave an answer that cannot be passed on") from None

    async def _pass_on(self, upload: _Upload, patience: _Patience, send: Send) -> None:
        scope = self._request.scope
        query = scope["query_string"].decode("ascii")
        path = "/" + "/".join(scope["raw_path"].decode("ascii").split("/")[1 + self._service.cut :])
        target = URL(self._service.url + path + (f"?{query}" if query else ""), encoded=True)
        headers = [
            (key.decode("latin-1"), value.decode("latin-1")) for key, value in _kept(scope["headers"], _NOT_SENT)
        ]
        if target.user:
            headers = _beside_a_user(headers, presented_key(self._request))
        headers.append(("X-Request-ID", str(structlog.contextvars.get_contextvars().get("request_id", ""))))
        has_body = any(key in (b"content-length", b"transfer-encoding") for key, _ in scope["headers"])
        body = upload.pieces()
        if not has_body:
            async for _ in body:  # takes the empty body, so that a disconnect is seen from here on
                pass
        async with self._session.request(
            scope["method"],
            target,
            headers=headers,
            data=body if has_body else None,
            allow_redirects=False,
        ) as answer:
            patience.begun()
            if self._on_answer is not None:
                self._on_answer()
            start: Message = {
                "type": "http.response.start",
                "status": answer.status,
                "headers": _returned(answer.raw_headers),
            }
            self._started = True
            await send(start)
            with broken_framing_noticed(answer):
                async for piece in answer.content.iter_chunked(PIECE):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    patience.touch()
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _returned(headers: Iterable[Header]) -> list[Header]:
    returned = [(key.lower(), value) for key, value in _kept(headers, _NOT_RETURNED | _OF_BROWSERS)]
    returned = [header for header in returned if not header[0].startswith(b"cross-origin-")]
    kinds = [value.lower() for key, value in returned if key == b"content-type"]
    data = kinds and all(kind.startswith(b"application/json") for kind in kinds)
    return returned if data else [*returned, _SANDBOX]


def _beside_a_user(headers: Sequence[tuple[str, str]], key: str | None) -> list[tuple[str, str]]:
    """A URL with a user brings an Authorization of its own, for a proxy in front; the caller's key goes beside it."""
    others = [header for header in headers if header[0].lower() not in ("authorization", "x-api-key")]
    return [*others, ("X-API-Key", key)] if key is not None else others


def _kept(headers: Iterable[Header], dropped: frozenset[str]) -> list[Header]:
    """End-to-end headers: without those that concern one connection, the named and the usual ones."""
    given = list(headers)
    named = {
        token.strip().lower()
        for key, value in given
        if key.lower() == b"connection"
        for token in value.decode("latin-1").split(",")
    }
    return [(key, value) for key, value in given if key.decode("latin-1").lower() not in dropped | named]
