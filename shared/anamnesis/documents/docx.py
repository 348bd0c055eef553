"""Word documents: paragraphs, lists and tables below their headings. The archive is looked through before it is parsed.

Nothing is believed of what an archive says of itself: it is unpacked once, entry by entry, and counted meanwhile.
"""

import io
import zipfile
import zlib
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse
from docx import Document as open_docx
from docx.opc.exceptions import OpcError
from docx.table import Table
from docx.text.paragraph import Paragraph

from anamnesis.documents.document import Document, DocumentKind, DocumentRefused
from anamnesis.documents.growing import Growing
from anamnesis.documents.limits import Limits

_OLE = b"\xd0\xcf\x11\xe0"
_BLOCK = 1 << 20
_SMALL = 10 << 20
"""Bytes unpacked up to which no ratio is a bomb."""
_MAX_DEPTH = 1_000  # elements within each other
_MAX_CELLS = 200_000


def read(data: bytes, limits: Limits) -> Document:
    """Raises `DocumentRefused`."""
    if data.startswith(_OLE):
        raise DocumentRefused(
            "encrypted", "this is an encrypted document, or one of an old Word; save it as .docx without a password"
        )
    try:
        _look_through(data, limits)
        document = open_docx(io.BytesIO(data))
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, OpcError, ParseError, OSError):
        raise DocumentRefused("broken", "this is no .docx, or a damaged one; save it again in Word") from None
    except (NotImplementedError, RuntimeError):
        raise DocumentRefused("encrypted", "parts of this archive are encrypted, or packed in an unknown way") from None
    except DefusedXmlException:
        raise DocumentRefused("bomb", "this document defines entities of XML, which no word processor does") from None
    out = Growing(limits.characters)
    cells = 0
    for block in document.iter_inner_content():
        if out.full:
            break
        if isinstance(block, Paragraph):
            level = _level(block)
            if level:
                out.heading(level, block.text)
            else:
                out.add(("- " if _is_listed(block) else "") + block.text)
        elif isinstance(block, Table):
            for row in block.rows:
                texts = list(dict.fromkeys(cell.text.strip().replace("\n", " ") for cell in row.cells))
                cells += len(texts)
                if cells > _MAX_CELLS:
                    break
                out.add(" | ".join(filter(None, texts)))
    out.end()
    title = (document.core_properties.title or "").strip() or out.first_heading
    return Document(DocumentKind.DOCX, title[:500], tuple(out.sections), truncated=out.full)


def _look_through(data: bytes, limits: Limits) -> None:
    """Unpack all of it once, to nowhere."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if len(entries) > limits.entries:
            raise DocumentRefused("bomb", f"this archive has more than {limits.entries} entries")
        unpacked = 0
        for entry in entries:
            if entry.flag_bits & 0x1:
                raise DocumentRefused("encrypted", "parts of this document are encrypted; save it without a password")
            xml = entry.filename.endswith((".xml", ".rels"))
            kept = io.BytesIO()
            with archive.open(entry) as file:
                while block := file.read(_BLOCK):
                    unpacked += len(block)
                    if unpacked > limits.unpacked_bytes or (
                        unpacked > _SMALL and unpacked > limits.ratio * max(len(data), 1)
                    ):
                        raise DocumentRefused("bomb", "this archive unpacks to far more than a document holds")
                    if xml:
                        kept.write(block)
            if xml:
                kept.seek(0)
                _look_at(kept)


def _look_at(part: io.BytesIO) -> None:
    """Refuse document types, entities, and what is nested without end."""
    depth = 0
    for event, element in iterparse(part, events=("start", "end"), forbid_dtd=True):
        if event == "start":
            depth += 1
            if depth > _MAX_DEPTH:
                raise DocumentRefused("bomb", "the parts of this document are nested too deeply")
        else:
            depth -= 1
            element.clear()


def _level(paragraph: Paragraph) -> int:
    """The level of a heading, 1 for a title; 0 where it is none."""
    name = (paragraph.style.name if paragraph.style is not None else "") or ""
    if name == "Title":
        return 1
    number = name.removeprefix("Heading ")
    return int(number) if name.startswith("Heading ") and number.isdecimal() and len(number) < 2 else 0


def _is_listed(paragraph: Paragraph) -> bool:
    name = (paragraph.style.name if paragraph.style is not None else "") or ""
    return name.startswith("List")
