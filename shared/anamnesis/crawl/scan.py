"""Looks through the directories of all sources at once, and says which files they mean. Nothing is opened.

A directory is entered only if something below it can be meant, and never through a symbolic link. Names decide first;
a file is asked for its size and time only when a source means it. What changes meanwhile is counted, and keeps the
sources it concerns from being `whole`. Paths are looked up by name here: what somebody swaps for a link between two
looks may be listed, and is refused by `opening`.
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from anamnesis import installation
from anamnesis.contracts.crawler import CrawlerConfig, SourceKind
from anamnesis.crawl import ignoring
from anamnesis.crawl.forbidden import is_forbidden_directory, is_forbidden_file
from anamnesis.crawl.found import Found
from anamnesis.crawl.globs import State, plain
from anamnesis.crawl.ignoring import Ignore
from anamnesis.crawl.noise import MARKS, is_noise_directory, noise
from anamnesis.crawl.opening import ABSENT, reason_of
from anamnesis.crawl.targets import COMPOSE, Base, Plan, Target, is_below, plan

MAX_DEPTH = 40
"""Directories below a root that are looked into."""
EXAMPLES = 5
"""Paths that are kept for each reason."""


@dataclass
class Scan:
    """What was found. Of several sources that mean a file the first has it; hard links count once."""

    files: list[Found] = field(default_factory=list)
    """By path."""
    whole: tuple[str, ...] = ()
    """Sources that were seen completely: what is missing there is gone."""
    left_out: "Counter[str]" = field(default_factory=Counter)
    """Files that sources mean and that are not read, by reason."""
    errors: "Counter[str]" = field(default_factory=Counter)
    """What could not be looked at, by reason."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """The first paths of each reason, printable."""
    problems: dict[str, str] = field(default_factory=dict)
    """By source: why it could not be looked at, or not as a whole; what to do about it."""
    unseen: dict[str, list[str]] = field(default_factory=dict)
    """By source that was looked at: directories of it that could not be seen."""
    directories: "dict[str, Active]" = field(default_factory=dict)
    """All that were looked into, with what is meant there."""
    stopped: bool = False
    """Whether it ended before all was seen."""
    only: frozenset[str] | None = None

    def gone(self, path: str, source: str) -> bool:
        """Whether a file that a source meant before, and that is not among the files, is gone (or no longer meant).

        Also where the source is not whole, if what could not be seen lies elsewhere.
        """
        if self.stopped or source not in self.unseen:
            return False
        if self.only is not None and not any(is_below(path, one) for one in self.only):
            return False
        return not any(is_below(path, directory) for directory in self.unseen[source])

    def concerns(self, path: str) -> bool:
        """Whether a file may be meant, whether it existed at the scan or not; by its name alone."""
        directory, _, name = path.rpartition("/")
        active = self.directories.get(directory or "/")
        if active is None or is_forbidden_file(name):
            return False
        extension = extension_of(name)
        name_plain = plain(name)
        return noise(name, extension) is None and any(
            names is None or names.match(name_plain) for _, names in active.candidates(extension, True)
        )


class _Place(NamedTuple):
    """A project, and where in a path the part begins that is relative to it."""

    project: str
    start: int


def _place(name: str, start: int) -> _Place:
    """The place of a directory's name, or of a name that is given."""
    return _Place(printable(name).strip()[:200].strip() or "unknown", start)


class _Step(NamedTuple):
    """A directory that is yet to be looked into."""

    path: str
    depth: int
    active: "Active"
    ignore: Ignore | None
    git: _Place | None
    deep: _Place | None
    first: _Place


class Active:
    """The sources that mean something at some place, and what of each file's name they ask."""

    __slots__ = ("_by_extension", "items", "wants_gitignore")

    def __init__(self, items: tuple[tuple[Target, State | None], ...]) -> None:
        self.items = items
        self.wants_gitignore = any(target.gitignore for target, _ in items)
        self._by_extension: dict[tuple[str, bool], tuple[tuple[Target, re.Pattern[str] | None], ...]] = {}

    def candidates(self, extension: str, docker: bool) -> tuple[tuple[Target, re.Pattern[str] | None], ...]:
        """The sources that may mean a file, with the expression that its name must fit."""
        known = self._by_extension.get((extension, docker))
        if known is None:
            known = self._by_extension[extension, docker] = tuple(self._candidates(extension, docker))
        return known

    def _candidates(self, extension: str, docker: bool) -> list[tuple[Target, re.Pattern[str] | None]]:
        out: list[tuple[Target, re.Pattern[str] | None]] = []
        for target, state in self.items:
            if target.kind is SourceKind.DOCKER and not docker:
                continue
            fits = extension in target.extensions
            if state is None or state.whole:
                if fits:
                    out.append((target, None))
                continue
            if target.kind is SourceKind.DEEP:
                continue  # its globs name directories
            if state.spelled is not None and (target.spelled is None or extension in target.spelled):
                out.append((target, state.spelled))
            if state.loose is not None and fits:
                out.append((target, state.loose))
        return out


