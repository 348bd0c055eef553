"""What one trainer is asked over HTTP, with the key between services: to generate, whether it is ready, how it is.

Frames of a stream are passed on as they came; each is read as well, because only what it means tells a good answer from
a broken one. Trainers are our own, so what they say of an error is told to the client: by rule it quotes nothing. It
is not logged all the same, as an address may be that of somebody else.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

import aiohttp
import structlog
from pydantic import SecretStr, ValidationError
from yarl import URL

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.chat import StopReason
from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.generate import DONE, GenerateChunk
from anamnesis.kit.errors import from_wire
from anamnesis.redact import redact
from services.gateway.backends import failures
from services.gateway.backends.base import BackendFailure, Endpoint, Finish, Piece, TextDelta
from services.gateway.backends.bodies import linger, more, up_to
from services.gateway.backends.dialects.frames import Events, Frame, FrameTooLarge
from services.gateway.backends.dialects.values import parsed
from services.gateway.backends.upstream import session
from services.gateway.framing import broken_framing_noticed

KEEP_ALIVE = 15.0  # seconds an idle connection is kept: less than trainers keep theirs, so none is stale
ERROR_WAIT = 2.0  # seconds that the body of an error may take; its status is known already
MAX_JSON = 256 << 10  # bytes of a status or an error
MAX_REASON = 300  # characters of what a trainer says of an error
STAYS = frozenset({400, 401, 403, 413, 422})
"""Statuses of what is bad at every trainer: they are copies of one another. Another may well have what one has not
(404), or be free where one trains (409)."""

_REASONS = {"stop": StopReason.END, "length": StopReason.LENGTH}
_DONE = DONE.encode()


class TrainerClient:
    """The connections to all trainers. Open it before use, close it at the end."""

    def __init__(self, key: SecretStr | None, connect: float) -> None:
        """`connect`: seconds to reach one."""
        self._key = key
        self._connect = connect
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = session(self._connect, KEEP_ALIVE)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def generate(self, body: bytes, endpoint: Endpoint, *, raw: bool) -> AsyncGenerator[Piece, None]:
        """The pieces of an answer to `POST /generate`, with their frames where they are wanted `raw`.

        Raises `BackendFailure`; closing the generator closes the connection.
        """
        response = await self._ask("POST", endpoint, "/generate", body)
        try:
            if response.status != 200:
                raise await _refused(response)
            if response.content_type != "text/event-stream":
                raise BackendFailure("answered something else than a stream", status=200)
            events = Events()
            with broken_framing_noticed(response):
                while chunk := await more(response):
                    try:
                        frames = events.feed(chunk)
                    except FrameTooLarge:
                        raise _nonsense(failures.too_large()) from None
                    for frame in frames:
                        if frame.data == _DONE:
                            await linger(response)
                            return
                        for piece in _meaning(frame, raw=raw):
                            yield piece
        finally:
            # Of an answer that was read to its end the connection has gone back to the pool, and this does nothing.
            response.close()

    async def ready(self, endpoint: Endpoint) -> None:
        """Raises `BackendFailure` unless the trainer says that it is ready."""
        response = await self._ask("GET", endpoint, "/ready")
        try:
            if response.status != 200:
                raise await _refused(response)
        finally:
            response.close()

    async def status(self, endpoint: Endpoint) -> JsonObject:
        """What a trainer says of its inference. Raises `BackendFailure`, with a status where it answered at all."""
        response = await self._ask("GET", endpoint, "/inference/status")
        try:
            if response.status != 200:
                raise await _refused(response)
            return parsed(await up_to(response, MAX_JSON))
        except ValueError:
            raise BackendFailure("gave a status that is no JSON object, or a very large one", status=200) from None
        except (aiohttp.ClientError, OSError) as error:
            raise failures.broken(error, begun=True) from None
        finally:
            response.close()

    async def _ask(
        self, method: str, endpoint: Endpoint, path: str, body: bytes | None = None
    ) -> aiohttp.ClientResponse:
        assert self._session is not None, "open the client first"
        url = URL(endpoint.url + path, encoded=True)
        headers = {"X-Request-ID": str(structlog.contextvars.get_contextvars().get("request_id", ""))}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._key is not None:
            # A URL with a user brings an Authorization of its own, for a proxy in front of the trainer.
            key = self._key.get_secret_value()
            headers |= {"X-API-Key": key} if url.user else {"Authorization": f"Bearer {key}"}
        try:
            return await self._session.request(method, url, data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, OSError) as error:
            raise failures.broken(error, begun=False) from None


def _meaning(frame: Frame, *, raw: bool) -> Sequence[Piece]:
    """What a frame says; the first piece carries it."""
    bytes_of = frame.raw if raw else b""
    if frame.name == "error":
        raise _reported(frame.data)
    if not frame.data or frame.name:
        return (Piece(None, bytes_of),)
    try:
        chunk = GenerateChunk.model_validate_json(frame.data)
    except ValidationError:
        raise _nonsense(failures.bad_chunk()) from None
    text = TextDelta(chunk.text) if chunk.text else None
    if chunk.finish_reason is None:
        return (Piece(text, bytes_of),)
    end = Finish(_REASONS[chunk.finish_reason], chunk.usage)
    return (Piece(end, bytes_of),) if text is None else (Piece(text, bytes_of), Piece(end))


def _nonsense(failure: BackendFailure) -> BackendFailure:
    """It answered, and would answer so again: not the same as a connection that broke."""
    return BackendFailure(failure.reason, status=200)


def _reported(data: bytes) -> BackendFailure:
    """An error that came within a stream."""
    try:
        error = ErrorEnvelope.model_validate_json(data).error
    except ValidationError:
        return BackendFailure("reported an error without saying which")
    status = from_wire(500, data).status
    said = f": {_line(redact(error.message).text)}"
    return BackendFailure("reported", said=said, status=status, moves_on=status not in STAYS)


async def _refused(response: aiohttp.ClientResponse) -> BackendFailure:
    """An answer with another status than 200: what it says, and when to come back."""
    body = b""
    with contextlib.suppress(aiohttp.ClientError, OSError, ValueError):
        async with asyncio.timeout(ERROR_WAIT):
            body = await up_to(response, MAX_JSON)
    refusal = failures.refused(response.status, response.headers, b"")
    try:
        said = ": " + _line(redact(ErrorEnvelope.model_validate_json(body).error.message).text)
    except ValidationError:
        said = ""
    return BackendFailure(
        refusal.reason,
        said=said,
        status=response.status,
        moves_on=response.status not in STAYS,
        retry_after=refusal.retry_after,
    )


def _line(text: str) -> str:
    return " ".join(text.split())[:MAX_REASON]
