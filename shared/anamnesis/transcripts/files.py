"""Finds transcripts under given roots and opens them safely: regular files only, never through a link.

Below a root lie `<project>/<session>.jsonl`, `<project>/<session>/subagents/agent-<id>.jsonl` with
`.meta.json` beside it, and (older) `<project>/agent-<id>.jsonl`. What tools wrote (`tool-results`)
and notes (`memory`) are not transcripts.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson

_SKIPPED = frozenset(("tool-results", "memory", "node_modules"))
_AGENT = re.compile(r"agent-(.+)\.jsonl\Z")
VANISHED = "vanished"
"""The reason that is none to worry: transcripts are deleted every day."""
_MAX_DEPTH = 8
_MAX_META = 64 << 10  # bytes


class Found(NamedTuple):
    """A transcript as the directory shows it, not opened yet."""

    path: str
    root: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    agent: str
    """Id of the subagent whose file it is; empty for a session's own."""


class Walk(NamedTuple):
    files: list[Found]
    """Older ones first, sessions before subagents, so that originals come before their copies."""
    whole: tuple[str, ...]
    """Roots that were seen completely: what is missing there is gone."""
    errors: list[tuple[str, str]]
    """What could not be looked at: the reason, one of a small set, and the path."""


class Refused(Exception):
    """A file is not what it should be; `reason` is one of a small set, fit for a counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def default_roots(environment: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Where Claude Code keeps transcripts: each directory of `CLAUDE_CONFIG_DIR`, else below the home directory."""
    named = [part.strip() for part in environment.get("CLAUDE_CONFIG_DIR", "").split(",") if part.strip()]
    bases = [Path(name).expanduser() for name in named] or [home / ".claude", home / ".config" / "claude"]
    return tuple(base / "projects" for base in bases)


def walk(roots: tuple[Path, ...]) -> Walk:
    """All transcripts below the roots, each once. A root may also be a single file or a configuration directory."""
    found: dict[tuple[int, int], Found] = {}
    whole: list[str] = []
    errors: list[tuple[str, str]] = []
    for given in roots:
        root = os.path.realpath(given.expanduser())
        if os.path.isdir(os.path.join(root, "projects")):
            root = os.path.join(root, "projects")
        before = len(errors)
        if os.path.isfile(root):
            _add(found, root, os.path.dirname(root), os.stat(root))
            continue
        if not os.path.isdir(root):
            errors.append(("root-missing", root))
            continue
        _descend(root, root, 0, found, errors)
        if len(errors) == before:
            whole.append(root)
    files = sorted(found.values(), key=lambda one: (bool(one.agent), one.mtime_ns, one.path))
    return Walk(files, tuple(whole), errors)


def _descend(
    directory: str, root: str, depth: int, found: dict[tuple[int, int], Found], errors: list[tuple[str, str]]
) -> None:
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if depth < _MAX_DEPTH and entry.name not in _SKIPPED and not entry.name.startswith("."):
                            _descend(entry.path, root, depth + 1, found, errors)
                    elif entry.name.endswith(".jsonl") and entry.is_file(follow_symlinks=False):
                        _add(found, entry.path, root, entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue  # gone since the directory was read
    except OSError as error:
        # A directory that has just been deleted is no error; a root that has may only be away.
        if (reason := reason_of(error)) != VANISHED or directory == root:
            errors.append((reason, directory))


def _add(found: dict[tuple[int, int], Found], path: str, root: str, status: os.stat_result) -> None:
    agent = _AGENT.match(os.path.basename(path))
    one = Found(
        path, root, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, agent[1][:100] if agent else ""
    )
    # Hard links and overlapping roots show the same file twice; the smallest path stands for it.
    present = found.get((one.device, one.inode))
    if present is None or one.path < present.path:
        found[one.device, one.inode] = one


@contextmanager
def opened(file: Found) -> Iterator[int]:
    """A descriptor of a regular file that lies below its root. Raises `Refused`."""
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(reason_of(error)) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused("not-regular")
        real = os.path.realpath(file.path)
        if os.path.commonpath((real, file.root)) != file.root:
            raise Refused("outside-root")
        yield descriptor
    except OSError as error:
        raise Refused(reason_of(error)) from None
    finally:
        os.close(descriptor)


def blocks(descriptor: int, start: int, end: int, size: int = 1 << 20) -> Iterator[bytes]:
    """The bytes from `start` to `end`, at most `size` at once; fewer where the file has become shorter."""
    while start < end:
        block = os.pread(descriptor, min(size, end - start), start)
        if not block:
            return
        yield block
        start += len(block)


def agent_type(file: Found) -> str:
    """What kind of subagent wrote a file, from the `.meta.json` beside it; empty where that is unknown."""
    try:
        descriptor = os.open(
            file.path.removesuffix(".jsonl") + ".meta.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        )
    except OSError:
        return ""
    try:
        meta = orjson.loads(os.pread(descriptor, _MAX_META, 0))
    except (OSError, orjson.JSONDecodeError):
        return ""
    finally:
        os.close(descriptor)
    named = meta.get("agentType") if isinstance(meta, dict) else None
    return named[:60] if isinstance(named, str) else ""


def reason_of(error: OSError) -> str:
    """Why a file could not be read, as one of a small set."""
    if isinstance(error, FileNotFoundError):
        return VANISHED
    if isinstance(error, PermissionError):
        return "permission"
    if isinstance(error, NotADirectoryError):
        return VANISHED
    return {40: "symbolic-link", 5: "input-output", 24: "too-many-open-files"}.get(error.errno or 0, "unreadable")
