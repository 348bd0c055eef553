"""What a source would read, in bounded time and without reading it."""

import time
from collections.abc import Sequence
from pathlib import Path

from anamnesis.contracts.crawler import CrawlerConfig, Preview, PreviewRequest
from anamnesis.crawl.scan import printable, scan
from anamnesis.kit.errors import Invalid

SECONDS = 5.0
EXAMPLES = 20


def preview(
    request: PreviewRequest,
    config: CrawlerConfig,
    allowed: Sequence[Path],
    home_instance: str,
    *,
    never: Sequence[Path] | None = None,
    seconds: float = SECONDS,
) -> Preview:
    """Look for the files of one source alone; after `seconds` what was found so far. Raises `Invalid`."""
    roots = config.machine_roots if request.machine_roots is None else request.machine_roots
    source = request.source.model_copy(update={"enabled": True})
    alone = config.model_copy(update={"machine_roots": roots, "sources": (source,)})
    deadline = time.monotonic() + seconds
    found = scan(alone, allowed, home_instance, never=never, stop=lambda: time.monotonic() > deadline)
    problem = found.problems.get(source.name)
    if problem is not None and not found.files:
        raise Invalid(problem)
    step = max(1, len(found.files) // EXAMPLES)
    return Preview(
        files=len(found.files),
        bytes=sum(file.size for file in found.files),
        # From all over, rather than all from the first directory.
        examples=tuple(printable(file.path) for file in found.files[::step][:EXAMPLES]),
        left_out=dict(found.left_out),
        complete=not found.stopped,
        errors=dict(found.errors),
    )
