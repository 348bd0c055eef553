"""Blocks between tags, told apart from texts that only speak of the tags.

A tag within backticks or within `<<...>>` is a mention. A tag that never closes is one as well, unless the caller
says otherwise; what follows it is somebody's words.
"""

import re
from collections.abc import Callable, Iterable

_LINE_START = re.compile(r"(?:^|\n)[ \t]{0,64}\Z")


def tag_pattern(names: Iterable[str]) -> re.Pattern[str]:
    """What `find_blocks` looks for. Code spans and mentions are matched as well, so that no tag is seen in them."""
    any_of = "|".join(map(re.escape, names))
    return re.compile(
        # A code span that holds more than a tag hides none: a stray backtick must not uncover a block behind it.
        rf"`[^`<\n]*`|`</?(?:{any_of})>`|<</?(?:{any_of})>>"
        rf"|<(?P<end>/?)(?P<name>{any_of})(?:\s[^<>]{{0,500}})?>",
        re.IGNORECASE,
    )


def find_blocks(
    text: str, tags: re.Pattern[str], nested: bool, endless: Callable[[re.Match[str]], bool]
) -> list[tuple[int, int]]:
    """Where the outermost blocks lie, tags included, in order.

    `nested` blocks are closed from the inside out. Of others the first open tag that begins a line is closed, or else
    the last: those before and between are mentions. An opening tag that nothing closes and that is `endless` begins a
    block that reaches to the end of the text.
    """
    opened: dict[str, list[re.Match[str]]] = {}
    found: list[tuple[int, int]] = []
    for tag in tags.finditer(text):
        if tag["name"] is None:
            continue
        waiting = opened.setdefault(tag["name"].lower(), [])
        if not tag["end"]:
            waiting.append(tag)
        elif waiting and nested:
            found.append((waiting.pop().start(), tag.end()))
        elif waiting:
            found.append((next(filter(begins_line, waiting), waiting[-1]).start(), tag.end()))
            waiting.clear()
    outermost: list[tuple[int, int]] = []
    left = [(tag.start(), 0) for waiting in opened.values() for tag in waiting if endless(tag)]
    for start, end in sorted(found + left):
        if outermost and start < outermost[-1][1]:
            outermost[-1] = (outermost[-1][0], max(end, outermost[-1][1]))
        elif end:
            outermost.append((start, end))
        else:
            return [*outermost, (start, len(text))]
    return outermost


def begins_line(tag: re.Match[str]) -> bool:
    """Only blanks stand before it on its line."""
    return _LINE_START.search(tag.string, max(0, tag.start() - 65), tag.start()) is not None


def outside(text: str, blocks: Iterable[tuple[int, int]]) -> list[str]:
    """The pieces of a text that lie before, between and behind its blocks."""
    pieces, at = [], 0
    for start, end in blocks:
        pieces.append(text[at:start])
        at = end
    return [*pieces, text[at:]]
