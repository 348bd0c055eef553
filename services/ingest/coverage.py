"""What of the transcripts on disk has been read, and what their program will delete before it is.

Looks at directories and marks alone; no transcript is opened.
"""

import asyncio
import math
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from anamnesis.contracts.base import MAX_NAME, JsonObject
from anamnesis.contracts.ingest import TranscriptFile, TranscriptFiles
from anamnesis.contracts.insight import Coverage, TranscriptAtRisk
from anamnesis.destination import Destination
from anamnesis.transcripts.episodes import storable
from anamnesis.transcripts.files import Found, walk
from anamnesis.transcripts.marks import key
from anamnesis.transcripts.purge import PURGE_DAYS, SOON, days_left, periods

State = Literal["read", "behind", "unread"]
SHOWN = 50  # transcripts
FRESH = 10.0  # seconds for which an answer is given again


class _Read(NamedTuple):
    """What a mark says of a file."""

    size: int
    mtime_ns: int
    read: int


class Look(NamedTuple):
    """A transcript, and how much of it nobody has read."""

    file: Found
    left: int
    """Bytes."""
    period: float
    """Days after which it is deleted."""
    days: float
    """Those that remain."""

    @property
    def state(self) -> State:
        return "read" if self.left == 0 else "behind" if self.left < self.file.size else "unread"


class CoverageReport:
    """Compares disk and marks when somebody asks, at most every few seconds."""

    def __init__(self, roots: Sequence[Path], readers: Sequence[Destination], fresh: float = FRESH) -> None:
        """`readers`: where the marks of everybody lie who reads these transcripts on this machine."""
        self._roots = tuple(roots)
        self._readers = tuple(readers)
        self._fresh = fresh
        self._one = asyncio.Lock()
        self._last: Sequence[Look] | None = None
        self._at = -math.inf

    async def get(self) -> Coverage:
        """Raises what the readers' destinations raise."""
        return await asyncio.to_thread(covered, await self._looks())

    async def files(self, state: State | None, skip: int, limit: int) -> TranscriptFiles:
        """A page of the transcripts in a state, or of all. Raises what the readers' destinations raise."""
        return await asyncio.to_thread(listed, await self._looks(), state, skip, limit)

    async def _looks(self) -> Sequence[Look]:
        async with self._one:
            if self._last is None or time.monotonic() - self._at >= self._fresh:
                marks = [await reader.load_offsets() for reader in self._readers]
                self._last = await asyncio.to_thread(look, self._roots, marks, time.time())
                self._at = time.monotonic()
            return self._last


def look(roots: tuple[Path, ...], marks: Iterable[Mapping[str, JsonObject]], now: float) -> list[Look]:
    """Every transcript. What any of the readers has read counts as read."""
    readers = tuple(marks)
    files = walk(roots).files
    days = periods(files)
    looks = []
    for file in files:
        name = key(file.path)
        left = min((_left(file, _mark(documents.get(name))) for documents in readers), default=file.size)
        looks.append(Look(file, left, days[file.root], days_left(file, days, now)))
    return looks


def covered(looks: Sequence[Look]) -> Coverage:
    states = Counter(look.state for look in looks)
    risky = [
        TranscriptAtRisk(
            path=storable(look.file.path),
            modified_at=_modified(look.file),
            days_left=round(max(look.days, 0.0), 2),
            bytes_unread=look.left,
        )
        for look in looks
        if look.left and look.days < SOON
    ]
    risky.sort(key=lambda one: (one.days_left, -one.bytes_unread, one.path))
    return Coverage(
        files=len(looks),
        read=states["read"],
        behind=states["behind"],
        unread=states["unread"],
        bytes_unread=sum(look.left for look in looks),
        purge_days=min((look.period for look in looks), default=PURGE_DAYS),
        at_risk=tuple(risky[:SHOWN]),
        at_risk_total=len(risky),
    )


def listed(looks: Sequence[Look], state: State | None, skip: int, limit: int) -> TranscriptFiles:
    """A page of the transcripts in a state, or of all: what is not read by urgency, then the newest."""
    meant = [look for look in looks if state is None or look.state == state]
    meant.sort(key=lambda look: (not look.left, look.days if look.left else -look.file.mtime_ns, look.file.path))
    return TranscriptFiles(
        files=tuple(
            TranscriptFile(
                path=storable(look.file.path),
                project=_project(look.file),
                state=look.state,
                size=look.file.size,
                bytes_read=look.file.size - look.left,
                modified_at=_modified(look.file),
                days_left=round(max(look.days, 0.0), 2),
            )
            for look in meant[skip : skip + limit]
        ),
        total=len(meant),
    )


def _modified(file: Found) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=file.mtime_ns // 1000)


def _project(file: Found) -> str | None:
    """The directory below the root, which is named after the project's; none for a file that lies in no directory."""
    within = os.path.relpath(file.path, file.root).split(os.sep)
    return storable(within[0])[:MAX_NAME] if len(within) > 1 else None


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
