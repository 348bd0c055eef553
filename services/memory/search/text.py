"""Text as search sees it: lexical terms, windows that fit an embedding model, and the passage of an episode.

Pure functions over strings; which model is used and how vectors are made belongs to the embedding engine,
how terms are indexed to the stores. Terms of a store and of a question must come from here, or they do not meet.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from Stemmer import Stemmer  # type: ignore[import-not-found]
from tokenizers import Tokenizer

MAX_TERM = 64
"""Characters of a term; longer ones keep their beginning."""
MAX_TERMS = 20_000
"""Distinct terms of a passage; the most frequent are kept, ties in order of appearance."""
MAX_QUERY_TERMS = 64
"""Distinct terms of a question; the first ones are kept."""
MAX_WINDOWS = 64
"""Windows of an episode; a longer text is sampled evenly (see `cut`)."""
OVERLAP = 0.2
"""Share of a window that its successor repeats."""
HEAD_END = "\f"
"""Parts the head of a passage, its summary, from the rest: the head gets windows of its own, before all others."""
SPECIAL_TOKENS = 4
"""Tokens that a model adds by itself, and a reserve for words that are cut in two."""

Spans = Sequence[tuple[int, int]]
Tokens = Callable[[str], Spans]
"""Text -> the character spans of its tokens, in order, without special tokens and without truncation."""

STOP_WORDS = frozenset(
    """
    a about above after again all also am an and any are aren as at be because been before being below between both
    but by can could couldn d did didn do does doesn doing don done down during each etc few for from further had hadn
    has hasn have haven having he her here hers herself him himself his how i if in into is isn it its itself just ll
    m me might more most must my myself no nor not now of off on once only or other our ours ourselves out over own
    please re s same shall she should shouldn so some such t than that the their theirs them themselves then there
    these they this those through to too under until up us ve very was wasn we were weren what when where which while
    who whom whose why will with won would wouldn you your yours yourself yourselves
    """.split()  # noqa: SIM905 -- one word a line is no easier to read
)

_ASCII_WORD = re.compile(r"[A-Za-z0-9_]++(?:(?:::|->|[-./:\\@])[A-Za-z0-9_]++)*+(?:\+\+|#)?+")
_MARKED = (
    r"[\w\u0300-\u036f\u0591-\u05bd\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff"
    r"\u0e31-\u0e4e\u0e80-\u109f\u1780-\u17d3]"
)
"""Letters, digits, and the marks of scripts that write vowels as marks (`\\w` leaves those out)."""
_WORD = re.compile(rf"{_MARKED}++(?:(?:::|->|[-./:\\@]){_MARKED}++)*+(?:\+\+|#)?+")
_PART = re.compile(rf"{_MARKED}+")
_HUMP = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^A-Z]+")
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+)"
)
"""Scripts written without spaces between words (and Hangul, whose words carry endings): indexed by pairs."""
_GAP = re.compile(r"\s{16,}")
_LONG_RUN = re.compile(r"(\w{64}|[^\W\x00-\x7f]{32})(?=\w)")


class Cut(NamedTuple):
    """A text's windows, in order, and the share of its tokens (0..1) that lie in at least one of them."""

    windows: tuple[str, ...]
    covered: float


