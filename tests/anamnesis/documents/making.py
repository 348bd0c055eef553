"""Makes documents for the tests: Word files, PDFs object by object, and archives that lie."""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence

from docx import Document as new_docx
from docx.document import Document as Docx


def docx(write: Callable[[Docx], object] = lambda _: None, title: str = "") -> bytes:
    """A Word document as python-docx saves it."""
    document = new_docx()
    document.core_properties.title = title
    write(document)
    kept = io.BytesIO()
    document.save(kept)
    return kept.getvalue()


def rewritten(data: bytes, parts: Mapping[str, bytes], more: Mapping[str, bytes] | None = None) -> bytes:
    """An archive with some of its entries replaced, and `more` of them at its end."""
    kept = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, parts.get(entry.filename, old.read(entry)))
        for name, content in (more or {}).items():
            new.writestr(name, content)
    return kept.getvalue()


def body(xml: str) -> bytes:
    """A Word document whose body is this XML (`w:` is Word's namespace)."""
    whole = (
        '<?xml version="1.0" encoding="UTF-8"?><w:document '
        'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
        'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        f"<w:body>{xml}</w:body></w:document>"
    )
    return rewritten(docx(), {"word/document.xml": whole.encode()})


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def pdf_of(objects: Sequence[bytes], trailer: bytes = b"") -> bytes:
    """A PDF of these objects, numbered from 1; the first is the catalog."""
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for number, one in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, one)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R %b >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, start)
    return bytes(out)


def stream(data: bytes, more: bytes = b"") -> bytes:
    return b"<< /Length %d %b >>\nstream\n%b\nendstream" % (len(data), more, data)


def shown(text: str) -> bytes:
    """A page's content that shows these lines."""
    lines = b" ".join(b"(%b) Tj T*" % line.encode("latin-1") for line in text.split("\n"))
    return b"BT /F1 12 Tf 14 TL 72 720 Td %b ET" % lines


def pdf(*pages: str | bytes, outline: Sequence[tuple[str, int]] = (), title: str = "") -> bytes:
    """A PDF of one text (or stream object) a page; `outline` names (title, page from 1)."""
    first = 4
    objects = [b"", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for page in pages:
        number = len(objects) + 1
        kids.append(number)
        content = stream(shown(page)) if isinstance(page, str) else page
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % (number + 1)
        )
        objects.append(content)
    assert not kids or kids[0] == first
    objects[1] = b"<< /Type /Pages /Kids [%b] /Count %d >>" % (b" ".join(b"%d 0 R" % one for one in kids), len(kids))
    told = b""
    if outline:
        root = len(objects) + 1
        told = b"/Outlines %d 0 R" % root
        names = [root + 1 + place for place in range(len(outline))]
        objects.append(b"<< /First %d 0 R /Last %d 0 R /Count %d >>" % (names[0], names[-1], len(names)))
        for place, (name, page_number) in enumerate(outline):
            following = b"/Next %d 0 R" % names[place + 1] if place + 1 < len(names) else b""
            objects.append(
                b"<< /Title (%b) /Parent %d 0 R /Dest [%d 0 R /Fit] %b >>"
                % (name.encode("latin-1"), root, kids[page_number - 1], following)
            )
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R %b >>" % told
    trailer = b""
    if title:
        objects.append(b"<< /Title (%b) >>" % title.encode("latin-1"))
        trailer = b"/Info %d 0 R" % len(objects)
    return pdf_of(objects, trailer)
