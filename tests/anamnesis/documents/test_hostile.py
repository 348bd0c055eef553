"""Documents that mean harm, or are damaged: each ends as a document or as a refusal, in bounded time and memory."""

import io
import struct
import time
import zipfile
import zlib
from pathlib import Path

import pytest
from docx.document import Document as Docx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anamnesis.documents import Document, DocumentRefused, Limits, extract
from tests.anamnesis.documents import making

QUICK = Limits(seconds=30.0)
SOME = making.paragraph("some text")
ENTITIES = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
LAUGHS = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">{ENTITIES}]>'


def outcome(data: bytes, name: str, limits: Limits = QUICK) -> Document | str:
    """A document, or the reason of the refusal; anything else is a failure of the test."""
    begun = time.monotonic()
    try:
        document = extract(data, name, limits)
    except DocumentRefused as refused:
        return refused.reason if refused.message else "without a message"
    finally:
        assert time.monotonic() - begun < limits.seconds + 15
    for one in document.sections:
        for text in (document.title, one.text, *one.headings):
            text.encode()
    assert sum(len(one.text) for one in document.sections) <= limits.characters
    return document


def text_of(found: Document | str) -> str:
    assert isinstance(found, Document), found
    return "\n".join(one.text for one in found.sections)


def archive(*entries: tuple[str, bytes]) -> bytes:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries:
            file.writestr(name, data)
    return kept.getvalue()


# Archives -----------------------------------------------------------------------------------------


def test_a_flat_bomb_is_refused() -> None:
    """A single entry that unpacks to far more than it takes."""
    assert outcome(making.rewritten(making.docx(), {}, {"word/media/a.bin": bytes(64 << 20)}), "a.docx") == "bomb"


def test_a_large_archive_is_bounded_whatever_its_ratio() -> None:
    """What is unpacked is bounded by itself as well."""
    limits = QUICK._replace(unpacked_bytes=1 << 20)
    assert outcome(making.rewritten(making.docx(), {}, {"a.bin": bytes(2 << 20)}), "a.docx", limits) == "bomb"


def test_many_entries_are_refused() -> None:
    """Before one of them is opened."""
    many = {f"word/media/{number}": b"" for number in range(2_500)}
    assert outcome(making.rewritten(making.docx(), {}, many), "a.docx") == "bomb"


@pytest.mark.parametrize("size", [10, 1 << 30])
def test_headers_that_lie_about_a_size_are_not_believed(size: int) -> None:
    """What an entry says of its size changes nothing about how it is counted."""
    data = bytearray(making.rewritten(making.docx(), {}, {"word/media/a.bin": bytes(64 << 20)}))
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as file:
        entry = file.getinfo("word/media/a.bin")
    struct.pack_into("<L", data, entry.header_offset + 22, size)
    central = data.rfind(b"PK\x01\x02")
    struct.pack_into("<L", data, central + 24, size)
    assert outcome(bytes(data), "a.docx") in ("bomb", "broken")


def test_entries_that_overlap_are_refused() -> None:
    """Many names for the same packed bytes: each is counted as often as it is unpacked."""
    kernel = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = kernel.compress(bytes(4 << 20)) + kernel.flush()
    check = zlib.crc32(bytes(4 << 20))
    sizes = struct.pack("<LLLHH", check, len(packed), 4 << 20, 5, 0)
    data = b"PK\x03\x04" + struct.pack("<HHHHH", 20, 0, 8, 0, 0x21) + sizes + b"a.bin" + packed
    start, central = len(data), b""
    for _ in range(1_000):
        head = struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 0x21)
        central += b"PK\x01\x02" + head + sizes + struct.pack("<HHHLL", 0, 0, 0, 0, 0) + b"a.bin"
    data += central + b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 1_000, 1_000, len(central), start, 0)
    assert outcome(data, "a.docx") in ("bomb", "broken")


def test_an_encrypted_entry_is_refused() -> None:
    """It asks for a password, and the refusal says so."""
    data = bytearray(making.docx())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        data[at + place] |= 1
    assert outcome(bytes(data), "a.docx") == "encrypted"


def test_an_unknown_packing_is_refused() -> None:
    """An archive may name a way of packing that does not exist."""
    data = bytearray(making.docx())
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = data.find(mark)
        struct.pack_into("<H", data, at + place, 77)
    assert outcome(bytes(data), "a.docx") == "encrypted"


def test_an_old_or_encrypted_word_is_refused() -> None:
    """Both are OLE files, whatever they are called."""
    assert outcome(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "a.docx") == "encrypted"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        b"no archive at all",
        making.pdf("a"),
        archive(("a.txt", b"a")),
        archive(("[Content_Types].xml", b"<a/>"), ("_rels/.rels", b"<a/>")),
        archive(("../../etc/cron.d/a", b"a"), ("/etc/passwd", b"a")),
    ],
)
def test_what_is_no_word_document_is_broken(data: bytes) -> None:
    """Archives of something else, and no archives."""
    assert outcome(data, "a.docx") == "broken"


