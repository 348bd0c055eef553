"""Documents for the ingest service: the app beside the stand-in memory, and a server that pages are fetched from."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

from services.ingest.settings import IngestSettings
from tests.services.ingest.conftest import WRITER_KEY, MemoryPeer, serving, settings_for

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def ingest(
    peer: MemoryPeer, key: str | None = WRITER_KEY, **settings: object
) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of the ingest service, with these settings."""
    chosen: IngestSettings = settings_for(peer).model_copy(update=settings)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        serving(chosen) as url,
        httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60) as http,
    ):
        yield http


class Site:
    """Answers each request with the same bytes, or by a function; notes what was asked."""

    def __init__(self, answer: bytes | Answer) -> None:
        self._answer = answer
        self.asked: list[str] = []
        """Heads of requests."""
        self.port = 0

    @contextlib.asynccontextmanager
    async def open(self, tls: ssl.SSLContext | None = None) -> "AsyncIterator[Site]":
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if isinstance(self._answer, bytes):
                writer.write(self._answer)
                await writer.drain()
            else:
                await self._answer(reader, writer)
        writer.close()


def page(body: bytes = b"<title>T</title><h1>A</h1><p>text", status: str = "200 OK", **headers: str) -> bytes:
    """An answer of HTTP; `content_type="..."` is a header."""
    named = {"content_type": "text/html; charset=utf-8", "content_length": str(len(body)), **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in named.items() if value]
    return "\r\n".join((f"HTTP/1.1 {status}", *lines, "", "")).encode() + body
