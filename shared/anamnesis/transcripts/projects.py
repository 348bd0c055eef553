"""The name of the project that a working directory belongs to."""

from pathlib import Path

_MAX_UP = 24  # directories looked at above a working directory


class Projects:
    """Names projects by the basename of their git root, where that can be seen, else of the directory itself.

    A worktree counts as the repository that it was taken from. Without `look` the disk is left alone. Answers are
    kept.
    """

    def __init__(self, look: bool = True) -> None:
        self._look = look
        self._known: dict[str, str] = {}

    def __call__(self, cwd: str) -> str:
        known = self._known.get(cwd)
        if known is None:
            known = self._known[cwd] = self._name(cwd)
        return known

    def _name(self, cwd: str) -> str:
        root = _git_root(cwd) if self._look and cwd.startswith("/") else None
        return basename(str(root) if root else cwd)


def basename(cwd: str) -> str:
    """The last part of a path of any system; `unknown` where there is none."""
    return cwd.replace("\\", "/").rstrip("/").rpartition("/")[2].strip() or "unknown"


def _git_root(cwd: str) -> Path | None:
    """The working tree that holds a directory; of a worktree the main one."""
    try:
        for directory in [Path(cwd), *Path(cwd).parents][:_MAX_UP]:
            mark = directory / ".git"
            if mark.is_dir():
                return directory
            if mark.is_file():
                pointed = mark.read_text("utf-8", "replace")[:4096].strip().removeprefix("gitdir:").strip()
                main, worktree, _ = pointed.partition("/.git/worktrees/")
                return Path(main) if worktree else directory
    except (OSError, ValueError):
        return None
    return None
