"""An exchange as an episode: redacted, rendered, summarised, named.

The id comes from the uuid of the first record, so every copy of an exchange (a resumed session
begins with the whole history) is the same episode.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from anamnesis.contracts.episodes import MAX_RAW, EpisodeCreate, EpisodeSource, Trust
from anamnesis.redact import redact
from anamnesis.transcripts import wrappers
from anamnesis.transcripts.exchanges import Exchange
from anamnesis.transcripts.significance import Decision, ProjectRules, Rules, decide, rules_of
from anamnesis.transcripts.summary import summarise
from anamnesis.transcripts.tools import Done, condense

KIND = "claude-code"
DEFAULT_RAW = 60_000
"""Characters of a raw exchange that are kept by default; of a longer one the middle is left out."""
_MARKUP = re.compile(r"\s+")


@dataclass(frozen=True)
class Origin:
    """Where a transcript lies and what is known of it beside its records."""

    path: str
    instance: str
    modified: datetime | None = None
    """Stands in where a record carries no time."""
    agent_type: str = ""
    """Of the subagent whose file it is."""


@dataclass(frozen=True)
class Maker:
    """Makes episodes of exchanges. `project_of` names the project of a working directory."""

    project_of: Callable[[str], str]
    rules: Rules = field(default_factory=Rules)
    max_raw: int = DEFAULT_RAW
    """Characters of a raw exchange."""
    entropy: bool = False
    """Redact what looks random as well."""
    by_project: tuple[ProjectRules, ...] = ()
    """They go before `rules`."""

    def judging(self, by_project: tuple[ProjectRules, ...]) -> "Maker":
        """The same with other rules per project."""
        return replace(self, by_project=by_project)

    def make(self, exchange: Exchange, origin: Origin) -> "Made":
        """The episode of an exchange, or why there is none."""
        counts: Counter[str] = Counter()
        asked: list[str] = []
        said: list[str] = []
        done: list[Done] = []
        told: list[tuple[str, str]] = []

        def safe(text: str) -> str:
            found = redact(text, entropy=self.entropy)
            counts.update(found.counts)
            return found.text

        for part in exchange.parts:
            if part.use is not None:
                failure = exchange.failures.get(part.use.id)
                one = condense(part.use, exchange.cwd, part.use.id in exchange.finished, failure, safe)
                done.append(one)
                told.append(("tool", one.line))
                continue
            text = safe(part.text).strip()
            if text:
                (asked if part.who == "user" else said).append(text)
                told.append((part.who, text))
        project = self.project_of(exchange.cwd)[:200].strip() or "unknown"
        decision = decide(
            asked,
            said,
            len(done),
            command=len(asked) == 1 and wrappers.is_command(asked[0]),
            sidechain=bool(exchange.agent),
            project=project,
            rules=rules_of(project, self.by_project, self.rules),
        )
        if not decision.keep or not told:
            return Made(None, decision if not decision.keep else Decision(False, "empty"), counts)
        create = EpisodeCreate(
            episode_id=episode_id(exchange),
            timestamp=exchange.timestamp or origin.modified,
            instance=origin.instance,
            project=project,
            summary=storable(summarise(asked, done, said, exchange.interrupted)) or "(nothing said)",
            raw_exchange=storable(shorten(render(told), min(self.max_raw, MAX_RAW))),
            tags=_tags(exchange, origin),
            source=_source(exchange, origin),
            trust=Trust.USER if not said and not done else Trust.ASSISTANT,
        )
        return Made(create, decision, counts)


@dataclass(frozen=True)
class Made:
    """An episode, or the reason why there is none, and what was redacted on the way."""

    episode: EpisodeCreate | None
    decision: Decision
    redactions: Mapping[str, int]


def episode_id(exchange: Exchange) -> str:
    """The same for every copy of an exchange, in whichever file or session it is found."""
    # Only what the first record says itself: other fields are filled in as the exchange grows.
    day = f"{exchange.began:%Y%m%d}" if exchange.began else "undated"
    # Real ids are unique by themselves; made-up ones ("msg_001") only within their session.
    name = exchange.uuid if len(exchange.uuid) >= 32 else f"{exchange.home}/{exchange.agent}/{exchange.uuid}"
    if not exchange.uuid:
        name += f"@{exchange.position}"
    return f"ep_{day}_cc_{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:24]}"


def render(told: list[tuple[str, str]]) -> str:
    """An exchange as it is read: who said what, and tool calls as indented lines."""
    out: list[str] = []
    before = ""
    for who, text in told:
        if who == "tool":
            out.append(f"  - {text}")
        else:
            name = "User" if who == "user" else "Assistant"
            gap = "\n" if out else ""
            out.append(f"{gap}{text}" if who == before else f"{gap}{name}: {text}")
        before = who
    return "\n".join(out)


def shorten(text: str, length: int) -> str:
    """At most `length` characters: the beginning and the end, and how much is missing between."""
    if len(text) <= length:
        return text
    note = f"\n[... {len(text) - length} characters left out ...]\n"
    room = max(0, length - len(note) - 8)
    return text[: room * 2 // 3] + note + text[len(text) - room // 3 :]


def storable(text: str) -> str:
    """Text without what no store takes: NUL characters and lone surrogates."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.strip()


def _source(exchange: Exchange, origin: Origin) -> EpisodeSource:
    session = _name(exchange.session)
    if exchange.agent:
        return EpisodeSource(
            kind=KIND,
            path=storable(origin.path)[:4096],
            session=_name(f"{exchange.session}/agent-{exchange.agent}"),
            uuid=_name(exchange.uuid),
            position=exchange.position,
            parent=session,
            last_uuid=_name(exchange.last_uuid),
        )
    return EpisodeSource(
        kind=KIND,
        path=storable(origin.path)[:4096],
        session=session,
        uuid=_name(exchange.uuid),
        position=exchange.position,
        last_uuid=_name(exchange.last_uuid),
    )


def _name(text: str) -> str | None:
    """A name that the contract takes; too long a one by its digest."""
    text = storable(text)
    if len(text) > 200:
        return hashlib.sha256(text.encode()).hexdigest()
    return text or None


def _tags(exchange: Exchange, origin: Origin) -> tuple[str, ...]:
    tags = []
    if exchange.branch and exchange.branch != "HEAD":
        tags.append(f"branch:{exchange.branch}")
    if exchange.agent:
        tags.append("subagent")
        if origin.agent_type:
            tags.append(f"agent:{origin.agent_type}")
    if exchange.interrupted:
        tags.append("interrupted")
    return tuple(tag for tag in (_MARKUP.sub(" ", storable(tag))[:100].strip() for tag in tags) if tag)
