"""What each kind of document gives: all of its text in order, below its headings, with its pages and its title."""

import re

import pytest
from docx.document import Document as Docx
from hypothesis import given, settings
from hypothesis import strategies as st

from anamnesis.documents import Document, DocumentKind, Limits, Section, docx, html, kind_of, pdf, pieces
from tests.anamnesis.documents import making

LIMITS = Limits()
WORDS = st.lists(st.text("abcdefghij", min_size=1, max_size=9), min_size=1, max_size=40)


def told(document: Document) -> list[tuple[tuple[str, ...], str]]:
    return [(one.headings, one.text) for one in document.sections]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("A.DOCX", DocumentKind.DOCX),
        ("a.b.pdf", DocumentKind.PDF),
        ("a.htm", DocumentKind.HTML),
        ("a.markdown", DocumentKind.MD),
        (".txt", DocumentKind.TXT),
        ("a.doc", None),
        ("pdf", None),
        ("a.pdf.exe", None),
        ("", None),
    ],
)
def test_the_name_says_the_kind(name: str, kind: DocumentKind | None) -> None:
    """Only the last ending counts, in any case."""
    assert kind_of(name) is kind


def test_word_has_headings_lists_and_tables() -> None:
    """Text stands below all headings above it; a row of a table is a line, with its equal cells."""

    def write(document: Docx) -> None:
        document.add_heading("Handbook", 0)
        document.add_paragraph("Before all.")
        document.add_heading("Backups", 1)
        document.add_heading("Nightly", 2)
        document.add_paragraph("At two.")
        document.add_paragraph("Keep seven", "List Bullet")
        table = document.add_table(2, 3)
        for cell, text in zip((c for row in table.rows for c in row.cells), "abbcdd", strict=True):
            cell.text = text
        table.cell(0, 0).merge(table.cell(1, 0))
        document.add_heading("Restores", 1)
        document.add_paragraph("By hand.")

    document = docx.read(making.docx(write, "The book"), LIMITS)
    assert (document.kind, document.title, document.pages, document.truncated) == ("docx", "The book", None, False)
    assert told(document) == [
        (("Handbook",), "Before all."),
        (("Backups", "Nightly"), "At two.\n- Keep seven\na c | b | b\nd | d"),
        (("Restores",), "By hand."),
    ]


def test_words_content_controls_changes_and_boxes_are_text() -> None:
    """What is shown is told once: content controls, tracked insertions, text boxes, nested tables; not deletions."""
    again = making.paragraph("again")
    box = (
        f"<w:r><mc:AlternateContent><mc:Choice><w:txbxContent>{making.paragraph('boxed')}</w:txbxContent></mc:Choice>"
        f"<mc:Fallback>{again}</mc:Fallback></mc:AlternateContent></w:r>"
    )
    inner = f"<w:tbl><w:tr><w:tc>{making.paragraph('nested')}</w:tc></w:tr></w:tbl>"
    document = docx.read(
        making.body(
            f"<w:sdt><w:sdtPr/><w:sdtContent>{making.paragraph('controlled')}</w:sdtContent></w:sdt>"
            "<w:p><w:pPr><w:tabs><w:tab w:val='left'/></w:tabs></w:pPr><w:ins><w:r><w:t>added</w:t></w:r></w:ins>"
            "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:r><w:tab/><w:t>kept</w:t></w:r></w:p>"
            f"<w:p>{box}</w:p>"
            f"<w:tbl><w:tr><w:tc>{inner}{making.paragraph('outer')}</w:tc></w:tr></w:tbl>"
        ),
        LIMITS,
    )
    assert told(document) == [((), "controlled\nadded\tkept\nboxed\nnested outer")]


def test_a_pdf_has_pages_and_an_outline() -> None:
    """Each page is a section below the titles that begin on it or before."""
    data = making.pdf("Hello\nthere", "Second", "Third", outline=[("Start", 1), ("End", 3)], title="Letters")
    document = pdf.read(data, LIMITS)
    assert (document.kind, document.title, document.pages) == ("pdf", "Letters", 3)
    assert document.sections == (
        Section("Hello\nthere", ("Start",), 1),
        Section("Second", ("Start",), 2),
        Section("Third", ("End",), 3),
    )


def test_a_pdf_without_a_title_is_called_by_its_first_heading() -> None:
    """As the other kinds are."""
    assert pdf.read(making.pdf("x", outline=[("Start", 1)]), LIMITS).title == "Start"


def test_pages_and_characters_are_bounded() -> None:
    """What comes after a limit is left out, and the document says so."""
    some = pdf.read(making.pdf("one", "two", "three"), LIMITS._replace(pages=2))
    assert ([one.text for one in some.sections], some.pages, some.truncated) == (["one", "two"], 3, True)
    few = html.read(b"<p>one two<p>three", LIMITS._replace(characters=5))
    assert (told(few), few.truncated) == ([((), "one t")], True)