class _Expander:
    """Raw word -> its terms, remembered for short words; the memory is emptied when full."""

    def __init__(self, room: int = 200_000) -> None:
        self._room = room
        self._known: dict[str, tuple[str, ...]] = {}
        self._stemmer = Stemmer("english", 0)

    def __call__(self, word: str) -> tuple[str, ...]:
        known = self._known.get(word)
        if known is None:
            known = self._expand(word)
            if len(word) <= MAX_TERM:
                if len(self._known) >= self._room:
                    self._known.clear()
                self._known[word] = known
        return known

    def _expand(self, word: str) -> tuple[str, ...]:
        parts = _PART.findall(word)
        found: list[str] = []
        if len(parts) > 1 or not word[-1].isalnum():
            found.append(_fold(word)[:MAX_TERM])
        for part in parts:
            found.extend(self._simple(part))
        return tuple(term for term in found if term)

    def _simple(self, word: str) -> list[str]:
        """Terms of a word without joints: itself, and its pieces by underscore and by humps."""
        if not word.isascii() and _UNSPACED.search(word):
            return self._pairs(word)
        pieces = [hump for piece in word.split("_") if piece for hump in _humps(piece)]
        whole = _fold(word).strip("_")
        if len(pieces) < 2:
            return self._stemmed([whole])
        return [whole[:MAX_TERM], *self._stemmed([_fold(piece) for piece in pieces])]

    def _pairs(self, word: str) -> list[str]:
        found: list[str] = []
        for index, run in enumerate(_UNSPACED.split(_fold(word))):
            if index % 2 == 0:
                found.extend(self._stemmed([run.strip("_")]))
            elif len(run) == 1:
                found.append(run)
            else:
                found.extend(run[at : at + 2] for at in range(len(run) - 1))
        return found

    def _stemmed(self, words: list[str]) -> list[str]:
        kept = [word[:MAX_TERM] for word in words if word and word not in STOP_WORDS]
        stems: list[str] = self._stemmer.stemWords(kept)
        return stems


_expand = _Expander()


def _fold(word: str) -> str:
    return word.lower() if word.isascii() else unicodedata.normalize("NFKC", word).casefold()


def _humps(word: str) -> list[str]:
    """`parseHTTPReply` -> parse, HTTP, Reply; a word in one case stays whole."""
    if word.islower() or word.isupper() or word.isdigit() or word[1:].islower() or not word.isascii():
        return [word]
    return _HUMP.findall(word)


def _words(text: str) -> list[str]:
    if text.isascii():
        return _ASCII_WORD.findall(text)
    return _WORD.findall(unicodedata.normalize("NFC", text))


def terms(text: str) -> Counter[str]:
    """Lexical terms of a passage and how often each occurs.

    Words in any script, case-folded, English stems, stop words left out. Names of code and paths count whole
    and by their parts (`foo_bar`, `fooBar`, `a/b.c`); scripts without spaces count by pairs of characters.
    """
    counts: Counter[str] = Counter()
    for word, times in Counter(_words(text)).items():
        for term in _expand(word):
            counts[term] += times
    if len(counts) > MAX_TERMS:
        counts = Counter(dict(counts.most_common(MAX_TERMS)))
    return counts


def query_terms(text: str) -> tuple[str, ...]:
    """The distinct lexical terms of a question, in order of appearance; may be empty."""
    found = dict.fromkeys(term for word in _words(text) for term in _expand(word))
    return tuple(found)[:MAX_QUERY_TERMS]


def passage(summary: str, raw_exchange: str | None) -> str:
    """The text that stands for an episode in both indexes: its summary, HEAD_END, its raw exchange.

    The summary gets windows of its own, and its words count twice where the exchange holds them too: what was asked
    and how it ended tells more than what was said in between (measured). A text that says nothing new is left out:
    a raw exchange that the summary holds, or a summary that makes up most of the exchange.
    """
    raw = " ".join((raw_exchange or "").split())
    head = " ".join(summary.split())
    if not raw_exchange or raw in head:
        return summary
    if head in raw and len(raw) < 2 * len(head):
        return raw_exchange
    return f"{summary.replace(HEAD_END, ' ')}{HEAD_END}{raw_exchange}"


def bytes_as_tokens(text: str) -> Spans:
    """The bound where a model's tokenizer cannot be read: every UTF-8 byte may be a token."""
    return [(at, at + 1) for at, char in enumerate(text) for _ in range(len(char.encode("utf-8", "replace")))]


def tokens_of(directory: Path) -> Tokens:
    """The tokenizer of a model's directory, or `bytes_as_tokens` where it has no `tokenizer.json`."""
    file = directory / "tokenizer.json"
    if not file.is_file():
        return bytes_as_tokens
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def spans(text: str) -> Spans:
        found: Spans = tokenizer.encode(text, add_special_tokens=False).offsets
        return found

    return spans


