"""Static files of the pages: read once, compressed once, served under an address that changes with them.

All files share one digest in their address, so that modules find one another by relative paths. Under the present
digest a file may be cached for ever; under another one (a page that was open while the gateway was replaced) the
present file is given and not kept.
"""

import gzip
import hashlib
import mimetypes
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import Response

from anamnesis.kit.errors import NotFound

STATIC = Path(__file__).parent / "static"
PREFIX = "/dashboard/static"
_FOREVER = "public, max-age=31536000, immutable"
_WORTH_COMPRESSING = 256  # bytes
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".json": "application/json"}


class _File(NamedTuple):
    body: bytes
    compressed: bytes | None
    media_type: str


class Assets:
    """The files of one directory, held in memory: together they are smaller than one photograph."""

    def __init__(self, directory: Path = STATIC) -> None:
        self._files = {
            path.relative_to(directory).as_posix(): _read(path)
            for path in sorted(directory.rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        }
        digest = hashlib.sha256()
        for name, file in self._files.items():
            digest.update(name.encode() + b"\0" + hashlib.sha256(file.body).digest())
        self.digest = digest.hexdigest()[:16]

    def path(self, name: str) -> str:
        """The path of a file, below the gateway's root."""
        if name not in self._files:
            raise KeyError(f"there is no static file {name}")
        return f"{PREFIX}/{self.digest}/{name}"

    def routes(self) -> APIRouter:
        router = APIRouter()

        @router.get(PREFIX + "/{digest}/{name:path}", include_in_schema=False)
        async def static(request: Request, digest: str, name: str) -> Response:
            return self._answer(name, digest == self.digest, accepts_gzip(request))

        return router

    def _answer(self, name: str, present: bool, compress: bool) -> Response:
        file = self._files.get(name)
        if file is None:
            raise NotFound("there is no such file; reload the page")
        headers = {
            "Cache-Control": _FOREVER if present else "no-cache",
            "Vary": "Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        body = file.body
        if compress and file.compressed is not None:
            headers["Content-Encoding"], body = "gzip", file.compressed
        return Response(body, media_type=file.media_type, headers=headers)


def accepts_gzip(request: Request) -> bool:
    """Whether the caller takes gzip; one that rules it out with `q=0` is believed."""
    for one in request.headers.get("accept-encoding", "").split(","):
        name, _, quality = one.partition(";")
        if name.strip().lower() in ("gzip", "*"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _read(path: Path) -> _File:
    body = path.read_bytes()
    compressed = gzip.compress(body, 9, mtime=0) if len(body) > _WORTH_COMPRESSING else None
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "text/plain"
    return _File(body, compressed if compressed and len(compressed) < len(body) else None, kind)
