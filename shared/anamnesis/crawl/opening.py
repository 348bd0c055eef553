"""Opens a file that a scan found, and reads it: the very file, reached without any link, and as a whole.

The path is walked from `/` by descriptors, no part of it through a symbolic link, so that it lies where the scan saw
it whoever swaps directories meanwhile. What has become another file since is refused; the next scan finds it anew. A
hard link counts as the file it is: who can make one below a root can copy the file there, too.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from anamnesis.crawl.found import Found

# Only to pass through: O_PATH (Linux) and O_SEARCH (macOS) need no right to list a directory.
_PASS = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", getattr(os, "O_SEARCH", os.O_RDONLY))
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
CHANGED = "changed"
_BLOCK = 1 << 20  # bytes
ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR))
_REASONS = {
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.ELOOP: "symbolic-link",
    errno.EIO: "input-output",
    errno.ENAMETOOLONG: "name-too-long",
    errno.EMFILE: "too-many-open-files",
    errno.ENFILE: "too-many-open-files",
    errno.ESTALE: "stale",
    errno.ENODEV: "root-missing",
}
VANISHED = "vanished"


class Refused(Exception):
    """A file is not what it should be; `reason` is one of a small set, fit for a counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@contextmanager
def opened(file: Found) -> Iterator[int]:
    """A descriptor of the regular file that was found. Raises `Refused`."""
    try:
        descriptor = _open(file)
    except OSError as error:
        raise Refused(reason_of(error)) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(file: Found) -> int:
    parts = file.path.split("/")[1:]
    beginning = file.root.rstrip("/") + "/"
    if not file.path.startswith(beginning) or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise Refused("outside-root")
    directory = os.open("/", _PASS)
    try:
        for part in parts[:-1]:
            try:
                below = os.open(part, _PASS, dir_fd=directory)
            except NotADirectoryError:  # this is also what a link is to O_DIRECTORY
                status = os.stat(part, dir_fd=directory, follow_symlinks=False)
                raise Refused("symbolic-link" if stat.S_ISLNK(status.st_mode) else "vanished") from None
            os.close(directory)
            directory = below
        # Asked before it is opened: opening a device may already do something.
        _check(os.stat(parts[-1], dir_fd=directory, follow_symlinks=False), file)
        descriptor = os.open(parts[-1], _READ, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        _check(os.fstat(descriptor), file)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(status: os.stat_result, file: Found) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise Refused("symbolic-link")
    if not stat.S_ISREG(status.st_mode):
        raise Refused("not-regular")
    # Some mounts give a file another number whenever it is looked at; there its size and time stand for it.
    same = (status.st_dev, status.st_ino) == (file.device, file.inode)
    if not same and _stamp(status) != (file.size, file.mtime_ns):
        raise Refused(CHANGED)


def read(descriptor: int, limit: int) -> bytes:
    """All bytes of a file, at most `limit`. Raises `Refused`, also where it was written to meanwhile."""
    try:
        before = os.fstat(descriptor)
        if before.st_size > limit:
            raise Refused("too-large")
        blocks: list[bytes] = []
        at = 0
        while at <= limit and (block := os.pread(descriptor, min(_BLOCK, limit + 1 - at), at)):
            blocks.append(block)
            at += len(block)
        after = os.fstat(descriptor)
    except OSError as error:
        raise Refused(reason_of(error)) from None
    if at != before.st_size or _stamp(before) != _stamp(after):
        raise Refused(CHANGED)
    return b"".join(blocks)


def _stamp(status: os.stat_result) -> tuple[int, int]:
    # Not the time of the last change of its state, which a new link or a touched permission moves as well.
    return status.st_size, status.st_mtime_ns


def reason_of(error: OSError) -> str:
    """Why something could not be looked at, as one of a small set."""
    number = error.errno or 0
    return VANISHED if number in ABSENT else _REASONS.get(number, "unreadable")
