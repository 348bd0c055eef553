"""Small trees of files, and scans of them."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from anamnesis.contracts.crawler import CrawlerConfig, MachineRoot, Source
from anamnesis.crawl.found import Found
from anamnesis.crawl.scan import Scan, scan


def write(root: Path, *names: str, text: str = "text\n") -> None:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def configured(root: Path, *sources: Source) -> CrawlerConfig:
    return CrawlerConfig(machine_roots=(MachineRoot(instance="box", path=str(root)),), sources=sources)


def looked(
    root: Path, *sources: Source, allowed: Sequence[Path] | None = None, only: Collection[str] | None = None
) -> Scan:
    """A scan with one machine root."""
    return scan(configured(root, *sources), allowed or (root,), "home", never=(), only=only)


def names(found: Scan, root: Path) -> set[str]:
    return {os.path.relpath(file.path, os.path.realpath(root)) for file in found.files}


def one(found: Scan, name: str) -> Found:
    (file,) = (file for file in found.files if file.path.endswith("/" + name))
    return file
