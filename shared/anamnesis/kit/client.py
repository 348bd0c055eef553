"""The HTTP client between services and for the console: typed answers, deadlines, retries.

Requests that are safe to repeat (reads, and writes that say so) are tried again when the service
is away or busy, under one total deadline, with jitter.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TypeVar

import httpx
import stamina
import stamina.instrumentation
from pydantic import BaseModel, SecretStr, ValidationError

from anamnesis.kit.errors import AnamnesisError, Busy, DeadlineExceeded, Unavailable, UpstreamFailed, from_wire
from anamnesis.kit.settings import without_user

# By default stamina logs every try in its own way, on standard output; what becomes of a request is told by its end.
stamina.instrumentation.set_on_retry_hooks(())

M = TypeVar("M", bound=BaseModel)
Query = Mapping[str, str | int | float | bool | list[str] | None]


class ServiceClient:
    """Talks to one service. Use as an asynchronous context manager."""

    def __init__(
        self, base_url: str, key: SecretStr | None, *, connect: float = 2.0, read: float = 60.0, pool: int = 32
    ) -> None:
        """Timeouts in seconds; `pool` bounds the connections."""
        self.base_url = base_url.rstrip("/")
        self._shown = without_user(self.base_url)
        self._connect = connect
        self._authorization = _bearer(key)
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            timeout=httpx.Timeout(read, connect=connect, pool=read),
            limits=httpx.Limits(max_connections=pool, max_keepalive_connections=pool),
            follow_redirects=False,
            trust_env=False,
        )

    async def __aenter__(self) -> "ServiceClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    def with_key(self, key: SecretStr | None) -> "ServiceClient":
        """The same connections with the key of somebody on whose behalf is asked; whoever opened them closes them."""
        other = copy.copy(self)
        other._authorization = _bearer(key)
        return other

    async def get(self, path: str, answer: type[M], query: Query | None = None, deadline: float = 30.0) -> M:
        return await self.request("GET", path, answer, query=query, deadline=deadline, repeatable=True)

    async def request(
        self,
        method: str,
        path: str,
        answer: type[M],
        *,
        body: BaseModel | None = None,
        query: Query | None = None,
        deadline: float = 60.0,
        repeatable: bool = False,
    ) -> M:
        """Send and read one answer within `deadline` seconds, tries included.

        Raises the error that the service reported, `Unavailable` when it cannot be reached, or
        `UpstreamFailed` when the answer is not of the promised shape.
        """
        content = body.model_dump_json(exclude_none=True).encode() if body is not None else None
        reasons: list[AnamnesisError] = []
        try:
            async with asyncio.timeout(deadline):
                return await self._repeatedly(method, path, answer, content, query, deadline, repeatable, reasons)
        except TimeoutError:
            late = DeadlineExceeded(f"{self._shown} did not answer in time")
            raise reasons[-1] if reasons else late from None

    async def _repeatedly(
        self,
        method: str,
        path: str,
        answer: type[M],
        content: bytes | None,
        query: Query | None,
        deadline: float,
        repeatable: bool,
        reasons: list[AnamnesisError],
    ) -> M:
        """Try until it works, or until what went wrong is not worth another try; `reasons` gathers the failures."""

        def pause(error: Exception) -> bool | float:
            """How long to wait, where the service says so; else whether to try again after the usual time."""
            if isinstance(error, Busy):
                return error.retry_after
            return repeatable and isinstance(error, Unavailable)

        attempts = stamina.retry_context(on=pause, attempts=None, timeout=deadline, wait_max=5.0)
        async for attempt in attempts:
            with attempt:
                try:
                    response = await self._once(method, path, content, query, deadline)
                except AnamnesisError as error:
                    reasons.append(error)
                    raise
                try:
                    return answer.model_validate_json(response)
                except ValidationError:
                    raise UpstreamFailed(f"{self._shown}{path} gave an answer of an unexpected shape") from None
        raise AssertionError("stamina ends by returning or raising")

    async def _once(self, method: str, path: str, content: bytes | None, query: Query | None, deadline: float) -> bytes:
        headers = dict(self._authorization)
        if content is not None:
            headers["Content-Type"] = "application/json"
        params = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            response = await self._http.request(
                method,
                path,
                content=content,
                params=params,
                headers=headers,
                timeout=httpx.Timeout(deadline, connect=self._connect),
            )
        except httpx.TimeoutException as error:
            raise _timeout(self._shown, error) from None
        except httpx.TransportError:
            raise Unavailable(f"cannot reach {self._shown}; is it running?") from None
        if response.is_success:
            return response.content
        raise _reported(response)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        body: BaseModel | None = None,
        content: AsyncIterator[bytes] | None = None,
        content_type: str = "application/x-ndjson",
        query: Query | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """A response whose body is read piece by piece; never tried again.

        What is sent is either a `body`, or what comes in `content`: lines of JSON, or of another type.
        """
        params = {name: value for name, value in (query or {}).items() if value is not None}
        sent = body.model_dump_json(exclude_none=True).encode() if body is not None else content
        headers = dict(self._authorization)
        if sent:
            headers["Content-Type"] = content_type if body is None else "application/json"
        try:
            async with self._http.stream(method, path, content=sent, params=params, headers=headers) as response:
                if not response.is_success:
                    await response.aread()
                    raise _reported(response)
                yield response
        except httpx.TimeoutException as error:
            raise _timeout(self._shown, error) from None
        except httpx.ConnectError:
            raise Unavailable(f"cannot reach {self._shown}; is it running?") from None
        except httpx.TransportError:
            raise Unavailable(f"the connection to {self._shown} broke") from None


def _bearer(key: SecretStr | None) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}


def _reported(response: httpx.Response) -> AnamnesisError:
    """The error that the service answered with, and when another try makes sense where it says so."""
    error = from_wire(response.status_code, response.content)
    after = response.headers.get("retry-after", "")
    if isinstance(error, Busy) and after.isdecimal():
        error.retry_after = float(after)
    return error


def _timeout(place: str, error: httpx.TimeoutException) -> AnamnesisError:
    if isinstance(error, httpx.ConnectTimeout):
        return Unavailable(f"cannot reach {place}; is it running?")
    return DeadlineExceeded(f"{place} did not answer in time")
