"""`anamnesis episodes export|import`: JSON lines to and from files, streamed."""

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError
from rich.progress import DownloadColumn, TaskID, TextColumn

from anamnesis.contracts.episodes import EpisodeFilter, EpisodeStats, ImportResult
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import BadRequest, UpstreamFailed
from services.console import output

PIECE = 256 << 10  # bytes read from a file at once


async def export(client: ServiceClient, where: EpisodeFilter, target: Path | None) -> None:
    """Write to standard output, or to a file that appears whole or not at all."""
    if target is None:
        await _write(client, where, sys.stdout.buffer, None)
        return
    with _whole(target) as file:
        written = await _write(client, where, file, target.name)
    output.note(f"{written} episodes in {target}")


@contextmanager
def _whole(target: Path) -> Iterator[BinaryIO]:
    """A file that gets its name only when all of it is on the disk."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


async def import_(client: ServiceClient, source: Path | None, on_conflict: str) -> ImportResult:
    """Send a file (none = standard input) and show what became of its lines."""
    if source is None:
        result = await _send(client, sys.stdin.buffer, None, on_conflict, "standard input")
    else:
        with source.open("rb") as file:
            result = await _send(client, file, os.fstat(file.fileno()).st_size, on_conflict, source.name)
    output.fields(
        [
            ("created", str(result.created)),
            ("updated", str(result.updated)),
            ("duplicates", str(result.duplicates)),
            ("kept away by the blocklist", str(result.blocked)),
            ("refused", str(result.refused)),
        ]
    )
    if result.refused:
        raise BadRequest(f"{result.refused} lines are no episodes; the first: {result.first_refusal}")
    return result


async def _write(client: ServiceClient, where: EpisodeFilter, file: BinaryIO, name: str | None) -> int:
    total = None
    if name is not None and not where.model_dump(exclude_defaults=True):
        total = (await client.get("/api/episodes/stats", EpisodeStats)).episodes
    written = 0
    last = b"\n"
    with output.progress() as progress:
        task: TaskID | None = progress.add_task(name, total=total) if name is not None else None
        async with client.stream("POST", "/api/episodes/export", body=where) as response:
            async for piece in response.aiter_bytes(PIECE):
                file.write(piece)
                written += piece.count(b"\n")
                last = piece[-1:] or last
                if task is not None:
                    progress.update(task, completed=written)
    if last != b"\n":
        raise UpstreamFailed("the export ended in the middle of an episode; try again")
    return written


async def _send(client: ServiceClient, file: BinaryIO, size: int | None, on_conflict: str, name: str) -> ImportResult:
    with output.progress(DownloadColumn(), TextColumn("{task.fields[hint]}")) as progress:
        task = progress.add_task(name, total=size, hint="")

        async def pieces() -> AsyncIterator[bytes]:
            while piece := file.read(PIECE):
                yield piece
                progress.advance(task, len(piece))
            progress.update(task, hint="waiting for the last of them")

        query = {"on_conflict": on_conflict}
        async with client.stream("POST", "/api/episodes/import", content=pieces(), query=query) as response:
            answer = await response.aread()
    try:
        return ImportResult.model_validate_json(answer)
    except ValidationError:
        raise UpstreamFailed("the import's answer is not of the expected shape") from None
