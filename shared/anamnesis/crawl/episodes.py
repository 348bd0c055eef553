"""Episodes of files: reads one, takes its secrets out, cuts it, and says of each part where it stands."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from anamnesis.contracts.base import MAX_TAG
from anamnesis.contracts.episodes import MAX_PLACE, MAX_RAW, MAX_TAGS, EpisodeCreate, EpisodeSource
from anamnesis.crawl.decoding import decode
from anamnesis.crawl.found import Found
from anamnesis.crawl.marks import Held, episode_id, identity_of, section_of
from anamnesis.crawl.opening import Refused, opened, read
from anamnesis.crawl.scan import printable
from anamnesis.crawl.tagging import Tagger
from anamnesis.cutting import Piece, cut
from anamnesis.documents import Document, Limits, Section, extract, pieces
from anamnesis.redact import redact
from anamnesis.transcripts.episodes import storable

ON = "on:"
"""Begins the tags that name the machines on which a content lies."""
OWN_TAGS = MAX_TAGS - 24
"""Tags that an episode begins with at most: other machines and people add theirs."""
DELETED = "deleted"
"""The tag of what no machine has any more."""
TELLING = 300  # characters of the line that says what a part is about
_NAME = 1000  # characters of a path, and of a section, within a summary
_LANGUAGES = {
    "py": "python", "pyi": "python", "ino": "arduino", "c": "c", "h": "cpp", "hpp": "cpp", "cc": "cpp", "cpp": "cpp",
    "groovy": "groovy", "sh": "shell", "bash": "shell", "zsh": "shell", "fish": "shell", "ps1": "powershell",
    "js": "javascript", "mjs": "javascript", "jsx": "javascript", "ts": "typescript", "tsx": "typescript", "go": "go",
    "rs": "rust", "java": "java", "kt": "kotlin", "rb": "ruby", "pl": "perl", "lua": "lua", "sql": "sql",
}  # fmt: skip
_WRITTEN = frozenset(("md", "markdown", "mdx", "txt", "rst", "adoc", "html", "htm", "docx", "pdf"))
_DIRECTIVE = re.compile(r"#(?:!|\s*(?:include|define|undef|ifn?def|if|else|elif|endif|pragma|import)\b)")
_COMMENT = re.compile(r"(?:#+|//+!?|/\*+!?|\*+|--+|;+|<!--|[rRuU]?\"\"\"|'''|\"\"|%+)\s*(?=\w|[^\x00-\x7f])")
_END = re.compile(r"\s*(?:\*/|-->|\"\"\"|''')\s*$")
_LOOKED_AT = 40  # lines


class Content(NamedTuple):
    """The bytes of a file, and what they are called."""

    data: bytes
    identity: str


@dataclass(frozen=True)
class Made:
    """The episodes of a file in order, one a part, and what was taken out of it."""

    episodes: Sequence[EpisodeCreate]
    parts: Sequence[Held]
    redactions: "Counter[str]" = field(default_factory=Counter)
    slow: Sequence[str] = ()
    """Tag patterns that took too long."""


def read_content(file: Found, limit: int) -> Content:
    """What a file holds. Raises `Refused`."""
    with opened(file) as descriptor:
        data = read(descriptor, limit)
    # The ending decides how it is cut, and an episode belongs to one project.
    name = file.path.rpartition("/")[2]
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    digest = hashlib.sha256(data).digest()
    return Content(data, identity_of(digest, f"{'document' if file.document else 'file'}:{ending}:{file.project}"))


def make(file: Found, content: Content, tagger: Tagger, limits: Limits, entropy: bool) -> Made:
    """Raises `Refused` and `DocumentRefused`."""
    name = file.path.rpartition("/")[2]
    counts: Counter[str]
    if file.document:
        document, text, counts = without_secrets(extract(content.data, name, limits), entropy)
        found = pieces(document)
    else:
        decoded = decode(content.data)
        if decoded is None:
            raise Refused("binary")
        done = redact(decoded, entropy, keep_lines=True)
        text, counts = done.text, Counter(done.counts)
        found = cut(text, name)
    tagged = tagger.tags(printable(name), text) if file.document else tagger.none
    tags = tags_of(file, tagged.tags)
    episodes: list[EpisodeCreate] = []
    parts: list[Held] = []
    for piece in found:
        raw = storable(piece.text)
        if raw:
            one = _episode(file, content.identity, len(episodes), piece, raw, tags)
            episodes.append(one)
            parts.append(Held(one.episode_id or "", section_of(piece.section), piece.line, piece.last_line))
    return Made(episodes, parts, counts, tagged.slow)


def tags_of(file: Found, found: Sequence[str] = ()) -> tuple[str, ...]:
    """The machine first: whatever else there is, that one has to stay."""
    return tuple(dict.fromkeys((on(file.instance), *_kind(file), *file.tags, *found)))[:OWN_TAGS]


def on(instance: str) -> str:
    tag = ON + instance
    return tag if len(tag) <= MAX_TAG else tag[:80] + hashlib.sha256(tag.encode()).hexdigest()[:16]


def telling(text: str, section: str) -> str:
    """The first line that says what a part is about: a comment, a heading, or else whatever stands there first."""
    first = ""
    known = section.rpartition(" > ")[2].casefold()
    for line in text.split("\n", _LOOKED_AT)[:_LOOKED_AT]:
        line = line.strip()
        comment = None if _DIRECTIVE.match(line) else _COMMENT.match(line)
        said = _END.sub("", line[comment.end() :] if comment else line)
        if sum(map(str.isalnum, said)) < 3 or said.casefold() == known:
            continue
        if comment:
            return said[:TELLING]
        first = first or said
    return first[:TELLING]


def _episode(file: Found, identity: str, place: int, piece: Piece, raw: str, tags: tuple[str, ...]) -> EpisodeCreate:
    section = storable(piece.section)
    about = storable(telling(raw, section))
    name = storable(file.relative)[:_NAME]
    return EpisodeCreate(
        episode_id=episode_id(identity, place),
        timestamp=moment(file.mtime_ns),
        instance=file.instance,
        project=file.project,
        summary=f"{name}: {section[:_NAME]}\n{about}" if section else f"{name}\n{about}",
        raw_exchange=raw[:MAX_RAW],
        tags=tags,
        source=EpisodeSource(
            kind="document" if file.document else "file",
            path=storable(printable(file.path))[:MAX_PLACE],
            session=session_of(file),
            position=place,
            line=piece.line,
            last_line=max(piece.line, piece.last_line),
            page=piece.page,
            section=section[:MAX_PLACE] or None,
        ),
        trust=file.trust,
    )


def session_of(file: Found) -> str:
    """A name for the file that outlives its contents."""
    name = f"{file.instance}\0{file.path}".encode("utf-8", "surrogateescape")
    return f"file-{hashlib.sha256(name).hexdigest()[:32]}"


def _kind(file: Found) -> tuple[str, ...]:
    ending = file.path.rpartition("/")[2].rpartition(".")[2].lower()
    if file.document or ending in _WRITTEN:
        return ("doc",)
    return ("code", language) if (language := _LANGUAGES.get(ending)) else ("file",)


def without_secrets(document: Document, entropy: bool) -> "tuple[Document, str, Counter[str]]":
    """The document, its text as a whole, and what was taken out: a secret may go on from one page to the next."""
    counts: Counter[str] = Counter()

    def clean(text: str) -> str:
        done = redact(text, entropy, keep_lines=True)
        counts.update(done.counts)
        return done.text

    text = clean("\n".join(section.text for section in document.sections))
    lines = text.split("\n")
    sections = []
    at = 0
    for section in document.sections:
        end = at + section.text.count("\n") + 1
        own = "\n".join(lines[at:end])
        sections.append(Section(own, tuple(map(clean, section.headings)), section.page))
        at = end
    return document._replace(title=clean(document.title), sections=tuple(sections)), text, counts


def moment(mtime_ns: int) -> datetime:
    """When a file was written; where no calendar has that day, its beginning."""
    try:
        return datetime.fromtimestamp(mtime_ns / 1e9, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC)
