"""The bodies of upstreams' answers: read piece by piece, whole within a bound, or to an end that nobody waits for."""

import asyncio
import contextlib

import aiohttp

from services.gateway.backends import failures

LINGER = 1.0  # seconds that the end of the connection's stream may take after the end of the answer


async def more(response: aiohttp.ClientResponse) -> bytes:
    """The next piece; empty = the body has ended. Raises `BackendFailure`."""
    try:
        return await response.content.readany()
    except (aiohttp.ClientError, OSError) as error:
        raise failures.broken(error, begun=True) from None


async def up_to(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body. Raises `ValueError` where it is longer."""
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > limit:
            raise ValueError(f"more than {limit} bytes")
    return bytes(body)


async def linger(response: aiohttp.ClientResponse) -> None:
    """Take the end of a stream whose answer is whole, so that its connection can be used again."""
    with contextlib.suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(LINGER):
            while await response.content.readany():
                pass
