"""When Claude Code will delete a transcript, and which are therefore read first.

It deletes what nothing was written to for `cleanupPeriodDays`, 30 unless its settings say otherwise: what is not read
by then is lost.
"""

import os
import stat
from collections.abc import Iterable, Mapping

import orjson

from anamnesis.transcripts.files import Found

PURGE_DAYS = 30.0
SOON = 7.0  # days
_DAY = 86_400.0  # seconds
_MAX_SETTINGS = 1 << 20  # bytes
_LONGEST = 36_500.0  # days; more is for ever
_SUBAGENTS = "subagents"


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


def periods(files: Iterable[Found]) -> dict[str, float]:
    """The days of every root that some files lie below."""
    return {root: purge_days(root) for root in {file.root for file in files}}


def days_left(file: Found, periods: Mapping[str, float], now: float) -> float:
    """Until a file is deleted; below 0 where it should have been. `now` in seconds since the epoch."""
    return periods[file.root] - (now - file.mtime_ns / 1e9) / _DAY


def urgent_first(files: Iterable[Found], now: float) -> list[Found]:
    """What will soon be deleted before all else, whatever its root; the others stay in their order.

    Of the urgent ones sessions come before subagents, as originals before their copies, and the next to be deleted
    first. Where a subagent's file is urgent its session is taken along, however young.
    """
    given = list(files)
    days = periods(given)
    left = {file.path: days_left(file, days, now) for file in given}
    urgent = {path for path, remaining in left.items() if remaining < SOON}
    urgent |= {_session(path) for path in urgent}
    first = sorted(
        (file for file in given if file.path in urgent), key=lambda file: (bool(file.agent), left[file.path], file.path)
    )
    return first + [file for file in given if file.path not in urgent]


def _session(path: str) -> str:
    """The transcript whose subagent wrote `<session>/subagents/agent-<id>.jsonl`; empty for any other path."""
    directory = os.path.dirname(path)
    return os.path.dirname(directory) + ".jsonl" if os.path.basename(directory) == _SUBAGENTS else ""