# XML ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["word/document.xml", "docProps/core.xml", "word/_rels/document.xml.rels"])
def test_entities_are_refused_in_every_part(part: str) -> None:
    """Nobody's word processor defines any: a billion laughs, or a file of this machine."""
    for bomb in (
        LAUGHS + "<x>&l9;</x>",
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><x/>',
    ):
        assert outcome(making.rewritten(making.docx(), {part: bomb.encode()}), "a.docx") == "bomb"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8"])
def test_a_document_part_by_another_name_brings_no_entities(encoding: str, tmp_path: Path) -> None:
    """A part that is not called .xml is still parsed without entities, and without reading a file."""
    secret = tmp_path / "secret"
    secret.write_text("hidden words")
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    head = LAUGHS.replace("]>", f'<!ENTITY e SYSTEM "{secret.as_uri()}">]>').replace("DOCTYPE x", "DOCTYPE w:document")
    if encoding == "utf-16":
        head = head.replace('version="1.0"', 'version="1.0" encoding="utf-16"')
    part = f"{head}<w:document {space}><w:body><w:p><w:r><w:t>a&e;&l9;z</w:t></w:r></w:p></w:body></w:document>"
    whole = making.docx()
    with zipfile.ZipFile(io.BytesIO(whole)) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    parts["word/document.bin"] = part.encode(encoding)
    del parts["word/document.xml"]
    for name in ("[Content_Types].xml", "_rels/.rels"):
        parts[name] = parts[name].replace(b"word/document.xml", b"word/document.bin")
    found = outcome(archive(*parts.items()), "a.docx")
    if isinstance(found, Document):
        assert "hidden" not in text_of(found)
        assert "haha" not in text_of(found)
    else:
        assert found in ("broken", "bomb")


