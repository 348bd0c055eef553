"""Records to exchanges: a user's turn up to the end of its answer.

A file is a row of segments, each beginning at a turn of its main conversation. What comes out of a
segment depends on nothing before it, so reading may begin again at the start of any segment and
finds the same: that is what makes reading in pieces equal to reading whole. Sidechains (subagents
that write into the same file) are exchanges of their own within the segment that started them.

Dedupe needs no memory of the file either. Within a segment a uuid counts once. A record that was
delivered again in a later segment is older than that segment's turn and has no parent in it; it is
left out. `parentUuid` is used for nothing else, so branches and cycles do no harm.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from pydantic import JsonValue

from anamnesis.contracts.base import JsonObject
from anamnesis.transcripts import wrappers
from anamnesis.transcripts.lines import Line
from anamnesis.transcripts.records import Record, ToolUse, load, moment, read


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

    `agent` is the subagent whose file it is; all its records then form one conversation.
    """

    def __init__(self, agent: str = "") -> None:
        self._agent = agent
        self._open: dict[str, Exchange] = {}
        """Conversation -> its exchange; the main one is ''."""
        self._owner: dict[str, str] = {}
        """uuid of a record of this segment -> its conversation."""
        self._links: set[str] = set()
        """uuids of other records of this segment, through which chains of parents pass."""
        self._turn: datetime | None = None
        """When this segment's turn was said."""
        self._start: int | None = None
        self._done: list[Exchange] = []
        self.unreadable = 0
        """Lines that were torn, too long, or no records."""

    def feed(self, line: Line) -> list[Exchange]:
        """Take a line; gives the exchanges that it closes."""
        if line.ended and line.end - line.position > len(line.data) + 1:
            self.unreadable += 1  # longer than what is kept
            return []
        if not line.data.strip():
            return []
        loaded = load(line.data)
        if loaded is None:
            self.unreadable += line.ended  # the rest behind the last newline may still be written on
            return []
        record = read(loaded)
        if record is None:
            self._link(line.position, loaded)
            return []
        return self._take(line.position, record)

    def open(self) -> list[Exchange]:
        """The exchanges of the last segment, which may still grow."""
        return [*self._done, *self._open.values()]

    @property
    def resume_at(self) -> int | None:
        """Where reading must begin again to see the last segment whole; none before its first record."""
        return self._start

    def _take(self, position: int, record: Record) -> list[Exchange]:
        if record.uuid and record.uuid in self._owner:
            return []
        if self._is_replay(record):
            return []
        conversation = self._conversation(record)
        if conversation is None:
            return []
        by_user = record.type != "assistant"
        said = tuple(filter(None, map(wrappers.clean, record.texts))) if by_user else record.texts
        stopped = by_user and any(map(wrappers.is_interruption, said))
        spoken = tuple(text for text in said if not wrappers.is_interruption(text))
        # What is typed while an answer is under way (an attachment) belongs to that answer's exchange.
        turn = record.type == "user" and bool(spoken) and not record.injected and not record.results
        closed: list[Exchange] = []
        if turn and conversation == "":
            closed = self._next_segment(record)
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

    def _link(self, position: int, loaded: JsonObject) -> None:
        """Note a record that says nothing: a chain of parents may pass through it."""
        uuid, parent = loaded.get("uuid"), loaded.get("parentUuid")
        if isinstance(uuid, str) and uuid and not self._is_old(moment(loaded.get("timestamp")), parent):
            self._links.add(uuid)
            self._start = position if self._start is None else self._start

    def _is_replay(self, record: Record) -> bool:
        if self._agent and record.sidechain is False and not record.agent:
            return True  # a copy of the parent's conversation
        return self._is_old(record.timestamp, record.parent)

    def _is_old(self, timestamp: datetime | None, parent: JsonValue) -> bool:
        """Older than this segment's turn, and nothing in the segment leads to it."""
        if self._turn is None or timestamp is None or timestamp >= self._turn:
            return False
        return not isinstance(parent, str) or (parent not in self._owner and parent not in self._links)

    def _conversation(self, record: Record) -> str | None:
        """Which conversation a record belongs to; '' is the main one."""
        if self._agent or not record.sidechain:
            return ""
        if record.agent:
            return record.agent
        return self._owner.get(record.parent) or record.uuid or None

    def _next_segment(self, record: Record) -> list[Exchange]:
        closed = self.open()
        self._open, self._owner, self._links, self._done = {}, {}, set(), []
        self._turn = record.timestamp
        self._start = None
        return closed

    def _begin(self, position: int, record: Record, conversation: str) -> Exchange:
        exchange = Exchange(
            uuid=record.uuid,
            position=position,
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
