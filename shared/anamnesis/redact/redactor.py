"""One pass over a text: collect what every finder found, replace it, count it by kind."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from anamnesis.redact.assignments import find_assignments
from anamnesis.redact.formats import find_formats, runs
from anamnesis.redact.headers import find_headers
from anamnesis.redact.pem import find_private_keys
from anamnesis.redact.private import drop_private
from anamnesis.redact.spans import MARK, Span
from anamnesis.redact.urls import find_urls
from anamnesis.redact.values import is_random

MARKER = re.compile(r"\[REDACTED:[a-z0-9-]{1,40}\]")
_MAX_PASSES = 8


@dataclass(frozen=True)
class Redacted:
    """A text without its secrets, and how many of which kind were taken out."""

    text: str
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def redact(text: str, entropy: bool = False, keep_lines: bool = False) -> Redacted:
    """Replace every secret by `[REDACTED:kind]` and drop `<private>` blocks.

    Redacting a redacted text changes nothing. With `entropy`, runs that look random are replaced
    as well; that finds unknown kinds of keys, and now and then an innocent id. With `keep_lines` as many
    newlines are left as were taken out, so that every line keeps its number.
    """
    counts: Counter[str] = Counter()
    for _ in range(_MAX_PASSES):
        # Removing one secret can join or uncover another, so go on until a pass finds nothing.
        found = _pass(text, entropy, keep_lines)
        if not found.counts:
            break
        text = found.text
        counts.update(found.counts)
    return Redacted(text, counts)


def _pass(text: str, entropy: bool, keep_lines: bool) -> Redacted:
    counts: Counter[str] = Counter()
    flat = text.encode("ascii", "replace")
    low = flat.lower()
    if b"<private" in low:
        text, dropped = drop_private(text, keep_lines)
        counts["private"] += dropped
        flat = text.encode("ascii", "replace")
        low = flat.lower()
    spans = [
        *find_private_keys(flat),
        *find_formats(flat),
        *find_urls(flat, low),
        *find_headers(flat, low),
        *find_assignments(flat, low),
    ]
    if entropy:
        spans += [Span(start, end, "high-entropy") for start, end in runs(flat) if is_random(flat[start:end])]
    if not spans:
        return Redacted(text, +counts)
    pieces: list[str] = []
    at = 0
    for start, end, kind in _joined(spans):
        if flat[start:end].startswith(MARK) and MARKER.fullmatch(text, start, end):
            continue
        lines = "\n" * flat.count(b"\n", start, end) if keep_lines else ""
        pieces += (text[at:start], f"[REDACTED:{kind}]{lines}")
        at = end
        counts[kind] += 1
    pieces.append(text[at:])
    return Redacted("".join(pieces), +counts)


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Overlapping spans become one, of the kind of the first finder that saw any part of it."""
    ranked = sorted((span.start, rank, span) for rank, span in enumerate(spans) if span.end > span.start)
    joined: list[tuple[int, Span]] = []
    for _, rank, span in ranked:
        if joined and span.start < joined[-1][1].end:
            best, last = joined[-1]
            kind = last.kind if best <= rank else span.kind
            joined[-1] = (min(best, rank), Span(last.start, max(last.end, span.end), kind))
        else:
            joined.append((rank, span))
    return [span for _, span in joined]
