"""What each source of a configuration means: where it looks, and which files there are its own.

Trust follows whose words a file holds. Teachings and named files (CLAUDE.md, handoffs, notes) are what a person wrote
for their assistants: `user`. Projects, scripts and documents are whatever lies on a disk, cloned and downloaded ones
among them, which says no more than what a tool reads from there: `tool`.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anamnesis.contracts.crawler import DOCUMENTS, CrawlerConfig, Source, SourceKind
from anamnesis.contracts.episodes import Trust
from anamnesis.crawl.forbidden import is_forbidden_path
from anamnesis.crawl.globs import Globs, InvalidGlob, State, plain
from anamnesis.crawl.ignoring import Patterns

SCRIPTS = (".sh", ".bash", ".zsh", ".fish", ".py", ".pl", ".rb", ".js", ".ts", ".groovy", ".ps1", ".bat", ".cmd")
TEACHINGS = (".md", ".txt")
DOCKER_FILES = ("CLAUDE.md", "README.md", "*.py", "*.sh")
COMPOSE = re.compile(r"(?:docker-)?compose\.ya?ml|Dockerfile")
_OF_A_USER = frozenset((SourceKind.NAMED, SourceKind.TEACHINGS))


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """One source below one directory."""

    order: int
    """Place of the source; of several that mean a file the first has it."""
    name: str
    kind: SourceKind
    project: str | None
    tags: tuple[str, ...]
    trust: Trust
    document: bool
    limit: int
    """Bytes."""
    gitignore: bool
    globs: Globs | None
    """None = every file with a fitting extension."""
    extensions: frozenset[str]
    spelled: frozenset[str] | None
    """Extensions that also files must have whose names are spelled by a glob; none = any."""
    excludes: Patterns
    """Relative to the directory."""

    def enter(self, state: State | None, name: str, hidden: bool) -> tuple["Target", State | None] | None:
        """What is meant in a directory below; none where nothing is. The name is `plain`."""
        if self.kind is SourceKind.SCRIPTS:
            return None
        if state is None:
            return None if hidden else (self, None)
        entered = state.enter(name, hidden)
        return None if entered is None else (self, entered)


@dataclass(frozen=True, slots=True)
class Base:
    """A directory that is looked through for all the sources that begin there."""

    path: str
    """Its real path."""
    boundary: str
    """The directory that may be read and that holds it."""
    instance: str
    machine: bool
    """Whether it stands for a machine or is named absolutely: an empty one is then probably not mounted."""
    targets: list[Target] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    bases: list[Base]
    """In the order of their paths."""
    problems: dict[str, str]
    """By source: why it cannot be looked at, or not as a whole."""


@dataclass(frozen=True, slots=True)
class _Machine:
    path: str
    boundary: str
    instance: str


class _Outside(Exception):
    pass


def plan(config: CrawlerConfig, allowed: Sequence[Path], home_instance: str, never: Sequence[Path]) -> Plan:
    """What is to be looked at; directories within `never` are left out like those that hold credentials."""
    within = [os.path.realpath(one.expanduser()) for one in allowed]
    forbidden = [os.path.realpath(one.expanduser()) for one in never]
    machines: list[_Machine] = []
    troubles: list[str] = []
    for root in config.machine_roots:
        try:
            path, boundary = _permitted(root.path, within, forbidden)
            machines.append(_Machine(path, boundary, root.instance))
        except _Outside as error:
            troubles.append(str(error))
    bases: dict[tuple[str, str], Base] = {}
    problems: dict[str, str] = {}
    for order, source in enumerate(config.sources):
        if not source.enabled:
            continue
        absolute = source.root is not None and os.path.isabs(os.path.expanduser(source.root))
        try:
            target = _target(order, source, config)
            if not absolute and (troubles or not machines):
                problems[source.name] = (
                    troubles[0] if troubles else "no machine root is set: add one, or give the source an absolute root"
                )
            for path, boundary, instance in _places(source, machines, within, forbidden, home_instance):
                key = (path, instance)
                if key not in bases:
                    whole = absolute or source.root is None or os.path.normpath(source.root) == "."
                    bases[key] = Base(path, boundary, instance, whole)
                bases[key].targets.append(target)
        except (_Outside, InvalidGlob) as error:
            problems[source.name] = str(error)
    return Plan(sorted(bases.values(), key=lambda base: base.path), problems)


def _places(
    source: Source, machines: Sequence[_Machine], within: Sequence[str], forbidden: Sequence[str], home_instance: str
) -> list[tuple[str, str, str]]:
    """The directory, its boundary and its machine, wherever a source looks."""
    root = os.path.expanduser(source.root or ".")
    if os.path.isabs(root):
        path, boundary = _permitted(root, within, forbidden)
        holding = [one for one in machines if is_below(path, one.path)]
        return [(path, boundary, max(holding, key=lambda one: len(one.path)).instance if holding else home_instance)]
    if ".." in root.split("/"):
        raise _Outside(f"{root} leads upwards; name a directory below the machine roots, or an absolute one")
    found = []
    for machine in machines:
        path, boundary = _permitted(os.path.join(machine.path, root), within, forbidden)
        found.append((path, boundary, machine.instance))
    return found


def _permitted(path: str, within: Sequence[str], forbidden: Sequence[str]) -> tuple[str, str]:
    """The real path of a directory that may be read, and the permitted one that holds it."""
    if not os.path.isabs(os.path.expanduser(path)):
        raise _Outside(f"{path} is not absolute; a machine root begins with /")
    real = os.path.realpath(os.path.expanduser(path))
    holding = [one for one in within if is_below(real, one)]
    if not holding:
        raise _Outside(f"{path} lies outside what may be read; add its directory to ANAMNESIS_SOURCES, or name another")
    boundary = max(holding, key=len)
    if is_forbidden_path(real) or any(is_below(real, one) for one in forbidden):
        raise _Outside(f"{path} holds credentials or Anamnesis' own data, which are never read; name another directory")
    return real, boundary


def is_below(path: str, directory: str) -> bool:
    """Whether a real path is a directory or lies in it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _target(order: int, source: Source, config: CrawlerConfig) -> Target:
    kind = source.kind
    if kind in (SourceKind.NAMED, SourceKind.DEEP) and not source.globs:
        meant = "files" if kind is SourceKind.NAMED else "directories"
        raise InvalidGlob(f"a source of kind {kind} needs globs: the names of the {meant} that it means")
    extensions, spelled, globs = config.extensions, source.extensions, source.globs
    if kind is SourceKind.SCRIPTS:
        extensions = SCRIPTS
    elif kind is SourceKind.TEACHINGS:
        extensions = TEACHINGS
    elif kind is SourceKind.DOCUMENTS:
        extensions = spelled = source.extensions or DOCUMENTS
    elif kind is SourceKind.DOCKER:
        globs = globs or DOCKER_FILES
    limit = config.max_document_bytes if kind is SourceKind.DOCUMENTS else config.max_bytes
    return Target(
        order=order,
        name=source.name,
        kind=kind,
        project=source.project,
        tags=source.tags,
        trust=Trust.USER if kind in _OF_A_USER else Trust.TOOL,
        document=kind is SourceKind.DOCUMENTS,
        limit=source.max_bytes or limit,
        gitignore=source.gitignore,
        globs=Globs(globs) if globs else None,
        extensions=frozenset(source.extensions if source.extensions is not None else extensions),
        spelled=None if spelled is None else frozenset(spelled),
        excludes=Patterns((plain(one) for one in (*config.excludes, *source.excludes)), strict=True),
    )
