"""Word documents: paragraphs, lists and tables below their headings. The archive is looked through before it is parsed.

Nothing is believed of what an archive says of itself: it is unpacked once, entry by entry, and counted meanwhile.
"""

import io
import zipfile
import zlib
from collections.abc import Iterator
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse
from docx import Document as open_docx
from docx.opc.exceptions import OpcError
from docx.oxml.xmlchemy import BaseOxmlElement
from docx.text.paragraph import Paragraph

from anamnesis.documents.document import Document, DocumentKind, DocumentRefused
from anamnesis.documents.growing import Growing
from anamnesis.documents.limits import Limits

_OLE = b"\xd0\xcf\x11\xe0"
_BLOCK = 1 << 20
_SMALL = 10 << 20
"""Bytes unpacked up to which no ratio is a bomb."""
_MAX_DEPTH = 1_000  # elements within each other
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_AROUND = frozenset(_W + name for name in ("tbl", "sdt", "sdtContent", "customXml", "ins", "moveTo", "smartTag"))
"""What stands around paragraphs and rows without being one."""
_NOT_SHOWN = frozenset(
    (
        *(_W + name for name in ("del", "moveFrom", "pPr", "rPr", "tcPr", "trPr", "sdtPr", "sdtEndPr")),
        "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback",
    )
)
"""Deleted, moved away, how it looks, or the same once more for old programs."""
_SIGNS = {_W + "tab": "\t", _W + "br": "\n", _W + "cr": "\n", _W + "noBreakHyphen": "-", _W + "ptab": "\t"}


def read(data: bytes, limits: Limits) -> Document:
    """Raises `DocumentRefused`."""
    if data.startswith(_OLE):
        raise DocumentRefused(
            "encrypted", "this is an encrypted document, or one of an old Word; save it as .docx without a password"
        )
    try:
        _look_through(data, limits)
        document = open_docx(io.BytesIO(data))
    except DefusedXmlException:  # a kind of ValueError
        raise DocumentRefused("bomb", "this document defines entities of XML, which no word processor does") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, OpcError, ParseError, OSError):
        raise DocumentRefused("broken", "this is no .docx, or a damaged one; save it again in Word") from None
    except (NotImplementedError, RuntimeError):
        raise DocumentRefused("encrypted", "parts of this archive are encrypted, or packed in an unknown way") from None
    out = Growing(limits.characters)
    for block in _blocks(document.element.body):
        if out.full:
            break
        if block.tag == _W + "tr":
            cells = (" ".join(_text(cell).split()) for cell in block.iterchildren(_W + "tc", _W + "sdt"))
            out.add(" | ".join(filter(None, cells)))
        else:
            style = _style(Paragraph(block, document._body))
            level = _level(style)
            if level:
                out.heading(level, _text(block))
            else:
                out.add(("- " if style.startswith("List") else "") + _text(block).strip())
    out.close()
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


def _blocks(element: BaseOxmlElement) -> Iterator[BaseOxmlElement]:
    """Paragraphs and rows of tables in their order, also within content controls."""
    for child in element.iterchildren():
        if child.tag in (_W + "p", _W + "tr"):
            yield child
        elif child.tag in _AROUND:
            yield from _blocks(child)


def _text(element: BaseOxmlElement) -> str:
    """What is shown of a paragraph or a cell: also insertions that are tracked, text boxes and tables within."""
    return "".join(_runs(element))


def _runs(element: BaseOxmlElement) -> Iterator[str]:
    for child in element.iterchildren():
        if child.tag == _W + "t":
            yield child.text or ""
        elif child.tag in _SIGNS:
            yield _SIGNS[child.tag]
        elif child.tag not in _NOT_SHOWN:
            if child.tag == _W + "p":
                yield "\n"
            yield from _runs(child)
            if child.tag == _W + "txbxContent":
                yield "\n"


def _style(paragraph: Paragraph) -> str:
    return (paragraph.style.name if paragraph.style is not None else "") or ""


def _level(name: str) -> int:
    """The level of a heading by its style's name, 1 for a title; 0 where it is none."""
    if name == "Title":
        return 1
    number = name.removeprefix("Heading ")
    return int(number) if name.startswith("Heading ") and number.isdecimal() and len(number) < 2 else 0