def test_a_web_page_is_what_a_reader_sees() -> None:
    """Scripts, navigation and comments are left out; forms that stand around a page are not."""
    document = html.read(
        b"<html><head><title> The\n page</title><style>no</style></head><body><nav>menu<form>no</form></nav>"
        b"<form><h1>Top <b>thing</b></h1><p>One <i>two</i><br>three<!-- no --><script>no()</script>"
        b"<ul><li>first<li>second</ul><h2>Sub</h2><pre>a\n  b<pre>c</pre>d</pre><table><tr><td>x<td>y</table>"
        b"<h1>Next</h1>last</form></body></html>",
        LIMITS,
    )
    assert document.title == "The page"
    assert told(document) == [
        (("Top thing",), "One two\nthree\n- first\n- second"),
        (("Top thing", "Sub"), "a\n  bcd\nx\ny"),
        (("Next",), "last"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_a_web_pages_encoding_is_found(encoding: str) -> None:
    """By its mark, by what it says, or by its bytes."""
    said = f'<html><meta charset="{encoding}"><p>Größe und Maß' if encoding == "cp1252" else "<p>Größe und Maß"
    assert told(html.read(said.encode(encoding), LIMITS)) == [((), "Größe und Maß")]


def test_headings_without_a_text_are_kept() -> None:
    """A heading that nothing stands below is a text itself, also the last one."""
    document = html.read(b"<h1>A</h1><h2>B</h2><h2>C</h2><p>text<h1>D</h1>", LIMITS)
    assert told(document) == [(("A", "B"), "B"), (("A", "C"), "text"), (("D",), "D")]


def test_a_heading_that_is_not_closed_loses_nothing() -> None:
    """What is too long for a heading is a text as well."""
    text = " ".join(f"w{number}" for number in range(400))
    document = html.read(f"<h1><span>{text}".encode(), LIMITS)
    assert [one.text for one in document.sections] == [text]
    assert len(document.sections[0].headings[0]) == 500


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), WORDS), max_size=12))
def test_all_text_is_kept_in_order(parts: list[tuple[int, list[str]]]) -> None:
    """Whatever headings and paragraphs a page has, every word comes once and in its place."""
    names = [f"h{level}" if level else "p" for level, _ in parts]
    page = "".join(f"<{name}>{' '.join(some)}</{name}>" for name, (_, some) in zip(names, parts, strict=True))
    wanted = [word for _, some in parts for word in some]
    document = html.read(page.encode(), LIMITS)
    headings = {name for one in document.sections for name in one.headings}
    assert all(" ".join(some) in headings for level, some in parts if level)
    assert [word for one in document.sections for word in one.text.split()] == [
        word for place, (level, some) in enumerate(parts) for word in some if not level or _is_bare(parts, place)
    ]
    found = [word for one in document.sections for text in (one.text, *one.headings) for word in text.split()]
    assert set(found) == set(wanted)


def _is_bare(parts: list[tuple[int, list[str]]], place: int) -> bool:
    following = parts[place + 1] if place + 1 < len(parts) else (1, [])
    return 0 < following[0] <= parts[place][0] or place + 1 == len(parts)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(("A", "B", "C")), st.integers(1, 60), st.integers(1, 3)), max_size=12))
def test_pieces_hold_all_text_at_its_lines(shape: list[tuple[str, int, int]]) -> None:
    """The lines of a piece are where its words stand in the whole text, and nothing is lost or told twice."""
    number = 0
    sections: list[Section] = []
    for heading, count, lines in shape:
        own = []
        for _ in range(lines):
            own.append(" ".join(f"w{number + at}" for at in range(count)) + ".")
            number += count
        sections.append(Section("\n".join(own), (heading,), len(sections) + 1))
    whole = "\n".join(one.text for one in sections).split("\n")
    found = pieces(Document(DocumentKind.PDF, "", tuple(sections), len(sections)))
    assert [word for one in found for word in re.findall(r"w\d+", one.text)] == [f"w{at}" for at in range(number)]
    for one in found:
        mine = re.findall(r"w\d+", one.text)
        assert mine[0] in re.findall(r"w\d+", whole[one.line - 1])
        assert mine[-1] in re.findall(r"w\d+", whole[one.last_line - 1])
        begun = next(section for section in sections if mine[0] in re.findall(r"w\d+", section.text))
        assert (one.page, one.section) == (begun.page, begun.headings[0])


def test_pieces_of_markdown_are_cut_at_its_headings() -> None:
    """Markdown is cut as every other Markdown file is."""
    text = "\n\n".join(f"# Part {number}\n\n" + f"Sentence of part {number}. " * 40 for number in range(3))
    assert [one.section for one in pieces(Document(DocumentKind.MD, "", (Section(text),)))] == [
        "Part 0",
        "Part 1",
        "Part 2",
    ]