def cut(text: str, max_tokens: int, tokens: Tokens = bytes_as_tokens, prefix: str = "") -> Cut:
    """Cut a text into overlapping windows that a model reads whole, each with `prefix` before it.

    `max_tokens` is the model's limit, special tokens included. Windows begin at a word (or inside one that is
    longer than half an overlap), are spread evenly and repeat at least about a fifth of their neighbour.
    A text that would need more than MAX_WINDOWS is sampled: as many windows, spread evenly from its first to
    its last token with equal gaps, and `covered` below 1 says so (the lexical side still holds all of it).
    Runs of more than 64 letters (32 outside ASCII) get a space, because tokenizers replace such a run by one
    unknown token; long runs of blanks, which are no token at all, become one blank. The part before HEAD_END, if
    there is one, is cut by itself. An empty text has no window.
    """
    room = max(1, max_tokens - SPECIAL_TOKENS - len(tokens(prefix) if prefix else ()))
    head, parted, body = text.partition(HEAD_END)
    if not parted:
        return _cut(text, room, tokens, MAX_WINDOWS)[0]
    first, size = _cut(head, room, tokens, MAX_WINDOWS // 2)
    second, rest = _cut(body, room, tokens, MAX_WINDOWS - len(first.windows))
    covered = (first.covered * size + second.covered * rest) / max(1, size + rest)
    return Cut(first.windows + second.windows, covered)


def _cut(text: str, room: int, tokens: Tokens, most: int) -> tuple[Cut, int]:
    """The windows of a text without a head, and how many tokens it has."""
    if not text.strip():
        return Cut((), 1.0), 0
    text = _GAP.sub(" ", _LONG_RUN.sub(r"\1 ", text)).strip()
    spans = tokens(text)
    if len(spans) <= room:
        return Cut((text,), 1.0), len(spans)
    marks = _marks(text, spans, max(1, int(room * OVERLAP / 2)))
    pieces: list[str] = []
    seen = reached = 0
    for first, last in _plan(marks, len(spans), room, most):
        begin = spans[first][0] if first else 0
        end = spans[last][0] if last < len(spans) else len(text)
        pieces.extend(_fitting(text[begin:end].strip(), room, tokens))
        seen += last - max(first, reached)
        reached = last
    return Cut(tuple(pieces), seen / len(spans)), len(spans)


def _marks(text: str, spans: Spans, longest: int) -> list[int]:
    """Indices of tokens at which a window may begin or end, at most `longest` tokens apart, the end included."""
    marks = [0]
    for index in range(1, len(spans)):
        start, before = spans[index][0], spans[index - 1]
        if start <= before[0] or start < before[1]:
            continue
        if text[start - 1].isspace() or index - marks[-1] >= longest:
            marks.append(index)
    marks.append(len(spans))
    return marks


def _plan(marks: list[int], total: int, room: int, most: int) -> list[tuple[int, int]]:
    """(first, last) token of each window, last not included; `total` exceeds `room`."""
    wanted = -(-(total - room) // max(1, int(room * (1 - OVERLAP)))) + 1
    count = min(wanted, most)
    starts = [index * (total - room) / (count - 1) for index in range(count)] if count > 1 else [0.0]
    plan: list[tuple[int, int]] = []
    at = 0
    for start in starts:
        while marks[at] < start:
            at += 1
        first = marks[at]
        end = at
        while end + 1 < len(marks) and marks[end + 1] - first <= room:
            end += 1
        last = marks[max(end, min(at + 1, len(marks) - 1))]
        if not plan or last > plan[-1][1]:
            plan.append((first, last))
    return plan


def _fitting(window: str, room: int, tokens: Tokens) -> list[str]:
    """The window, or its halves where its tokens grew by being cut out of the text."""
    if not window:
        return []
    if len(tokens(window)) <= room or len(window) < 2:
        return [window]
    middle = len(window) // 2
    space = window.find(" ", middle)
    middle = space if 0 <= space < len(window) - 1 else middle
    return _fitting(window[:middle].strip(), room, tokens) + _fitting(window[middle:].strip(), room, tokens)
