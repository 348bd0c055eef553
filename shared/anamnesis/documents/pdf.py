"""PDFs: the text of each page, below the titles of the outline that point to it or to a page before."""

import io
from collections.abc import Iterator, Sequence

from pypdf import PdfReader
from pypdf.errors import DependencyError
from pypdf.generic import Destination

from anamnesis.documents.document import Document, DocumentKind, DocumentRefused
from anamnesis.documents.growing import Growing
from anamnesis.documents.limits import Limits

_MAX_TITLES = 5_000
_MAX_DEPTH = 20


def read(data: bytes, limits: Limits) -> Document:
    """Raises `DocumentRefused`. A page that cannot be read is left out."""
    try:
        reader = PdfReader(io.BytesIO(data), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentRefused("encrypted", "this PDF asks for a password; save it without one")
        count = max(len(reader.pages), 0)
    except (DocumentRefused, MemoryError):
        raise
    except DependencyError:
        raise DocumentRefused("encrypted", "this PDF is encrypted in a way not read here; save it plainly") from None
    except Exception:  # noqa: BLE001 -- a damaged one fails in every way there is
        raise DocumentRefused("broken", "this is no PDF, or a damaged one; print it to a new PDF") from None
    titles: dict[int, list[tuple[int, str]]] = {}
    for page, level, title in _titles(reader):
        titles.setdefault(page, []).append((level, title))
    out = Growing(limits.characters)
    path: list[tuple[int, str]] = []
    unread = 0
    for number in range(min(count, limits.pages)):
        if out.full:
            break
        out.page(number + 1)
        for level, title in titles.get(number, ()):
            path = [*((own, name) for own, name in path if own < level), (level, title)]
        out.path(path)
        try:
            out.add(reader.pages[number].extract_text())
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001
            unread += 1
    out.close()
    if unread and not out.sections:
        raise DocumentRefused("broken", "no page of this PDF can be read; print it to a new PDF")
    return Document(
        DocumentKind.PDF,
        _title(reader) or out.first_heading,
        tuple(out.sections),
        pages=count,
        truncated=out.full or count > limits.pages or bool(unread),
    )


def _title(reader: PdfReader) -> str:
    try:
        return str((reader.metadata.title if reader.metadata else None) or "").strip()[:500]
    except Exception:  # noqa: BLE001 -- a title is not worth a document
        return ""


def _titles(reader: PdfReader) -> list[tuple[int, int, str]]:
    """(page from 0, level from 1, title) of the outline, in its order; empty where it cannot be read."""
    found: list[tuple[int, int, str]] = []
    try:
        for level, one in _flat(reader.outline, 1):
            page = reader.get_destination_page_number(one)
            title = " ".join(str(one.title or "").split())[:500]
            if page is not None and page >= 0 and title:
                found.append((page, level, title))
            if len(found) >= _MAX_TITLES:
                break
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 -- an outline is not worth a document
        return found
    return found


def _flat(outline: Sequence[object], level: int) -> Iterator[tuple[int, Destination]]:
    for one in outline:
        if isinstance(one, list):
            if level < _MAX_DEPTH:
                yield from _flat(one, level + 1)
        elif isinstance(one, Destination):
            yield level, one
