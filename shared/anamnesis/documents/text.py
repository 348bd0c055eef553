"""Text of documents: decoded, and without what no store takes."""

from anamnesis.crawl.decoding import decode


def decoded(data: bytes) -> str | None:
    """The text of plain bytes; none where they are no text."""
    return decode(data)


def tidy(text: str) -> str:
    """Without NUL characters and lone surrogates, which PDFs bring."""
    return text.replace("\x00", "").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
