"""How a text is cut, chosen by the name of its file."""

from collections.abc import Callable

from anamnesis.cutting import code, markdown, yaml
from anamnesis.cutting.definitions import language_of
from anamnesis.cutting.piece import Piece
from anamnesis.cutting.spans import Span, joined, made, paragraphs

MARKDOWN = frozenset({"md", "markdown", "mdx"})
YAML = frozenset({"yml", "yaml"})
HEADINGS = " > "
NAMES = "."


def cut(text: str, name: str, *, least: int = 600, most: int = 1800) -> list[Piece]:
    """The pieces of a text, most of them between `least` and `most` characters long and none longer.

    `name` is its file's: its ending tells the kind. Together the pieces hold all that is not blank, in order.
    """
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    if ending in MARKDOWN:
        return made(text, joined(text, markdown.sections(text), least, most), HEADINGS)
    if ending in YAML:
        return made(text, joined(text, yaml.entries(text, most), least, most), NAMES)
    if (language := language_of(ending)) is not None:
        spans = _or_none(lambda: code.parts(text, language, least, most))
        if spans is not None:
            return made(text, joined(text, spans, least, most), NAMES)
    return made(text, paragraphs(text, Span(0, len(text)), least, most), HEADINGS)


def _or_none(parse: Callable[[], list[Span]]) -> list[Span] | None:
    """What a parser of somebody else's made of a text; none where it failed, in whatever way."""
    try:
        return parse()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException:  # noqa: BLE001 - a panic in Rust is no Exception, and a file is not worth a crawl
        return None
