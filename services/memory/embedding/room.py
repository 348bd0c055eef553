"""Memory: how much of it this process may have, and what a worker takes."""

import contextlib
import os
from pathlib import Path

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""A container's own bound, by the second and the first version of control groups."""
_WORKER = 400 << 20
"""Bytes that a worker takes besides its weights: 330 to 410 MB of its own were measured with a model of 90 MB."""


def allowed() -> int | None:
    """Bytes that this machine, or the container, gives us; none = unknown."""
    found = [limit for limit in map(_limit, _LIMITS) if limit is not None]
    with contextlib.suppress(ValueError, OSError):  # a system that does not tell
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(found, default=None)


def of_a_worker(directory: Path) -> int:
    """Bytes that a worker takes, at most, with the model in `directory`."""
    weights = (*directory.glob("*.safetensors"), *directory.glob("*/*.safetensors"))
    return _WORKER + sum(file.stat().st_size for file in weights)


def _limit(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such control group, or "max"
        return None
