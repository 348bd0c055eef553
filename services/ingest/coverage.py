"""What of the transcripts on disk has been read, and what their program will delete before it is.

Looks at directories and marks alone; no transcript is opened. Claude Code deletes transcripts that nothing was
written to for `cleanupPeriodDays`, 30 unless its settings say otherwise: what is not read by then is lost.
"""

import asyncio
import math
import os
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import orjson

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.insight import Coverage, TranscriptAtRisk
from anamnesis.destination import Destination
from anamnesis.transcripts.episodes import storable
from anamnesis.transcripts.files import Found, walk
from anamnesis.transcripts.marks import key

PURGE_DAYS = 30.0
SOON = 7.0  # days
SHOWN = 50  # transcripts
FRESH = 10.0  # seconds for which an answer is given again
_DAY = 86_400.0
_MAX_SETTINGS = 1 << 20  # bytes
_LONGEST = 36_500.0  # days; more is for ever


class _Read(NamedTuple):
    """What a mark says of a file."""

    size: int
    mtime_ns: int
    read: int


class CoverageReport:
    """Compares disk and marks when somebody asks, at most every few seconds."""

    def __init__(self, roots: Sequence[Path], readers: Sequence[Destination], fresh: float = FRESH) -> None:
        """`readers`: where the marks of everybody lie who reads these transcripts on this machine."""
        self._roots = tuple(roots)
        self._readers = tuple(readers)
        self._fresh = fresh
        self._one = asyncio.Lock()
        self._last: Coverage | None = None
        self._at = -math.inf

    def look_at(self, roots: Sequence[Path]) -> None:
        """Other roots from now on."""
        self._roots = tuple(roots)
        self._at = -math.inf

    async def get(self) -> Coverage:
        """Raises what the readers' destinations raise."""
        async with self._one:
            if self._last is None or time.monotonic() - self._at >= self._fresh:
                marks = [await reader.load_offsets() for reader in self._readers]
                self._last = await asyncio.to_thread(covered, self._roots, marks, time.time())
                self._at = time.monotonic()
            return self._last


def covered(roots: tuple[Path, ...], marks: Iterable[Mapping[str, JsonObject]], now: float) -> Coverage:
    """`now` in seconds since the epoch. What any of the readers has read counts as read."""
    readers = tuple(marks)
    files = walk(roots).files
    periods = {root: purge_days(root) for root in {file.root for file in files}}
    read = behind = unread = total = 0
    risky: list[TranscriptAtRisk] = []
    for file in files:
        name = key(file.path)
        left = min((_left(file, _mark(documents.get(name))) for documents in readers), default=file.size)
        read += left == 0
        behind += 0 < left < file.size
        unread += 0 < left == file.size
        total += left
        days = periods[file.root] - (now - file.mtime_ns / 1e9) / _DAY
        if left and days < SOON:
            risky.append(
                TranscriptAtRisk(
                    path=storable(file.path),
                    modified_at=datetime.fromtimestamp(0, UTC) + timedelta(microseconds=file.mtime_ns // 1000),
                    days_left=round(max(days, 0.0), 2),
                    bytes_unread=left,
                )
            )
    risky.sort(key=lambda one: (one.days_left, -one.bytes_unread, one.path))
    return Coverage(
        files=len(files),
        read=read,
        behind=behind,
        unread=unread,
        bytes_unread=total,
        purge_days=min(periods.values(), default=PURGE_DAYS),
        at_risk=tuple(risky[:SHOWN]),
        at_risk_total=len(risky),
    )


def purge_days(root: str) -> float:
    """After how many days Claude Code deletes what lies below `.../projects`: as the settings beside it say."""
    if os.path.basename(root) != "projects":
        return PURGE_DAYS
    try:
        descriptor = os.open(os.path.join(os.path.dirname(root), "settings.json"), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return PURGE_DAYS
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return PURGE_DAYS
        settings = orjson.loads(os.pread(descriptor, _MAX_SETTINGS, 0))
    except (OSError, orjson.JSONDecodeError):
        return PURGE_DAYS
    finally:
        os.close(descriptor)
    days = settings.get("cleanupPeriodDays") if isinstance(settings, dict) else None
    if isinstance(days, bool) or not isinstance(days, int | float) or days <= 0:
        return PURGE_DAYS
    return min(float(days), _LONGEST)


def _mark(document: JsonObject | None) -> _Read | None:
    """Only these fields: what was found in a file makes up nearly all of its mark."""
    if document is None:
        return None
    try:
        return _Read(int(str(document["size"])), int(str(document["mtime_ns"])), int(str(document["read"])))
    except (KeyError, ValueError):
        return None


def _left(file: Found, mark: _Read | None) -> int:
    """Bytes that were not read. A file only grows; one that is shorter than what was read is another file."""
    if mark is None or mark.read > file.size:
        return file.size
    if (mark.size, mark.mtime_ns) == (file.size, file.mtime_ns):
        return 0  # the last line may be incomplete, and is not behind what was read then
    return file.size - mark.read
