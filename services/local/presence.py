"""Who runs in a data directory: a lock that the running supervisor holds, and what it says of itself.

The lock is the truth: the kernel gives it back when its holder dies, however it dies. The file
`local.json` only describes the holder. `anamnesis.installation` asks whether the lock is held.
"""

import contextlib
import fcntl
import os
import time
from pathlib import Path

from pydantic import BaseModel, ValidationError

from anamnesis import installation
from anamnesis.kit import files


class ServiceState(BaseModel):
    """One service, as the supervisor sees it."""

    state: str
    pid: int | None
    restarts: int
    address: str


class Presence(BaseModel):
    """The supervisor that runs in a data directory."""

    pid: int
    begun: str
    """When its process began, in the kernel's own words: a pid alone may have passed to another."""
    address: str
    """Where the gateway answers."""
    ready: bool
    services: dict[str, ServiceState]


class Lock:
    """Held by the one supervisor of a data directory for as long as it lives."""

    def __init__(self, data: Path) -> None:
        self._path = data / "local.lock"
        self._descriptor: int | None = None

    def take(self, patience: float = 1.0) -> bool:
        """True when it is ours now; false when another supervisor holds it.

        `installation.held` takes it for an instant, which is why this tries for some seconds.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    os.close(descriptor)
                    return False
                time.sleep(0.05)
            else:
                self._descriptor = descriptor
                return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read(data: Path) -> Presence | None:
    """What the running supervisor says of itself; none when none runs, or it has not said yet."""
    if not installation.held(data):
        return None
    try:
        presence = Presence.model_validate_json((data / "local.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return presence if begun(presence.pid) == presence.begun else None


def write(data: Path, presence: Presence) -> None:
    """Replace the description; `address` beside it is what the `anamnesis` command reads."""
    with contextlib.suppress(OSError):  # a full disk must not stop what is only described here
        files.replace(data / "local.json", presence.model_dump_json())
        files.replace(data / "address", presence.address + "\n")


def note(data: Path) -> None:
    """Leave word for commands that are not told where the data lies; where that cannot be, they must be told."""
    path = installation.note()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.replace(path, f"{data.resolve()}\n")


def clear(data: Path) -> None:
    for name in ("local.json", "address"):
        with contextlib.suppress(OSError):
            (data / name).unlink()


def begun(pid: int) -> str:
    """When a process began: a word that differs between two processes with one pid; empty when it is gone."""
    try:
        # The command's name, in brackets, may hold blanks; field 22 is counted behind it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return ""
    return "unknown"  # no /proc on this system; the lock alone has to do
