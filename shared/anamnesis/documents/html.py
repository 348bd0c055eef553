"""Web pages: what a reader sees of them, below their headings."""

import warnings

from bs4 import BeautifulSoup, Comment, Declaration, Doctype, ProcessingInstruction, Tag
from bs4 import XMLParsedAsHTMLWarning as ParsedAsHtml
from bs4.element import NavigableString

from anamnesis.documents.document import Document, DocumentKind
from anamnesis.documents.growing import Growing
from anamnesis.documents.limits import Limits

_UNSEEN = ("script", "style", "noscript", "template", "svg", "nav", "iframe", "object", "form", "button", "select")
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
    inside: Tag | None = None
    """The heading or the preformatted block that is being read."""

    def end_line() -> None:
        text = " ".join("".join(line).split())
        line.clear()
        out.add(text)

    for one in (page.body or page).descendants:
        if out.full:
            break
        if isinstance(one, Tag):
            if one.name in _LEVELS:
                end_line()
                out.heading(_LEVELS[one.name], one.get_text(" "))
                inside = one
            elif one.name == "pre":
                end_line()
                out.add(one.get_text())
                inside = one
            elif one.name in _BLOCKS:
                end_line()
                if one.name == "li":
                    line.append("- ")
            continue
        if not isinstance(one, NavigableString) or isinstance(one, _NO_TEXT):
            continue
        if inside is not None and any(parent is inside for parent in one.parents):
            continue  # told already
        line.append(str(one))
    end_line()
    out.end()
    return Document(DocumentKind.HTML, title or out.first_heading, tuple(out.sections), truncated=out.full)
