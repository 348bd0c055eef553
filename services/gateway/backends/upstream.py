"""The HTTP side of a backend: one pool of connections, answers streamed, everything that is read bounded.

Knows no dialect: a splitter cuts the stream into frames, and a reader says what they mean.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping

import aiohttp
from pydantic import JsonValue
from yarl import URL

from anamnesis.contracts.base import JsonObject
from services.gateway.backends import failures
from services.gateway.backends.base import BackendFailure, Piece
from services.gateway.backends.bodies import linger, more, up_to
from services.gateway.backends.dialects.frames import FrameTooLarge, Reader, Splitter
from services.gateway.backends.dialects.values import parsed
from services.gateway.framing import broken_framing_noticed

MAX_ERROR = 64 << 10  # bytes of an error's body that are read
MAX_JSON = 4 << 20  # bytes of an answer that is not streamed: a list of models, a count
ERROR_WAIT = 2.0  # seconds that the body of an error may take; its status is known already
KEEP_ALIVE = 4.0  # seconds an idle connection is kept: servers of this kind keep theirs for five
CONNECTIONS = 1024


def session(connect: float, keep_alive: float) -> aiohttp.ClientSession:
    """Connections to whoever answers: pooled, without cookies or proxies; `connect`: seconds to reach one,
    `keep_alive`: seconds that an idle connection is kept.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=keep_alive, ttl_dns_cache=10),
        timeout=aiohttp.ClientTimeout(total=None, connect=connect, sock_connect=connect),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity", "User-Agent": "anamnesis"},
        trust_env=False,
    )


class Upstream:
    """The connections to one backend. Open it before use, close it at the end."""

    def __init__(self, connect: float, headers: Mapping[str, str]) -> None:
        """`connect`: seconds to reach it; `headers` go with every request."""
        self._connect = connect
        self._headers = headers
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = session(self._connect, KEEP_ALIVE)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def fetch(
        self,
        url: str,
        body: JsonObject | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        wait: float,
    ) -> JsonObject:
        """One JSON object, within `wait` seconds. Raises `BackendFailure`."""
        try:
            async with asyncio.timeout(wait):
                response = await self._begin(url, body, headers or {})
                try:
                    return parsed(await up_to(response, MAX_JSON))
                except aiohttp.ClientError as error:
                    raise failures.broken(error, begun=True) from None
                except ValueError:
                    raise failures.bad_chunk() from None
                finally:
                    response.close()
        except TimeoutError:
            raise BackendFailure(f"did not answer within {wait:g} s") from None

    async def stream(
        self, url: str, body: JsonObject, splitter: Splitter, reader: Reader, *, media: str, headers: Mapping[str, str]
    ) -> AsyncGenerator[Piece, None]:
        """The pieces of an answer of type `media`. Closing the generator closes the connection."""
        response = await self._begin(url, body, headers)
        try:
            if response.content_type != media:
                raise failures.no_stream(response.content_type, await _error_body(response))
            with broken_framing_noticed(response):
                while chunk := await more(response):
                    try:
                        frames = splitter.feed(chunk)
                    except FrameTooLarge:
                        raise failures.too_large() from None
                    for frame in frames:
                        for piece in reader.read(frame):
                            yield piece
                        if reader.whole:
                            await linger(response)
                            return
            raise failures.cut_off()
        finally:
            # Of an answer that was read to its end the connection has gone back to the pool, and this does nothing.
            response.close()

    async def _begin(self, url: str, body: JsonObject | None, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """The beginning of an answer with status 200."""
        assert self._session is not None, "open the backend first"
        data = None if body is None else json.dumps(body).encode()
        address = URL(url, encoded=True)
        given = {**self._headers, **headers} | ({} if data is None else {"Content-Type": "application/json"})
        if address.user and (bearer := given.pop("Authorization", "")):
            # A URL with a user brings an Authorization of its own, for a proxy in front; the key goes beside it.
            given["X-API-Key"] = bearer.removeprefix("Bearer ")
        try:
            response = await self._session.request(
                "GET" if data is None else "POST",
                address,
                data=data,
                headers=given,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise failures.broken(error, begun=False) from None
        if response.status == 200:
            return response
        try:
            raise failures.refused(response.status, response.headers, await _error_body(response))
        finally:
            response.close()


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    """The body of an error, or nothing where it is too long, late or broken: the status says enough."""
    try:
        async with asyncio.timeout(ERROR_WAIT):
            return await up_to(response, MAX_ERROR)
    except (aiohttp.ClientError, OSError, ValueError):
        return b""


def names(listed: list[JsonObject], key: str) -> tuple[str, ...]:
    """The names in a list of models, each once, in their order; what could not be shown on a line is left out."""
    found: list[JsonValue] = [one.get(key) for one in listed]
    return tuple(dict.fromkeys(name for name in found if isinstance(name, str) and 0 < len(name) <= 200))[:1000]
