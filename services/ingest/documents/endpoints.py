"""`POST /api/episodes/upload` and `POST /api/ingest-url`: documents in, their episodes out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import Field, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from anamnesis.contracts.base import Name, Tag
from anamnesis.contracts.documents import MAX_UPLOAD, DocumentIngested, IngestUrl
from anamnesis.contracts.episodes import MAX_TAGS, Trust
from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.keys import Scope
from anamnesis.kit.auth import Needs
from anamnesis.kit.errors import BadRequest, Invalid, TooLarge
from anamnesis.transcripts.episodes import storable
from services.ingest.documents.desk import MAX_FILE_NAME, Desk, HandedIn
from services.ingest.documents.fetching import Fetcher

UPLOAD = "/api/episodes/upload"
MAX_BODY = MAX_UPLOAD + (1 << 20)
"""Bytes: a document, and what a form writes around it."""
WRITE = [Depends(Needs(Scope.WRITE))]
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_TAGS: TypeAdapter[tuple[str, ...]] = TypeAdapter(Annotated[tuple[Tag, ...], Field(max_length=MAX_TAGS - 1)])
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "project"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": ".docx, .pdf, .html, .md, .txt"},
                        "project": {"type": "string"},
                        "tags": {"type": "string", "description": "Separated by commas, or given several times."},
                    },
                }
            }
        },
    }
}
_FAILURES: dict[int | str, dict[str, object]] = {
    400: {"model": ErrorEnvelope, "description": "The form or the address cannot be read."},
    413: {"model": ErrorEnvelope, "description": "The document is too large."},
    422: {"model": ErrorEnvelope, "description": "The document cannot be read; `detail.reason` says why."},
    429: {"model": ErrorEnvelope, "description": "Too many documents are being read."},
}


def routes(desk: Desk, fetcher: Fetcher) -> APIRouter:
    router = APIRouter(tags=["documents"], responses=_FAILURES, dependencies=WRITE)

    @router.post(UPLOAD, status_code=201, openapi_extra=_FORM)
    async def upload(request: Request) -> DocumentIngested:
        """Remember a document of at most 50 MB: .docx, .pdf, .html, .md or .txt. Safe to repeat."""
        async with desk.place():
            return await desk.take(await _handed(request))

    @router.post(
        "/api/ingest-url",
        status_code=201,
        responses={403: {"model": ErrorEnvelope, "description": "The address is not allowed."}},
    )
    async def ingest_url(wish: IngestUrl) -> DocumentIngested:
        """Fetch a document from an address that ANAMNESIS_URL_HOSTS allows, and remember it. Safe to repeat."""
        async with desk.place():
            found = await fetcher.fetch(wish.url)
            return await desk.take(HandedIn(found.data, found.name, wish.project, wish.tags, Trust.WEB, found.url))

    return router


async def _handed(request: Request) -> HandedIn:
    """The document of a form. Raises `BadRequest`, `Invalid` and `TooLarge`."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise BadRequest("send a form (multipart/form-data) with the fields `file` and `project`")
    try:
        async with request.form(max_files=1, max_fields=MAX_TAGS + 4, max_part_size=1 << 16) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise BadRequest("the form has no field `file` with a document")
            given = [text for value in form.getlist("tags") if isinstance(value, str) for text in value.split(",")]
            project = form.get("project")
            try:
                checked = _NAME.validate_python(project if isinstance(project, str) else "")
                tags = _TAGS.validate_python([tag.strip() for tag in given if tag.strip()])
            except ValidationError as error:
                raise Invalid(f"the fields of the form do not fit: {error.errors()[0]['msg']}") from None
            data = await file.read(MAX_UPLOAD + 1)
            if len(data) > MAX_UPLOAD:
                raise TooLarge(f"a document may hold at most {MAX_UPLOAD >> 20} MB")
            name = storable((file.filename or "").replace("\\", "/").rpartition("/")[2])[-MAX_FILE_NAME:]
            # Who hands a document in has not written it: what stands in it must not pass for their own words.
            return HandedIn(data, name or "document", checked, tags, Trust.TOOL)
    except MultiPartException as error:
        raise BadRequest(f"the form cannot be read: {error.message}") from None