def scan(
    config: CrawlerConfig,
    allowed: Sequence[Path],
    home_instance: str,
    *,
    never: Sequence[Path] | None = None,
    only: Collection[str] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Scan:
    """All files that the enabled sources mean, below directories that may be read.

    `never` are directories that are not entered beside those that hold credentials (none = Anamnesis' own data);
    with `only` nothing is looked at but these paths (real ones) and what lies below them, and no source is whole.
    """
    kept_out = (installation.found(),) if never is None else tuple(never)
    walk = _Walk(plan(config, allowed, home_instance, kept_out), kept_out, only, stop)
    return walk.run()


class _Walk:
    def __init__(
        self, planned: Plan, never: Sequence[Path], only: Collection[str] | None, stop: Callable[[], bool]
    ) -> None:
        self._plan = planned
        self._never = frozenset(os.path.realpath(one.expanduser()) for one in never)
        self._stop = stop
        self._result = Scan(
            problems=dict(planned.problems),
            unseen={target.name: [] for base in planned.bases for target in base.targets},
            only=None if only is None else frozenset(only),
        )
        self._leading = None if only is None else {parent for one in only for parent in _parents(one)}
        paths = [base.path for base in planned.bases]
        # Sorted paths: one that lies in another comes behind it, if perhaps not at once.
        self._overlapping = any(is_below(one, other) for at, other in enumerate(paths) for one in paths[at + 1 :])
        self._known: dict[tuple[int, int], tuple[int, int]] = {}
        """Of files that may be met twice: the place in the list, and the order of the source."""
        self._actives: dict[tuple[tuple[int, int], ...], Active] = {}

    def run(self) -> Scan:
        result = self._result
        for base in self._plan.bases:
            self._walk(base)
            if result.stopped:
                break
        result.files.sort(key=lambda file: file.path)
        if not result.stopped and result.only is None:
            result.whole = tuple(
                name for name, unseen in result.unseen.items() if not unseen and name not in result.problems
            )
        return result

    def _walk(self, base: Base) -> None:
        if not self._concerned(base.path):
            return
        found, ignore = ignoring.above(base.path, base.boundary)
        name = os.path.basename(base.path)
        own = _place(name, len(base.path.rstrip("/")) + 1)
        git = None if found is None else _place(found.name, len(found.root.rstrip("/")) + 1)
        active = self._active([(one, None if one.globs is None else one.globs.start) for one in base.targets])
        stack = [_Step(base.path, 0, active, ignore, git, None, own)]
        while stack:
            if self._stop():
                self._result.stopped = True
                return
            step = stack.pop()
            try:
                with os.scandir(step.path) as listing:
                    entries = list(listing)
            except OSError as error:
                missing = step.depth == 0 and error.errno in ABSENT
                if missing and not base.machine:
                    continue  # not every machine has what a relative root names
                self._miss("root-missing" if missing else reason_of(error), step.path, step.active)
                continue
            if step.depth == 0 and base.machine and not entries:
                self._miss("root-empty", step.path, step.active)
                continue
            self._look(base, step, entries, stack)

    def _look(self, base: Base, step: _Step, entries: "list[os.DirEntry[str]]", stack: list[_Step]) -> None:
        path, depth, active, ignore, git, deep, first = step
        names = {entry.name for entry in entries}
        if depth and not MARKS.isdisjoint(names):
            return
        known = self._result.directories.get(path)  # where roots lie in each other
        self._result.directories[path] = active if known is None else self._active([*known.items, *active.items])
        if ".git" in names and depth and (found := ignoring.repository(path, base.boundary)) is not None:
            git = _place(found.name, len(path) + 1)
            ignore = ignoring.rooted(found)
        if ".gitignore" in names and active.wants_gitignore:
            ignore = ignoring.below(path, ignore)
        docker = any(COMPOSE.fullmatch(one) for one in names if one[0] in "dcD")
        prefix = path if path.endswith("/") else path + "/"
        relative_from = len(plain(base.path.rstrip("/"))) + 1
        for entry in entries:
            name = entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    if depth >= MAX_DEPTH:
                        self._leave("too-deep", prefix + name)
                        continue
                    if is_noise_directory(name):
                        continue
                    below = self._enter(prefix + name, name, path, active, ignore, relative_from)
                    if below is None:
                        continue
                    place = _place(name, len(prefix) + len(name) + 1)
                    stack.append(
                        _Step(
                            prefix + name,
                            depth + 1,
                            below,
                            ignore,
                            git,
                            place if deep is None and _is_project(below) else deep,
                            first if depth else place,
                        )
                    )
                    continue
                extension = extension_of(name)
                candidates = active.candidates(extension, docker)
                if candidates:
                    self._file(base, step, entry, extension, candidates, ignore, git, deep, relative_from)
            except FileNotFoundError:
                continue  # gone since the directory was read: it is not there
            except OSError as error:
                self._miss(reason_of(error), prefix + name, active)

    def _enter(
        self, path: str, name: str, parent: str, active: Active, ignore: Ignore | None, relative_from: int
    ) -> Active | None:
        if not self._concerned(path):
            return None
        hidden = name.startswith(".")
        name_plain = plain(name)
        items = [
            entered
            for target, state in active.items
            if (entered := target.enter(state, name_plain, hidden)) is not None
        ]
        if not items:
            return None
        if path in self._never or is_forbidden_directory(name, os.path.basename(parent)):
            return None
        path_plain = plain(path)
        if ignore is not None and ignore.ignores(path_plain, name_plain, True):
            items = [one for one in items if not one[0].gitignore]
        relative = path_plain[relative_from:]
        items = [one for one in items if not (one[0].excludes and one[0].excludes.decide(relative, name_plain, True))]
        return self._active(items) if items else None

    def _file(
        self,
        base: Base,
        step: _Step,
        entry: "os.DirEntry[str]",
        extension: str,
        candidates: tuple[tuple[Target, re.Pattern[str] | None], ...],
        ignore: Ignore | None,
        git: _Place | None,
        deep: _Place | None,
        relative_from: int,
    ) -> None:
        name = entry.name
        path = entry.path
        name_plain = plain(name)
        meant = [target for target, names in candidates if names is None or names.match(name_plain)]
        only = self._result.only
        if not meant or (only is not None and path not in only and not any(is_below(path, one) for one in only)):
            return
        if is_forbidden_file(name):
            self._leave("credentials", path)
            return
        reason = noise(name, extension)
        if reason is None and not entry.is_file(follow_symlinks=False):
            reason = "symbolic-link" if entry.is_symlink() else "not-regular"
        if reason is not None:
            self._leave(reason, path)
            return
        path_plain = plain(path)
        ignored = ignore is not None and ignore.ignores(path_plain, name_plain, False)
        status: os.stat_result | None = None
        for target in meant:
            if ignored and target.gitignore:
                reason = reason or "ignored"
                continue
            if target.excludes and target.excludes.decide(path_plain[relative_from:], name_plain, False):
                reason = reason or "excluded"
                continue
            if status is None:
                status = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                reason = "not-regular"
                break
            if status.st_size > target.limit:
                reason = reason or "too-large"
                continue
            if status.st_size == 0:
                reason = reason or "empty"
                continue
            if target.project is not None:
                place = _place(target.project, len(base.path.rstrip("/")) + 1)
            elif git is not None:
                place = git
            elif target.kind is SourceKind.DEEP and deep is not None:
                place = deep
            elif target.kind is SourceKind.DOCKER:
                place = _place(os.path.basename(step.path), len(path) - len(name))
            else:
                place = step.first
            self._add(base, target, path, place, status)
            return
        if reason is not None:
            self._leave(reason, path)

    def _add(self, base: Base, target: Target, path: str, place: _Place, status: os.stat_result) -> None:
        files = self._result.files
        file = Found(
            path,
            base.path,
            printable(path[place.start :]),
            base.instance,
            place.project,
            target.name,
            target.tags,
            target.trust,
            target.document,
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
        )
        if status.st_nlink > 1 or self._overlapping:
            key = (status.st_dev, status.st_ino)
            known = self._known.get(key)
            if known is not None:
                at, order = known
                # Of one source the smallest path stands for all links.
                if (target.order, path) < (order, files[at].path):
                    files[at] = file
                    self._known[key] = (at, target.order)
                return
            self._known[key] = (len(files), target.order)
        files.append(file)

    def _active(self, items: list[tuple[Target, State | None]]) -> Active:
        key = tuple((id(target), id(state)) for target, state in items)
        known = self._actives.get(key)
        if known is None:
            known = self._actives[key] = Active(tuple(items))
        return known

    def _concerned(self, path: str) -> bool:
        """Whether a directory leads to what is to be looked at."""
        only = self._result.only
        if only is None or self._leading is None:
            return True
        return path in self._leading or any(is_below(path, one) for one in only)

    def _miss(self, reason: str, path: str, active: Active) -> None:
        self._result.errors[reason] += 1
        self._note(reason, path)
        for target, _ in active.items:
            self._result.unseen[target.name].append(path)

    def _leave(self, reason: str, path: str) -> None:
        self._result.left_out[reason] += 1
        self._note(reason, path)

    def _note(self, reason: str, path: str) -> None:
        known = self._result.examples.setdefault(reason, [])
        if len(known) < EXAMPLES:
            known.append(printable(path))


def _is_project(active: Active) -> bool:
    return any(target.kind is SourceKind.DEEP and state is not None and state.whole for target, state in active.items)


def _parents(path: str) -> list[str]:
    out = ["/"]
    at = path.find("/", 1)
    while at > 0:
        out.append(path[:at])
        at = path.find("/", at + 1)
    return out


def extension_of(name: str) -> str:
    """`.md` of `README.MD`; a name that only begins with a dot has none."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def printable(path: str) -> str:
    """A path that can be stored: bytes that are no UTF-8 are written out."""
    if path.isascii():
        return path
    return os.fsencode(path).decode("utf-8", "backslashreplace")
