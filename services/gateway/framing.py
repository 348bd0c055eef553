"""Notices that the body of an upstream's answer has become unreadable.

When the chunked framing of an answer breaks after the answer has begun, aiohttp (3.14) closes the connection and tells
nobody: whoever reads the body waits until some deadline ends the wait. Here the end of the connection ends it at once.
"""

import contextlib
from asyncio import Future
from collections.abc import Iterator

import aiohttp


@contextlib.contextmanager
def broken_framing_noticed(response: aiohttp.ClientResponse) -> Iterator[None]:
    """While this is open, a connection that ends before the body does makes the reader raise `ClientPayloadError`."""
    connection = response.connection
    protocol = connection.protocol if connection is not None else None
    if protocol is None:  # the body was there at once, to its end
        yield
        return

    def fail(_: "Future[None] | None" = None) -> None:
        body = response.content
        if not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("the connection ended within the body"))

    closed = protocol.closed
    if closed is None:
        fail()
        yield
        return
    closed.remove_done_callback(_noted)  # of an earlier answer of this connection
    closed.add_done_callback(_noted)
    closed.add_done_callback(fail)
    try:
        yield
    finally:
        closed.remove_done_callback(fail)


def _noted(closed: "Future[None]") -> None:
    """Take note of how a connection ended, also after its answer: asyncio logs what nobody asks for as an error."""
    if not closed.cancelled():
        closed.exception()
