"""Documents in parts: each a few paragraphs below the same heading, with the page that it begins on."""

from collections.abc import Sequence

from anamnesis.cutting import Piece, cut
from anamnesis.documents.document import Document, DocumentKind, Section

LEAST = 600
"""Characters below which a section is joined by the next one."""
MOST = 1_800


def pieces(document: Document) -> list[Piece]:
    """Lines are counted over the whole text, section after section."""
    if document.kind in (DocumentKind.MD, DocumentKind.TXT):
        return cut("\n".join(one.text for one in document.sections), f"document.{document.kind}")
    found: list[Piece] = []
    waiting: list[tuple[Section, int]] = []
    size = 0
    line = 1
    for section in document.sections:
        first, line = line, line + section.text.count("\n") + 1
        if waiting and size + len(section.text) > MOST:
            found += _joined(waiting)
            waiting, size = [], 0
        waiting.append((section, first))
        size += len(section.text)
        if size >= LEAST:
            found += _joined(waiting)
            waiting, size = [], 0
    return [*found, *_joined(waiting)]


def _joined(sections: Sequence[tuple[Section, int]]) -> list[Piece]:
    if not sections:
        return []
    (first, line), (last, last_line) = sections[0], sections[-1]
    label = " > ".join(first.headings)
    if len(sections) == 1:
        return [
            Piece(one.text, line + one.line - 1, line + one.last_line - 1, label, first.page)
            for one in cut(first.text, "document.txt", least=LEAST, most=MOST)
        ]
    told: list[str] = []
    before: tuple[str, ...] = first.headings
    for section, _ in sections:
        if section.headings != before and section.headings:
            told.append(section.headings[-1])
        before = section.headings
        told.append(section.text)
    return [Piece("\n".join(told), line, last_line + last.text.count("\n"), label, first.page)]
