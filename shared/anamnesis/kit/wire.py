"""What a connection may hold before anybody has asked whose it is: bytes of a request's head, and time.

uvicorn takes a head of any length, waits for its end for ever, and for a reader who takes nothing too; any of these
would let a stranger use up a service's memory or its connections. A head that goes too far is 400 and the end of the
connection; what is late is its end.
"""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 << 10  # bytes of a request's line and headers
LINE = 64  # bytes that a header costs beside its own
HEAD_WITHIN = 30.0  # seconds from the connection, or the first byte of the next request, to the end of the headers
STUCK = 60.0  # seconds for which a reader may take nothing: whatever waits for it gives up long before


class _TooLarge(Exception):
    """More head than a request may have; the parser's own error handling answers it."""


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol with a bound on heads, and on the time for reading one and for taking an answer."""

    head_within: ClassVar[float] = HEAD_WITHIN
    stuck: ClassVar[float] = STUCK

    _head = 0
    """Bytes of line and headers of the request at hand, trailers included."""
    _silent = 0
    """Bytes that the parser has taken and said nothing of yet: the inside of a header, of a chunk's extension."""
    _late: asyncio.TimerHandle | None = None
    _full: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_head()
        self._have_room()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._late is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()
        self._silent += len(data)
        super().data_received(data)
        if self._silent > MAX_HEAD and not self.transport.is_closing():
            self.logger.warning("The head of a request is too large.")
            self.send_400_response(f"The head of a request may hold at most {MAX_HEAD} bytes.")

    # What the parser says -------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._head = self._silent = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + LINE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._silent = 0
        self._have_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._silent = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._silent = 0
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._silent = 0
        self._head += size
        if self._head > MAX_HEAD:
            raise _TooLarge

    # What is late ---------------------------------------------------------------------------------

    def _await_head(self) -> None:
        self._late = self.loop.call_later(self.head_within, self.transport.abort)

    def _have_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def pause_writing(self) -> None:
        """The reader is behind. Closing would wait for it to take the rest, so that it is cut off instead."""
        super().pause_writing()
        self._full = self.loop.call_later(self.stuck, self.transport.abort)

    def resume_writing(self) -> None:
        self._have_room()
        super().resume_writing()

    def _have_room(self) -> None:
        if self._full is not None:
            self._full.cancel()
            self._full = None

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _unsupported_upgrade_warning(self) -> None:
        """No service speaks WebSocket: a stranger who asks for it is answered as if not, and fills no log."""
