"""Extractive summaries: what was asked, what was done, how it ended, in the words of those who were there."""

import re
from collections.abc import Sequence

from anamnesis.transcripts.tools import Done, one_line

MAX_ASKED = 600  # characters
MAX_DONE = 700
MAX_OUTCOME = 700

_FENCE = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_NOISE = re.compile(r"^(?:[-=_*#|\s:]+|\|.*\|)$")
_HEADING = re.compile(r"^#{1,6}\s+")
_BULLET = re.compile(r"^\s*(?:[-*+•]|\d{1,2}[.)])\s+")
_STRESS = re.compile(r"(\*\*|__)(?=\S)(.{1,300}?)(?<=\S)\1")
_SENTENCE = re.compile(r"(?<=[.!?。！？])[\"')\]]*\s+(?=[\"'(\[`]?[^a-z\s])")
_PRAISE = re.compile(
    r"(?i)^(?:perfect|great|excellent|awesome|sure|certainly|absolutely|of course|done|okay|ok|alright|got it|thanks?"
    r"|thank you|good (?:question|point|idea)|no problem|happy to help|hi|hello|hey)\b[^.!?]{0,30}[.!?:]*$"
)
_FILLER = re.compile(
    r"(?i)^(?:you'?re (?:absolutely |completely )?right\b.{0,40}|let me know\b.*"
    r"|(?:i'?d|i'?ll|i would|i will) (?:be )?(?:happy|glad) to (?:help|assist)\b.{0,120}"
    r"|(?:let me|now,? let me|now i'?ll|i'?ll now|let'?s) .{0,160}"
    r"|(?:great|good|excellent|interesting|nice|wonderful) (?:example|question|choice|point|idea)s?\b.{0,40}"
    r"|here(?:'s| is| are) .{0,80}:)$"
)


_BOILERPLATE = re.compile(
    r"(?i)^(?:here(?:'s| is| are) .{0,120}:|this (?:will )?outputs?:"
    r"|(?:step-by-step )?(?:explanation|guide|summary|output|overview|conclusion|notes?)"
    r"|(?:updated|improved|example|complete|full|revised|enhanced|modified|final|sample)"
    r" (?:code|implementation|example|version)"
    r"|(?:key )?(?:changes|improvements|points|features|considerations)(?: and \w+)?):?$"
)
"""Lines that only announce what has been left out of a summary: code, or the list that follows anyway."""


def summarise(asked: Sequence[str], done: Sequence[Done], said: Sequence[str], interrupted: bool) -> str:
    """Up to three lines: the request, the deeds, the outcome. Bounded, and never empty where anything was said.

    `asked` are the user's words, `said` the assistant's texts, each in order.
    """
    lines = []
    request = _request(asked)
    if request:
        lines.append(f"Asked: {request}")
    deeds = _deeds(done)
    if deeds:
        lines.append(f"Did: {deeds}")
    outcome = _outcome(said)
    if interrupted:
        outcome = f"{outcome} (The user interrupted.)" if outcome else "The user interrupted before an answer."
    if outcome:
        lines.append(f"{'Outcome' if deeds else 'Answer'}: {outcome}")
    return "\n".join(lines)


def _request(asked: Sequence[str]) -> str:
    """The first words of each turn; the first turn gets most of the room."""
    texts = [plain for text in asked if (plain := prose(text, _PRAISE))]
    if not texts:
        return one_line(" ".join(asked), MAX_ASKED)
    room = MAX_ASKED if len(texts) == 1 else MAX_ASKED * 2 // 3
    first = _head(texts[0], room)
    rest = " / ".join(one_line(text, MAX_ASKED // 6) for text in texts[1:4])
    return f"{first} / {rest}" if rest else first


def _deeds(done: Sequence[Done]) -> str:
    """What was changed, run, delegated, looked at: the lasting things first, each once."""
    edited = _names(done, "edit")
    ran = _runs(done)
    asked_others = _names(done, "agent")
    searched = _names(done, "search")
    looked = _names(done, "read")
    others = list({one.line.partition(" ")[0]: one.line for one in done if one.kind == "other"}.values())
    pieces = []
    if edited:
        pieces.append("edited " + _listed(edited, 8))
    if ran:
        pieces.append("ran " + _listed(ran, 4))
    if asked_others:
        pieces.append("delegated " + _listed(asked_others, 3))
    if others:
        pieces.append(_listed([one_line(line, 160) for line in others[-2:]], 2))
    if looked:
        pieces.append("read " + _listed(looked, 5))
    if searched:
        pieces.append("searched " + _listed(searched, 3))
    return one_line("; ".join(pieces), MAX_DONE)


def _names(done: Sequence[Done], kind: str) -> list[str]:
    """Subjects of one kind, each once; a thing that only ever failed says so."""
    worked: dict[str, bool] = {}
    for one in done:
        if one.kind == kind and one.subject:
            worked[one.subject] = worked.get(one.subject, False) or not one.failed
    return [one_line(subject, 100) + ("" if well else " (failed)") for subject, well in worked.items()]


def _runs(done: Sequence[Done]) -> list[str]:
    """Commands with how they ended last; those that ended well come last, as they did."""
    last: dict[str, bool] = {}
    for one in done:
        if one.kind == "run" and one.subject:
            last.pop(one.subject, None)
            last[one.subject] = one.failed
    runs = [f"`{one_line(command, 90)}`" + (" (failed)" if failed else "") for command, failed in last.items()]
    return runs if len(runs) <= 4 else [*runs[:1], *runs[-3:]]


def _listed(items: Sequence[str], most: int) -> str:
    shown = ", ".join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"


def _outcome(said: Sequence[str]) -> str:
    """The leading sentences of the last text that says something; a short one is led in by the one before."""
    texts = [plain for text in said if (plain := prose(text, _PRAISE, _FILLER))]
    texts = texts or [plain for text in said if (plain := prose(text))]
    if not texts:
        return ""
    last = _head(texts[-1], MAX_OUTCOME)
    if len(last) >= 80 or len(texts) == 1:
        return last
    before = _head(texts[-2], MAX_OUTCOME - len(last) - 1)
    return f"{before} {last}"


def prose(text: str, *fillers: re.Pattern[str]) -> str:
    """Text without code blocks, tables, rules and mark-up, on one line; sentences that are fillers left out."""
    kept = []
    for line in _FENCE.sub("", text[:20_000]).splitlines():
        if not line.strip() or _NOISE.match(line):
            continue
        line = _STRESS.sub(r"\2", _BULLET.sub("", _HEADING.sub("", line.strip())))
        if fillers and _BOILERPLATE.match(line):
            continue
        if line:
            kept.append(line if line[-1] in ".!?:;,…" or not _is_item(line) else line + ";")
    flat = " ".join(kept).strip(" ;")
    sentences = [sentence for sentence in _SENTENCE.split(flat) if sentence]
    telling = [sentence for sentence in sentences if not any(f.match(sentence.strip()) for f in fillers)]
    return " ".join(telling)


def _is_item(line: str) -> bool:
    """Headings and list items end without a stop; a semicolon keeps them apart on one line."""
    return len(line) < 120


def _head(text: str, length: int) -> str:
    """Whole sentences of at most `length` characters, or the beginning of the first."""
    if len(text) <= length:
        return text
    taken = ""
    for sentence in _SENTENCE.split(text):
        if len(taken) + len(sentence) + 1 > length:
            break
        taken = f"{taken} {sentence}" if taken else sentence
    return taken if len(taken) >= length // 3 else one_line(text, length)
