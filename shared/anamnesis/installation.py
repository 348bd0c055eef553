"""Where the services of this machine keep their data: what their supervisor and the `anamnesis` command agree on.

A supervisor holds `local.lock` of its data directory for as long as it lives, and says in `address` beside it
where the gateway answers. Which directory that was last is noted at one fixed place for each person, so that
a command finds it without being told.
"""

import fcntl
import os
from pathlib import Path
from typing import TypeVar

from anamnesis.kit.settings import Settings

S = TypeVar("S", bound=Settings)


def held(data: Path) -> bool:
    """Whether a supervisor runs in this data directory."""
    try:
        descriptor = os.open(data / "local.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def located(settings: S) -> S:
    """The settings with the data directory that is meant: as set, else the one that is found."""
    return settings if "data_dir" in settings.model_fields_set else settings.model_copy(update={"data_dir": found()})


def found() -> Path:
    """The usual data directory where a supervisor runs in it, else the one that services were last started in."""
    usual = Settings.model_construct().data
    return usual if held(usual) else _noted() or usual


def note() -> Path:
    """The file that names the data directory in which services were last started."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state") / "anamnesis" / "data"


def _noted() -> Path | None:
    try:
        path = Path(os.fsdecode(note().read_bytes()[:5000].removesuffix(b"\n")))
        return path if path.is_absolute() and path.is_dir() else None
    except (OSError, ValueError):  # ValueError: a path that no system would take
        return None
