"""Bytes to lines, whatever the sizes of the blocks they come in."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

MAX_LINE = 32 << 20
"""Bytes of the longest line that is kept; a longer one is passed over and counted as unreadable."""


class Line(NamedTuple):
    position: int
    """Byte offset of its first byte in the file."""
    data: bytes
    """Without the newline; empty when it was longer than `MAX_LINE`."""
    end: int
    """Byte offset just behind it, the newline included."""
    ended: bool
    """False for the rest of a file behind its last newline."""


def lines(blocks: Iterable[bytes], position: int = 0, longest: int = MAX_LINE) -> Iterator[Line]:
    """Cut blocks at newlines. A line that is split over blocks comes out whole, and memory is bound by `longest`."""
    held: list[bytes] = []
    size = 0
    for block in blocks:
        start = 0
        while (newline := block.find(b"\n", start)) >= 0:
            piece = block[start:newline]
            size += len(piece)
            data = (b"".join([*held, piece]) if held else piece) if size <= longest else b""
            yield Line(position, data, position + size + 1, ended=True)
            position += size + 1
            held, size, start = [], 0, newline + 1
        rest = block[start:]
        size += len(rest)
        if size <= longest:
            held.append(rest)
        else:
            held = []
    if size:
        yield Line(position, b"".join(held), position + size, ended=False)
