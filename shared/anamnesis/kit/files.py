"""Small files for their owner alone, replaced whole or not at all."""

import os
from pathlib import Path


def replace(path: Path, text: str) -> None:
    """Write a file, mode 600 at every moment; after a crash there is the old one or the new one."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.fsencode(text))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
