"""`<private>` blocks: what a user marked as not to be remembered."""

import re

_TAG = re.compile(r"<(/?)private(?:\s[^<>]{0,200})?>", re.IGNORECASE)


def drop_private(text: str) -> tuple[str, int]:
    """The text without its private blocks (nested ones included), and how many went.

    A block that is not closed reaches to the end of the text.
    """
    kept: list[str] = []
    depth, at, dropped = 0, 0, 0
    for tag in _TAG.finditer(text):
        if tag[1]:
            if depth == 1:
                at = tag.end()
            depth = max(0, depth - 1)
            continue
        if depth == 0:
            kept.append(text[at : tag.start()])
            dropped += 1
        depth += 1
    if depth == 0:
        kept.append(text[at:])
    return (_join(kept), dropped) if dropped else (text, 0)


def _join(pieces: list[str]) -> str:
    """Pieces side by side, kept apart by a space where words would otherwise grow together."""
    joined: list[str] = []
    for piece in filter(None, pieces):
        if joined and not joined[-1][-1].isspace() and not piece[0].isspace():
            joined.append(" ")
        joined.append(piece)
    return "".join(joined)
