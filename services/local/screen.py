"""What people see: lines, and dots for what takes its time. Plain text where there is no terminal."""

import sys
from typing import TextIO

_COLOURS = {"memory": 36, "ingest": 35, "gateway": 33}


class Screen:
    """Writes to standard output, keeping a line of progress and other lines apart."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._colours = self._stream.isatty()
        self._open: str | None = None
        """The text of the line of progress that has not ended."""

    def line(self, text: str = "") -> None:
        self._end()
        self._write(text + "\n")

    def begin(self, text: str) -> None:
        """Open a line that dots and an outcome will follow."""
        self._end()
        self._open = text
        self._write(text)

    def dot(self) -> None:
        if self._open is not None:
            self._write(".")

    def finish(self, outcome: str) -> None:
        """Close the open line; when other lines came between, say again what it was about."""
        self._write(f" {outcome}\n" if self._open is not None else f"{outcome}\n")
        self._open = None

    def output(self, name: str, text: str) -> None:
        """A line that a service wrote."""
        label = f"{name:<8}|"
        if self._colours:
            label = f"\x1b[{_COLOURS.get(name, 37)}m{label}\x1b[0m"
        self.line(f"{label} {text}")

    def _end(self) -> None:
        if self._open is not None:
            self._write("\n")
            self._open = None

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            pass  # the terminal is gone; the services go on, and their log files have it all
