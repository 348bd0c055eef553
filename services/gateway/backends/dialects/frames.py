"""Cuts a stream of bytes into frames, server-sent events or lines, each bounded and with its bytes kept."""

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from services.gateway.backends.base import Piece

MAX_FRAME = 1 << 20  # bytes of one frame; a line of an answer has a few hundred

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


class Frame(NamedTuple):
    """One step of a stream: the name of its event where it has one, its data, and its bytes as they came."""

    name: str
    data: bytes
    raw: bytes


class FrameTooLarge(ValueError):
    """A frame of more than `MAX_FRAME` bytes."""


class Splitter(Protocol):
    def feed(self, piece: bytes) -> Sequence[Frame]:
        """The frames that end in this piece. Raises `FrameTooLarge`."""


class Reader(Protocol):
    """Says what the frames of one answer mean. One reader an answer."""

    @property
    def whole(self) -> bool:
        """Whether the mark that ends a whole answer has come."""

    def read(self, frame: Frame) -> Sequence[Piece]:
        """At least one piece a frame; the first carries its bytes. Raises `BackendFailure`."""


class Events:
    """Server-sent events; what an end of the stream cuts off is no event, as the standard asks."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, piece: bytes) -> Sequence[Frame]:
        self._buffer += piece
        frames, start = list[Frame](), 0
        while blank := _BLANK_LINE.search(self._buffer, self._searched):
            end = self._searched = blank.end()
            _bounded(end - start)
            frames.append(_event(bytes(self._buffer[start:end])))
            start = end
        del self._buffer[:start]
        _bounded(len(self._buffer))
        # The blank line may have begun: its last three bytes are looked at again with what follows them.
        self._searched = max(0, len(self._buffer) - 3)
        return frames


class Lines:
    """One JSON document a line."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> Sequence[Frame]:
        *lines, rest = piece.split(b"\n")
        if not lines:
            self._buffer += rest
            _bounded(len(self._buffer))
            return []
        lines[0] = bytes(self._buffer) + lines[0]
        self._buffer = bytearray(rest)
        for line in (*lines, rest):
            _bounded(len(line))
        return [Frame("", line, line + b"\n") for line in lines if line.strip()]


def _event(raw: bytes) -> Frame:
    name, data = "", list[bytes]()
    for line in raw.splitlines():
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return Frame(name, b"\n".join(data), raw)


def _bounded(size: int) -> None:
    if size > MAX_FRAME:
        raise FrameTooLarge(f"a frame is larger than {MAX_FRAME} bytes")
