"""Source code at its definitions: the splitter says where, the syntax tree what each part is."""

from semantic_text_splitter import CodeSplitter

from anamnesis.cutting.definitions import around, definitions, grammar
from anamnesis.cutting.spans import Span

WINDOW = 64_000
"""Characters that the splitter sees at once: the time that it takes grows faster than they do."""
SCRAP = 120  # characters of a part that is too little to stand alone


def parts(text: str, language: str, least: int, most: int) -> list[Span]:
    """The parts of a program, each with the qualified name of what it is or lies in.

    Raises whatever a parser fails with; the caller has another way.
    """
    source = text.encode("utf-8", "replace")
    top = definitions(source, language)
    splitter = CodeSplitter(grammar(language), (least, most), trim=False)
    ends: list[int] = []
    for start, end in _windows(text):
        at = start
        for _, chunk in splitter.chunk_indices(text[start:end]):
            at += len(chunk)
            ends.append(at)
        if at != end:
            raise ValueError("the splitter left something out")
    found: list[Span] = []
    place = 0
    for start, end in _gathered(text, ends, most):
        part = text[start:end]
        lead = len(part) - len(part.lstrip())
        begin = place + lead  # what is blank at the beginning is ASCII, or as good as
        place += len(part.encode("utf-8", "replace"))
        found.append(Span(start, end, around(top, begin, place - len(part) + len(part.rstrip()))))
    return found


def _windows(text: str) -> list[tuple[int, int]]:
    """The text in parts that a splitter takes in a short time, cut at lines where there are any."""
    found: list[tuple[int, int]] = []
    at = 0
    while at < len(text):
        end = min(len(text), at + WINDOW)
        if end < len(text):
            end = text.rfind("\n", at, end) + 1 or end
        found.append((at, end))
        at = end
    return found


def _gathered(text: str, ends: list[int], most: int) -> list[tuple[int, int]]:
    """Parts that begin with their line's indentation, scraps joined to what is before them."""
    found: list[tuple[int, int]] = []
    at = 0
    for place, end in enumerate(ends):
        line = text.rfind("\n", at, end) + 1
        if place < len(ends) - 1 and line > at and not text[line:end].strip():
            end = line
        if end <= at:
            continue
        scrap = len(text[at:end].strip()) < SCRAP
        if scrap and found and end - found[-1][0] <= most:
            found[-1] = (found[-1][0], end)
        else:
            found.append((at, end))
        at = end
    return found