@pytest.mark.parametrize("depth", [200, 900, 5_000, 300_000])
def test_xml_that_is_nested_deeply_ends(depth: int) -> None:
    """As a document, or as a refusal: never as a crash that nobody notices."""
    data = making.body("<w:sdt><w:sdtContent>" * (depth // 2) + SOME + "</w:sdtContent></w:sdt>" * (depth // 2))
    found = outcome(data, "a.docx")
    assert found in ("bomb", "broken") or text_of(found) == "some text"
    assert depth < 5_000 or found == "bomb"


def test_a_cell_that_spans_a_billion_columns_is_one_cell() -> None:
    """What a table says of its shape costs nothing."""
    span = '<w:tcPr><w:gridSpan w:val="1000000000"/></w:tcPr>'
    data = making.body(f"<w:tbl><w:tr><w:tc>{span}{SOME}</w:tc></w:tr></w:tbl>")
    assert text_of(outcome(data, "a.docx")) == "some text"


# Web pages ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("tag", ["div", "b", "table><tr><td", "h1"])
def test_a_page_that_is_nested_deeply_ends(tag: str) -> None:
    """Tags within tags, a hundred thousand deep."""
    found = outcome((f"<{tag}>" * 100_000 + "deep").encode(), "a.html", Limits(seconds=6.0))
    assert isinstance(found, Document) or found in ("broken", "too-slow", "memory")


def test_entities_of_a_page_are_not_grown() -> None:
    """Pages cannot define any."""
    found = outcome((LAUGHS + "<p>a &l9; &e; z</p>").encode(), "a.html")
    assert "haha" not in text_of(found)


@pytest.mark.parametrize("data", [b"", b"\0" * 1000, b"\xff\xfe", bytes(range(256)) * 50, b"<", b"<!--", b"<![CDATA["])
def test_odd_pages_end(data: bytes) -> None:
    """Nothing that is no page is an error of ours."""
    assert isinstance(outcome(data, "a.html"), Document | str)


# PDFs ---------------------------------------------------------------------------------------------


def test_a_recursive_page_tree_ends() -> None:
    """A tree whose branch is the tree."""
    catalog = b"<< /Type /Catalog /Pages 2 0 R >>"
    for kids in (b"[2 0 R]", b"[3 0 R 3 0 R]"):
        node = b"<< /Type /Pages /Kids %b /Count 9 >>" % kids
        other = b"<< /Type /Pages /Parent 2 0 R /Kids [2 0 R 2 0 R] /Count 9 >>"
        found = outcome(making.pdf_of([catalog, node, other]), "a.pdf", Limits(seconds=10.0))
        assert found in ("broken", "too-slow", "memory") or not text_of(found)


@pytest.mark.parametrize("count", [-5, 1_000_000_000])
def test_a_number_of_pages_that_lies_is_bounded(count: int) -> None:
    """A PDF says how many pages it has."""
    data = making.pdf("one").replace(b"/Count 1 ", b"/Count %d " % count)
    found = outcome(data, "a.pdf")
    assert found == "broken" or text_of(found) in ("one", "")


def test_an_outline_without_end_ends() -> None:
    """A title that is followed by itself, or lies within itself; the pages are read all the same."""
    good = making.pdf("one", outline=[("A", 1), ("B", 1)])
    for link in (b"/Next 7 0 R", b"/First 7 0 R /Last 7 0 R", b"/First 6 0 R"):
        data = good.replace(b"/Fit] /Next 8 0 R", b"/Fit] " + link)
        assert data != good
        found = outcome(data, "a.pdf", Limits(seconds=10.0))
        assert found in ("too-slow", "memory") or text_of(found) == "one"


def test_an_outline_of_nonsense_costs_no_page() -> None:
    """It is left out."""
    data = making.pdf("one", outline=[("A", 1)]).replace(b"/Dest [4 0 R /Fit]", b"/Dest [[] 9999 0 R]")
    assert text_of(outcome(data, "a.pdf")) == "one"


@pytest.mark.slow
def test_a_bomb_of_a_content_stream_is_bounded() -> None:
    """A page that unpacks to hundreds of megabytes ends, as a refusal or without that page."""
    bomb = zlib.compress(bytes(400 << 20), 9)
    for _ in range(2):
        found = outcome(making.pdf("one", making.stream(bomb, b"/Filter /FlateDecode")), "a.pdf", Limits(seconds=20.0))
        assert found in ("memory", "broken", "too-slow") or text_of(found) == "one"
        bomb = zlib.compress(bomb, 9)


@pytest.mark.slow
def test_a_content_stream_of_operators_ends_by_the_clock_or_the_text() -> None:
    """Text shown again and again is bounded by what a document may hold."""
    page = zlib.compress(b"BT /F1 9 Tf " + b"(abcdefgh) Tj T* " * 400_000 + b"ET", 9)
    limits = Limits(seconds=6.0, characters=10_000)
    found = outcome(making.pdf(making.stream(page, b"/Filter /FlateDecode")), "a.pdf", limits)
    assert found == "too-slow" or (isinstance(found, Document) and found.truncated)


def test_a_truncated_table_of_objects_is_read_or_refused() -> None:
    """Without its end a PDF is looked through for its objects."""
    data = making.pdf("one", "two")
    for end in (data.find(b"xref") + 30, data.find(b"trailer"), data.find(b"startxref"), len(data) - 8):
        found = outcome(data[:end], "a.pdf")
        assert found == "broken" or text_of(found).split() == ["one", "two"]


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-256"])
@pytest.mark.parametrize("password", ["", "hunter2"])
def test_an_encrypted_pdf(algorithm: str, password: str) -> None:
    """One that anybody may open is read; one that asks for a password is refused."""
    from pypdf import PdfWriter

    writer = PdfWriter(clone_from=io.BytesIO(making.pdf("one")))
    writer.encrypt(password, "owner", algorithm=algorithm)
    kept = io.BytesIO()
    writer.write(kept)
    found = outcome(kept.getvalue(), "a.pdf")
    assert found == "encrypted" if password else text_of(found) == "one"


@pytest.mark.parametrize(
    "data", [b"", b"%PDF-1.7", b"%PDF-1.7\nstartxref\n99999999999999\n%%EOF", b"<html>", bytes(5000)]
)
def test_what_is_no_pdf_is_broken(data: bytes) -> None:
    """Whatever it is."""
    assert outcome(data, "a.pdf") == "broken"


# Damage -------------------------------------------------------------------------------------------


def _write(document: Docx) -> None:
    document.add_heading("Head", 1)
    document.add_paragraph("text " * 50)
    document.add_table(2, 2).cell(0, 0).text = "cell"


WHOLE = {
    "a.docx": making.docx(_write),
    "a.pdf": making.pdf("one", "two", outline=[("A", 1)], title="T"),
    "a.html": b"<html><head><title>T</title></head><body><h1>A</h1><p>text &amp; more</p><pre>x</pre></body></html>",
}


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(WHOLE)), st.floats(0, 1), st.binary(max_size=20))
def test_truncated_documents_end(name: str, part: float, rest: bytes) -> None:
    """A document that is cut anywhere, with something else behind."""
    whole = WHOLE[name]
    outcome(whole[: int(len(whole) * part)] + rest, name)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(sorted(WHOLE)), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 7)), min_size=1, max_size=30)
)
def test_documents_with_flipped_bits_end(name: str, flips: list[tuple[float, int]]) -> None:
    """Any bits of any kind."""
    data = bytearray(WHOLE[name])
    for place, bit in flips:
        data[int(place * len(data))] ^= 1 << bit
    outcome(bytes(data), name)
