"""Web pages: what a reader sees of them, below their headings."""

import warnings

from bs4 import BeautifulSoup, Comment, Declaration, Doctype, ProcessingInstruction, Tag
from bs4 import XMLParsedAsHTMLWarning as ParsedAsHtml
from bs4.element import NavigableString, PageElement

from anamnesis.documents.document import Document, DocumentKind
from anamnesis.documents.growing import Growing
from anamnesis.documents.limits import Limits

_UNSEEN = ("script", "style", "noscript", "template", "svg", "nav", "iframe", "object", "button", "select")
_LEVELS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    """
    address article aside blockquote body br center dd details dialog div dl dt fieldset figcaption figure footer header
    hr li main ol p pre section summary table td th tr ul
    """.split()  # noqa: SIM905 -- one word a line is no easier to read
)
_NO_TEXT = (Comment, Declaration, Doctype, ProcessingInstruction)


def read(data: bytes, limits: Limits) -> Document:
    warnings.simplefilter("ignore", ParsedAsHtml)
    page = BeautifulSoup(data, "lxml")
    title = " ".join(page.title.get_text().split())[:500] if page.title else ""
    for unseen in page(_UNSEEN):
        unseen.decompose()
    out = Growing(limits.characters)
    line: list[str] = []

    def end_line() -> None:
        text = " ".join("".join(line).split())
        line.clear()
        out.add(text)

    body = page.body or page
    one: PageElement | None = body.next_element
    end = _after(body)
    while one is not None and one is not end and not out.full:
        here, one = one, one.next_element
        if isinstance(here, Tag):
            if here.name in _LEVELS:
                end_line()
                out.heading(_LEVELS[here.name], here.get_text(" "))
                one = _after(here)
            elif here.name == "pre":
                end_line()
                out.add(here.get_text())
                one = _after(here)
            elif here.name in _BLOCKS:
                end_line()
                if here.name == "li":
                    line.append("- ")
        elif isinstance(here, NavigableString) and not isinstance(here, _NO_TEXT):
            line.append(str(here))
    end_line()
    out.close()
    return Document(DocumentKind.HTML, title or out.first_heading, tuple(out.sections), truncated=out.full)


def _after(tag: Tag) -> PageElement | None:
    """What comes when a tag and all within it is over."""
    here: Tag | None = tag
    while here is not None and here.next_sibling is None:
        here = here.parent
    return here.next_sibling if here is not None else None
