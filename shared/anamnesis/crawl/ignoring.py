"""What Git leaves out: `.gitignore` in every directory up to the repository's root, and `.git/info/exclude`.

The nearest file decides, within a file the last pattern that matches, and what lies in an ignored directory is
ignored. Files that Git tracks although a pattern ignores them are left out too: its index is not read. `.gitignore`
counts outside repositories as well, where somebody has copied a project without its `.git`.
"""

import os
import re
import stat
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from anamnesis.crawl.globs import InvalidGlob, any_of, path, plain, segment

_MOST = 256 << 10  # bytes of one file of patterns
_MOST_PATTERNS = 2000
"""Of one file; what follows is passed over."""
_MAX_UP = 40  # directories looked at above a root


class _Run(NamedTuple):
    """Neighbouring patterns that say the same."""

    ignores: bool
    names: re.Pattern[str] | None
    """Of anything, by its name alone."""
    paths: re.Pattern[str] | None
    """Of anything, by its path."""
    directory_names: re.Pattern[str] | None
    directory_paths: re.Pattern[str] | None


class Patterns:
    """The patterns of one file, for paths relative to where it stands."""

    __slots__ = ("_runs",)

    def __init__(self, lines: Iterable[str], *, strict: bool = False) -> None:
        """Lines of one character a byte. A pattern that is none is passed over, as by Git, or raises `InvalidGlob`."""
        runs: list[tuple[bool, tuple[list[str], list[str], list[str], list[str]]]] = []
        for line in lines:
            pattern = _trimmed(line)
            if not pattern or pattern.startswith("#"):
                continue
            ignores = not pattern.startswith("!")
            pattern = pattern if ignores else pattern[1:]
            only_directories = pattern.endswith("/")
            pattern = pattern[:-1] if only_directories else pattern
            named = "/" not in pattern
            try:
                expression = segment(pattern) if named else path(pattern)
            except InvalidGlob:
                if strict:
                    raise
                continue
            if not runs or runs[-1][0] != ignores:
                runs.append((ignores, ([], [], [], [])))
            runs[-1][1][only_directories * 2 + (not named)].append(expression)
        # What comes later decides.
        self._runs = tuple(_Run(ignores, *map(any_of, lists)) for ignores, lists in reversed(runs))

    def decide(self, relative: str, name: str, directory: bool) -> bool | None:
        """Whether something is ignored; none where no pattern speaks of it. Both are `plain`."""
        for ignores, names, paths, directory_names, directory_paths in self._runs:
            if (
                (names is not None and names.match(name))
                or (paths is not None and paths.match(relative))
                or (directory and directory_names is not None and directory_names.match(name))
                or (directory and directory_paths is not None and directory_paths.match(relative))
            ):
                return ignores
        return None

    def __bool__(self) -> bool:
        return bool(self._runs)


class Ignore(NamedTuple):
    """Files of patterns that count in a directory, the nearest first."""

    patterns: Patterns
    start: int
    """Where, in the `plain` path of anything below, the part begins that is relative to the file."""
    above: "Ignore | None"

    def ignores(self, whole: str, name: str, directory: bool) -> bool:
        """Whether something is ignored whose directory is not. The absolute path and the name are `plain`."""
        one: Ignore | None = self
        while one is not None:
            decided = one.patterns.decide(whole[one.start :], name, directory)
            if decided is not None:
                return decided
            one = one.above
        return False


class Repository(NamedTuple):
    """A working tree of Git."""

    root: str
    name: str
    """Of its directory; of a linked worktree that of the repository it was taken from."""
    excludes: Patterns
    """Of `info/exclude`."""


def below(directory: str, above: Ignore | None) -> Ignore | None:
    """What counts in a directory that holds a `.gitignore`."""
    patterns = _read(os.path.join(directory, ".gitignore"))
    return Ignore(patterns, len(plain(directory)) + 1, above) if patterns else above


def repository(directory: str, boundary: str) -> Repository | None:
    """The repository whose root a directory with an entry `.git` is. Nothing outside the boundary is read."""
    mark = os.path.join(directory, ".git")
    try:
        mode = os.lstat(mark).st_mode
    except OSError:
        return None
    name = os.path.basename(directory)
    if stat.S_ISDIR(mode):
        return Repository(directory, name, _read(os.path.join(mark, "info", "exclude")))
    if not stat.S_ISREG(mode):
        return None
    first = _bytes(mark, 4096).split(b"\n", 1)[0]
    if not first.startswith(b"gitdir:") or b"\0" in first:
        return None
    store = os.path.normpath(os.path.join(directory, os.fsdecode(first[len(b"gitdir:") :].strip())))
    main, worktree, _ = store.partition("/.git/worktrees/")
    store = main + "/.git" if worktree else store
    within = (os.path.realpath(store) + "/").startswith(boundary.rstrip("/") + "/")
    excludes = _read(os.path.join(store, "info", "exclude")) if within else Patterns(())
    return Repository(directory, os.path.basename(main) if worktree else name, excludes)


def above(directory: str, boundary: str) -> tuple[Repository | None, Ignore | None]:
    """The repository that a directory lies in and what it ignores, as far as the boundary lets us look."""
    chain: list[str] = []
    found: Repository | None = None
    current = directory
    for _ in range(_MAX_UP):
        chain.append(current)
        found = repository(current, boundary)
        parent = os.path.dirname(current)
        if found is not None or current == boundary or parent == current:
            break
        current = parent
    if found is None:
        return None, None
    ignore = rooted(found)
    for one in reversed(chain[1:]):  # its own file is read when it is entered
        ignore = below(one, ignore)
    return found, ignore


def rooted(found: Repository) -> Ignore | None:
    """What counts at a repository's root before its `.gitignore`."""
    return Ignore(found.excludes, len(plain(found.root)) + 1, None) if found.excludes else None


def _read(file: str) -> Patterns:
    return _patterns(_bytes(file, _MOST))


@lru_cache(maxsize=256)
def _patterns(content: bytes) -> Patterns:
    text = content.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    return Patterns(line.removesuffix("\r") for line in text.split("\n", _MOST_PATTERNS)[:_MOST_PATTERNS])


def _bytes(file: str, most: int) -> bytes:
    """The beginning of a small regular file; nothing where it is none."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return b""
    try:
        return os.pread(descriptor, most, 0) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _trimmed(line: str) -> str:
    """A line without the spaces at its end that no backslash keeps."""
    end = len(line)
    while end and line[end - 1] == " ":
        backslashes = len(line[: end - 1]) - len(line[: end - 1].rstrip("\\"))
        if backslashes % 2:
            break
        end -= 1
    return line[:end]
