"""Records to exchanges: a user's turn up to the end of its answer.

A file is a row of segments, each beginning at a turn of its main conversation. What comes out of a
segment depends on nothing before it but the uuids that were seen there, so reading may begin again
at the start of any segment and finds the same: that is what makes reading in pieces equal to
reading whole. Sidechains (subagents that write into the same file) are exchanges of their own
within the segment that started them.

A uuid counts once in a file. Nothing else tells a repeated record from a new one: clocks are set
back, and chains of parents have gaps, branches and cycles. `parentUuid` only says which subagent
speaks where no `agentId` does.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from anamnesis.transcripts import wrappers
from anamnesis.transcripts.lines import Line
from anamnesis.transcripts.records import Record, ToolUse, load, read, salvage

SEEN_BYTES = 6
"""Of the digest of a uuid: so many that two of one session hardly ever share it."""
MAX_SEEN = 8192
"""Records of earlier segments that are told from new ones; what is repeated after more than that counts as new."""


class Part(NamedTuple):
    """One thing that was said or done."""

    who: str
    """`user`, `assistant` or `tool`."""
    text: str
    """What was said; empty for a tool."""
    use: ToolUse | None = None


@dataclass
class Exchange:
    """What a user asked and all that was said and done about it."""

    uuid: str
    """Of its first record."""
    position: int
    """Byte offset of its first record."""
    began: datetime | None
    """When its first record was written, if that says so; unlike the other fields it never changes."""
    home: str
    """Session of its first record, likewise."""
    session: str
    agent: str
    """Id of the subagent whose exchange it is; empty for the main conversation."""
    timestamp: datetime | None
    cwd: str
    branch: str
    last_uuid: str = ""
    weight: int = 0
    """Records it holds; it only ever grows."""
    parts: list[Part] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    """Tool use id -> what the tool said when it failed."""
    finished: set[str] = field(default_factory=set)
    """Ids of the tool uses that were answered."""
    interrupted: bool = False


class Cutter:
    """Cuts one file into exchanges, line by line.

    `agent` is the subagent whose file it is; all its records then form one conversation. `seen` is what another
    cutter had seen where this one begins.
    """

    def __init__(self, agent: str = "", seen: Iterable[bytes] = ()) -> None:
        self._agent = agent
        self._open: dict[str, Exchange] = {}
        """Conversation -> its exchange; the main one is ''."""
        self._owner: dict[str, str] = {}
        """uuid of a record of this segment -> its conversation."""
        self._seen = dict.fromkeys(seen)
        """Short digests of the uuids of earlier segments, in the order of the file."""
        self._start: int | None = None
        self._done: list[Exchange] = []
        self.unreadable = 0
        """Lines that were torn, too long, or no records."""
        self.replayed = 0
        """Records that had been seen before."""

    def feed(self, line: Line) -> list[Exchange]:
        """Take a line; gives the exchanges that it closes."""
        if line.ended and line.end - line.position > len(line.data) + 1:
            self.unreadable += 1  # longer than what is kept
            return []
        if not line.data.strip():
            return []
        loaded = load(line.data)
        if loaded is None:
            if not line.ended:
                return []  # the rest behind the last newline may still be written on
            self.unreadable += 1
        found = salvage(line.data) if loaded is None else (loaded,)
        return [
            closed for one in found if (record := read(one)) is not None for closed in self._take(line.position, record)
        ]

    def open(self) -> list[Exchange]:
        """The exchanges of the last segment, which may still grow."""
        return [*self._done, *self._open.values()]

    @property
    def resume_at(self) -> int | None:
        """Where reading must begin again to see the last segment whole; none before its first record."""
        return self._start

    @property
    def seen(self) -> tuple[bytes, ...]:
        """What was seen before `resume_at`."""
        return tuple(self._seen)

    def _take(self, position: int, record: Record) -> list[Exchange]:
        if self._agent and record.sidechain is False and not record.agent:
            return []  # a copy of the parent's conversation
        if record.uuid and (record.uuid in self._owner or _digest(record.uuid) in self._seen):
            self.replayed += 1
            return []
        conversation = self._conversation(record)
        if conversation is None:
            return []
        by_user = record.type != "assistant"
        said = tuple(filter(None, map(wrappers.clean, record.texts))) if by_user else record.texts
        stopped = by_user and any(map(wrappers.is_interruption, said))
        # One text, so that a private block is whole that begins before a picture and ends behind it.
        joined = "\n".join(text for text in said if not wrappers.is_interruption(text))
        spoken = (joined,) if joined else ()
        # What is typed while an answer is under way (an attachment) belongs to that answer's exchange.
        turn = record.type == "user" and bool(spoken) and not record.injected and not record.results
        closed: list[Exchange] = []
        if turn and conversation == "":
            closed = self._next_segment()
        self._start = position if self._start is None else self._start
        if record.uuid:
            self._owner[record.uuid] = conversation
        if record.injected:
            return closed
        if not (spoken or stopped or record.uses or record.results) or record.api_error:
            return closed
        exchange = self._open.get(conversation)
        if exchange is None or (turn and conversation != ""):
            if not turn and not spoken and not record.uses:
                return closed  # an answer of a tool, or a stop, without anything that it belongs to
            if exchange is not None:
                self._done.append(exchange)
            exchange = self._begin(position, record, conversation)
        self._add(exchange, record, spoken, stopped)
        return closed

    def _conversation(self, record: Record) -> str | None:
        """Which conversation a record belongs to; '' is the main one."""
        if self._agent or not record.sidechain:
            return ""
        if record.agent:
            return record.agent
        return self._owner.get(record.parent) or record.uuid or None

    def _next_segment(self) -> list[Exchange]:
        closed = self.open()
        self._seen.update(dict.fromkeys(map(_digest, self._owner)))
        if len(self._seen) > MAX_SEEN:
            self._seen = dict.fromkeys(list(self._seen)[-MAX_SEEN:])
        self._open, self._owner, self._done = {}, {}, []
        self._start = None
        return closed

    def _begin(self, position: int, record: Record, conversation: str) -> Exchange:
        exchange = Exchange(
            uuid=record.uuid,
            position=position,
            began=record.timestamp,
            home=record.session,
            session=record.session,
            agent=conversation or self._agent,
            timestamp=record.timestamp,
            cwd=record.cwd,
            branch=record.branch,
        )
        self._open[conversation] = exchange
        return exchange

    def _add(self, exchange: Exchange, record: Record, spoken: tuple[str, ...], stopped: bool) -> None:
        exchange.weight += 1
        exchange.last_uuid = record.uuid or exchange.last_uuid
        exchange.timestamp = exchange.timestamp or record.timestamp
        exchange.cwd = exchange.cwd or record.cwd
        exchange.session = exchange.session or record.session
        exchange.branch = exchange.branch or record.branch
        exchange.interrupted = exchange.interrupted or stopped
        who = "assistant" if record.type == "assistant" else "user"
        exchange.parts += [Part(who, text) for text in spoken]
        exchange.parts += [Part("tool", "", use) for use in record.uses]
        for result in record.results:
            exchange.finished.add(result.id)
            if result.failed:
                exchange.failures[result.id] = result.text


def _digest(uuid: str) -> bytes:
    return hashlib.blake2b(uuid.encode("utf-8", "replace"), digest_size=SEEN_BYTES).digest()
