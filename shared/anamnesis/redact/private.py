"""`<private>` blocks: what a user marked as not to be remembered."""

from anamnesis.redact.blocks import begins_line, find_blocks, outside, tag_pattern

_TAGS = tag_pattern(["private"])


def drop_private(text: str) -> tuple[str, int]:
    """The text without its private blocks (nested ones included), and how many went.

    A block that is not closed reaches to the end of the text if its tag begins a line; elsewhere it is talk about
    the tag.
    """
    blocks = find_blocks(text, _TAGS, nested=True, endless=begins_line)
    return (_join(outside(text, blocks)), len(blocks)) if blocks else (text, 0)


def _join(pieces: list[str]) -> str:
    """Pieces side by side, kept apart by a space where words would otherwise grow together."""
    joined: list[str] = []
    for piece in filter(None, pieces):
        if joined and not joined[-1][-1].isspace() and not piece[0].isspace():
            joined.append(" ")
        joined.append(piece)
    return "".join(joined)
