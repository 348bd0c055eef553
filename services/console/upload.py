"""`anamnesis upload`: documents for the ingest service to read: files of this machine, or an address."""

import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pydantic import ValidationError
from rich.progress import DownloadColumn, Progress, TaskID

from anamnesis.contracts.documents import MAX_UPLOAD, DocumentIngested, IngestUrl
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError, BadRequest, TooLarge, Unauthorized, Unavailable, UpstreamFailed
from services.console import output

PIECE = 256 << 10  # bytes read from a file at once
READING = 600.0  # seconds for a document to be fetched, read and embedded


class _Shown(NamedTuple):
    """Where it is shown how far a file is."""

    progress: Progress
    task: TaskID


class Belonging(NamedTuple):
    """Where documents belong."""

    project: str
    tags: tuple[str, ...] = ()


async def files(client: ServiceClient, paths: Sequence[Path], belonging: Belonging, as_json: bool) -> None:
    """Send each; one that is refused is told, and the next one goes on."""
    wrong: list[str] = []
    with output.progress(DownloadColumn()) as progress:
        for path in paths:
            size = path.stat().st_size if path.is_file() else -1
            task = progress.add_task(path.name, total=max(size, 0))
            try:
                if size < 0:
                    raise BadRequest("there is no file of this name")
                if size > MAX_UPLOAD:
                    raise TooLarge(f"at most {MAX_UPLOAD >> 20} MB can be uploaded")
                with path.open("rb") as file:
                    ingested = await _send(client, file, path.name, belonging, _Shown(progress, task))
            except (Unavailable, Unauthorized):
                raise
            except AnamnesisError as error:
                wrong.append(f"{path}: {error.message}")
            else:
                _tell(ingested, as_json)
    if wrong:
        raise BadRequest("; ".join(wrong))


async def url(client: ServiceClient, wish: IngestUrl, as_json: bool) -> None:
    """Let the service fetch a document."""
    _tell(await client.request("POST", "/api/ingest-url", DocumentIngested, body=wish, deadline=READING), as_json)


async def _send(
    client: ServiceClient, file: BinaryIO, name: str, belonging: Belonging, shown: _Shown
) -> DocumentIngested:
    boundary = secrets.token_hex(16)
    fields = [("project", belonging.project), *(("tags", tag) for tag in belonging.tags)]

    async def pieces() -> AsyncIterator[bytes]:
        for field, value in fields:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n'
            yield f"{head}{value}\r\n".encode("utf-8", "replace")
        yield (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{_quoted(name)}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode("utf-8", "replace")
        while piece := file.read(PIECE):
            yield piece
            shown.progress.advance(shown.task, len(piece))
        yield f"\r\n--{boundary}--\r\n".encode()

    kind = f"multipart/form-data; boundary={boundary}"
    async with client.stream("POST", "/api/episodes/upload", content=pieces(), content_type=kind) as response:
        answer = await response.aread()
    try:
        return DocumentIngested.model_validate_json(answer)
    except ValidationError:
        raise UpstreamFailed("the answer is not of the expected shape") from None


def _quoted(name: str) -> str:
    """A file's name as browsers write it into a form."""
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


def _tell(one: DocumentIngested, as_json: bool) -> None:
    if as_json:
        output.lines([one.model_dump_json()])
        return
    pages = f", {one.pages} pages" if one.pages is not None else ""
    cut = ", cut at a limit" if one.truncated else ""
    output.say(
        f"{one.name}: {one.created} new episodes, {one.duplicate} known, {one.redactions} redactions "
        f"({one.kind}{pages}, {one.characters} characters{cut})"
    )
