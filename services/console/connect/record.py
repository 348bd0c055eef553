"""What has been written for a client: kept beside its key, so that it can be undone."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from anamnesis.contracts.base import Contract
from anamnesis.kit.errors import BadRequest
from anamnesis.kit.files import replace
from services.console.connect.edits import Edit

NAME = "connected.json"
BACKUPS = 10  # of one client; older ones go


class Written(Contract):
    """One configuration file."""

    path: str
    kind: Literal["json", "toml"]
    edits: tuple[Edit, ...]
    created: bool
    """Whether it was not there before."""
    sha256: str
    """Of what was written."""
    backup: str | None = None
    """The name of the copy from before, in the same directory as this record."""


class Record(Contract):
    client: str
    url: str
    key_id: str | None
    """None = the key was handed in, and is not ours to revoke."""
    files: tuple[Written, ...] = ()


def folder_of(client: str, project: Path | None, environment: Mapping[str, str], home: Path) -> Path:
    """A directory of its own for each client, and for each project that it is connected in alone."""
    config = environment.get("XDG_CONFIG_HOME", "")
    base = Path(config) if os.path.isabs(config) else home / ".config"
    name = client if project is None else f"{client}-{digest(str(project))[:12]}"
    return base / "anamnesis" / "clients" / name


def load(folder: Path) -> Record | None:
    try:
        return Record.model_validate_json((folder / NAME).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise BadRequest(f"{folder / NAME} cannot be read; remove this directory, and connect again") from None


def save(folder: Path, record: Record) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace(folder / NAME, record.model_dump_json(indent=2) + "\n")


def keep(folder: Path, path: Path, text: str) -> str:
    """Keep a copy of a file as it is; the name of the copy."""
    backups = folder / "backups"
    backups.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = f"{path.name}.{digest(text)[:12]}"
    replace(backups / name, text)
    old = sorted(backups.iterdir(), key=lambda one: one.stat().st_mtime)[:-BACKUPS]
    for one in old:
        one.unlink()
    return f"backups/{name}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
