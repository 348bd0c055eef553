"""`<private>` blocks: what a user marked as not to be remembered."""

from anamnesis.redact.blocks import begins_line, find_blocks, outside, tag_pattern

_TAGS = tag_pattern(["private"])


def drop_private(text: str, keep_lines: bool = False) -> tuple[str, int]:
    """The text without its private blocks (nested ones included), and how many went; with `keep_lines` their newlines
    stay.

    A block that is not closed reaches to the end of the text if its tag begins a line; elsewhere it is talk about
    the tag.
    """
    blocks = find_blocks(text, _TAGS, nested=True, endless=begins_line)
    if not blocks:
        return text, 0
    pieces = outside(text, blocks)
    if keep_lines:
        lines = ["\n" * text.count("\n", start, end) for start, end in blocks]
        pieces = [part for pair in zip(pieces, [*lines, ""], strict=True) for part in pair]
    return _join(pieces), len(blocks)


def _join(pieces: list[str]) -> str:
    """Pieces side by side, kept apart by a space where words would otherwise grow together."""
    joined: list[str] = []
    for piece in filter(None, pieces):
        if joined and not joined[-1][-1].isspace() and not piece[0].isspace():
            joined.append(" ")
        joined.append(piece)
    return "".join(joined)
