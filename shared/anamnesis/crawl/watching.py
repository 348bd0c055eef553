"""Tells of changed files at once where the file system tells; what it misses the next scan finds.

Only the directories that a scan looked into are watched, one by one: a recursive watch of a home directory would hold
every package and build in it. Their number is bounded; of too many, those whose files changed last are watched. Mounts
from other machines are left to the scans, since nothing is told of what changes there.
"""

import asyncio
import errno
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import NamedTuple

from watchfiles import Change, watch
from watchfiles.main import FileChange

from anamnesis.contracts.crawler import CrawlerConfig
from anamnesis.crawl.forbidden import is_forbidden_directory
from anamnesis.crawl.noise import is_noise_directory
from anamnesis.crawl.scan import Scan, scan
from anamnesis.crawl.targets import COMPOSE, is_below

MAX_DIRECTORIES = 8192
MAX_PATHS = 1000
"""Paths that are told of one by one; of more everything is to be looked at."""
DEBOUNCE = 1000  # milliseconds that changes are gathered for at most
QUIET = 100  # milliseconds without a change that end the gathering
TICK = 1000  # milliseconds between two looks at the configuration
RENEW = 10.0
"""Seconds between two looks for new directories."""
RETRY = 600.0
"""Seconds until what could not be watched is tried again."""
_REMOTE = frozenset(
    "nfs nfs4 cifs smb3 smbfs smb2 9p afs ceph glusterfs lustre ncpfs virtiofs vboxsf vmhgfs drvfs davfs".split()  # noqa: SIM905 -- one line
)
MOUNTS = "/proc/self/mountinfo"


class Changes(NamedTuple):
    paths: frozenset[str]
    """Files, and directories in which anything may have changed; for the argument `only` of a scan."""
    everything: bool = False
    """Whether more may have changed than is told: then a whole scan is due."""


class _Over(Exception):
    """Nothing can be watched at present."""


class Watcher:
    """Watches what a configuration means, anew whenever it changes."""

    def __init__(
        self,
        config: Callable[[], CrawlerConfig],
        allowed: Sequence[Path],
        home_instance: str,
        *,
        never: Sequence[Path] | None = None,
        most: int = MAX_DIRECTORIES,
        renew: float = RENEW,
        retry: float = RETRY,
    ) -> None:
        self._config = config
        self._allowed = tuple(allowed)
        self._home_instance = home_instance
        self._never = never
        self._most = most
        self._renew = renew
        self._retry = retry
        self._current: CrawlerConfig | None = None
        self.watching = False
        """Whether the file system tells of changes at this moment."""
        self.reason: str | None = None
        """Why it does not, or not of all."""

    async def changes(self) -> AsyncGenerator[Changes, None]:
        """Changes as they come, gathered for a moment. Ends only by being closed or cancelled."""
        first = True
        while True:
            config = self._current = self._config()
            try:
                found, directories = await asyncio.to_thread(self._directories, config)
                async with aclosing(self._watch(found, directories, renewed=not first)) as told:
                    async for one in told:
                        yield one
                first = False
            except (_Over, OSError, RuntimeError) as error:  # RuntimeError: what watchfiles' own errors are
                self.watching = False
                self.reason = str(error) if isinstance(error, _Over) else _explained(error)
                first = False
                await self._wait()
            finally:
                self.watching = False

    async def _watch(self, found: Scan, directories: list[str], *, renewed: bool) -> AsyncGenerator[Changes, None]:
        """Tell of changes until the configuration or the directories are other ones."""
        recursive = sys.platform == "darwin"  # one stream for a whole tree; a watch for each directory is slow there
        roots = _tops(directories) if recursive else directories
        since = time.monotonic()
        stale = False
        stop = threading.Event()
        stream = watch(
            *roots,
            watch_filter=None,
            debounce=DEBOUNCE,
            step=QUIET,
            stop_event=stop,
            rust_timeout=TICK,
            yield_on_timeout=True,
            raise_interrupt=False,
            force_polling=False,  # of thousands of directories; the scans do that more cheaply
            recursive=recursive,
            ignore_permission_denied=False,  # with it every other error would be ignored as well
        )
        try:
            while (batch := await _next(stream, stop)) is not None:
                if not self.watching:
                    self.watching = True
                    if renewed:  # what changed while nobody watched
                        yield Changes(frozenset(), everything=True)
                paths: set[str] = set()
                for change, path in batch:
                    told = _concerned(found, path)
                    if told is not None:
                        paths.add(told)
                    elif change is Change.added and _is_new_directory(found, path):
                        stale = True
                if len(paths) > MAX_PATHS:
                    yield Changes(frozenset(), everything=True)
                elif paths:
                    yield Changes(frozenset(paths))
                if self._is_other() or (stale and time.monotonic() - since >= self._renew):
                    return
        finally:
            with suppress(ValueError):  # of a thread that is still within
                stream.close()

    def _directories(self, config: CrawlerConfig) -> tuple[Scan, list[str]]:
        if not config.watch:
            raise _Over("watching is switched off in the configuration")
        found = scan(config, self._allowed, self._home_instance, never=self._never, stop=self._is_other)
        remote = _remote_mounts(MOUNTS)
        directories = [one for one in found.directories if not any(is_below(one, mount) for mount in remote)]
        reasons = []
        if len(directories) < len(found.directories):
            away = sorted(
                kind for mount, kind in remote.items() if any(is_below(one, mount) for one in found.directories)
            )
            reasons.append(f"directories on a mount of kind {', '.join(away)} are left to the scans")
        if not directories:
            raise _Over("; ".join(reasons) or "no source has a directory that can be watched")
        if len(directories) > self._most:
            total = len(directories)
            directories = _latest(found, frozenset(directories), self._most)
            reasons.append(
                f"{total:,} directories are more than can be watched: the {len(directories):,} whose files changed last"
                " are, the others are left to the scans; narrow the sources to watch all"
            )
        self.reason = "; ".join(reasons) or None
        return found, directories

    def _is_other(self) -> bool:
        now = self._config()
        return now is not self._current and now != self._current

    async def _wait(self) -> None:
        until = time.monotonic() + self._retry
        while time.monotonic() < until and not self._is_other():  # noqa: ASYNC110 -- nobody tells of a new one
            await asyncio.sleep(min(TICK / 1000, self._retry))


