"""A log file that cannot grow for ever, and reading the end of one."""

import contextlib
import os
from pathlib import Path

KEPT = 2  # older files beside the present one


class LogFile:
    """Appends lines; at `limit` bytes the file is set aside as `.1`, and so on up to `.2`.

    A log that cannot be written (a full disk) is no reason to stop what it reports on, so such
    lines are lost in silence.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._descriptor: int | None = None
        self._size = 0

    def write(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            if self._descriptor is None or self._size + len(line) > self._limit:
                self._open()
            if self._descriptor is not None:
                self._size += os.write(self._descriptor, line)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_size + 1 > self._limit * 9 // 10:
                for number in range(KEPT, 0, -1):
                    older = self.path if number == 1 else self._numbered(number - 1)
                    with contextlib.suppress(FileNotFoundError):
                        older.replace(self._numbered(number))
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def tail(path: Path, lines: int, window: int = 1 << 20) -> list[str]:
    """The last lines of a file, looking at no more than `window` bytes; none when there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - window))
            text = file.read(window).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:] if lines > 0 else []
