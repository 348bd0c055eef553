"""Transcripts that hooks have noted while the gateway was away, taken over by `anamnesis ingest`.

The hook (integrations/claude-code) writes them: one file a wish, its name ending in how often it was taken. Whoever
holds the lock takes; a wish that is noted again meanwhile is another file.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from anamnesis import installation

MAX_WISH = 16 << 10  # bytes


class Noted(NamedTuple):
    """What was wished for."""

    files: tuple[Path, ...] = ()
    paths: tuple[Path, ...] = ()
    """Those that are still there."""
    everything: bool = False


def usual() -> Path:
    return installation.note().parent / "spool"


@contextmanager
def taken(folder: Path) -> Iterator[Noted]:
    """What is noted; gone when the block ends well, and left where it does not. Nothing while a hook has it read."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:  # no hook was ever here
        yield Noted()
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        yield Noted()
        return
    try:
        noted = _take(folder)
        yield noted
        for file in noted.files:
            file.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _take(folder: Path) -> Noted:
    files: list[Path] = []
    paths: dict[Path, None] = {}
    everything = False
    for old in sorted(folder.glob("[!.]*.[0-9][0-9]"), reverse=True):  # so that none takes the name of another
        new = old.with_suffix(f".{min(int(old.suffix[1:]) + 1, 99):02}")
        old.replace(new)
        files.append(new)
        try:
            wished = json.loads(new.read_bytes()[:MAX_WISH])["paths"]
            paths |= dict.fromkeys(Path(path) for path in wished)
            everything = everything or not wished
        except (OSError, ValueError, KeyError, TypeError):  # half-written when the power went
            everything = True
    return Noted(tuple(files), tuple(path for path in paths if path.exists()), everything)