async def _next(stream: Generator[set[FileChange], None, None], stop: threading.Event) -> set[FileChange] | None:
    """The next batch; watching thousands of directories takes a while to begin, too, and must not hold up the loop."""
    waiting = asyncio.ensure_future(asyncio.to_thread(next, stream, None))
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait((waiting,), timeout=(TICK + DEBOUNCE) / 1000)
        raise


def _concerned(found: Scan, path: str) -> str | None:
    """The file or directory that is to be looked at because of a change; none where nothing is."""
    directory, _, name = path.rpartition("/")
    if name == ".gitignore" or COMPOSE.fullmatch(name):
        return directory if directory in found.directories else None
    return path if path in found.directories or found.concerns(path) else None


def _is_new_directory(found: Scan, path: str) -> bool:
    directory, _, name = path.rpartition("/")
    return (
        directory in found.directories
        and not is_noise_directory(name)
        and not is_forbidden_directory(name, os.path.basename(directory))
        and os.path.isdir(path)
    )


def _latest(found: Scan, directories: frozenset[str], most: int) -> list[str]:
    newest: dict[str, int] = {}
    for file in found.files:
        directory = os.path.dirname(file.path)
        if directory in directories:
            newest[directory] = max(file.mtime_ns, newest.get(directory, 0))
    return sorted(newest, key=lambda one: newest[one], reverse=True)[:most]


def _tops(directories: Sequence[str]) -> list[str]:
    """Those that lie in no other."""
    out: list[str] = []
    for one in sorted(directories, key=lambda path: path.split("/")):
        if not out or not is_below(one, out[-1]):
            out.append(one)
    return out


def _remote_mounts(table: str) -> dict[str, str]:
    """Where file systems of other machines are mounted, and of what kind; empty where the system does not say."""
    out: dict[str, str] = {}
    try:
        with open(table, "rb") as lines:
            for line in lines:
                before, _, after = line.partition(b" - ")
                fields, kind = before.split(b" "), after.split(b" ", 1)[0].decode("ascii", "replace")
                if len(fields) > 4 and (kind in _REMOTE or kind.startswith("fuse.")):
                    out[os.fsdecode(fields[4].decode("unicode_escape").encode("latin-1"))] = kind
    except (OSError, ValueError):
        return {}
    return out


def _explained(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    text = str(error).lower()
    if number == errno.ENOSPC or "no space left" in text or "limit" in text:
        return "the system watches no more directories: raise fs.inotify.max_user_watches; the scans go on"
    if number == errno.EMFILE or "too many open files" in text:
        return "the system has no more watchers: raise fs.inotify.max_user_instances; the scans go on"
    return f"the file system cannot be watched ({type(error).__name__}); the scans go on"
