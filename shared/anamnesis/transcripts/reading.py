"""Reads one file from where its mark says, in steps that can be pushed and acknowledged one by one."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from anamnesis.contracts.episodes import EpisodeCreate
from anamnesis.transcripts.episodes import Made, Maker, Origin, episode_id
from anamnesis.transcripts.exchanges import Cutter, Exchange
from anamnesis.transcripts.files import Found, Refused, agent_type, blocks, opened
from anamnesis.transcripts.lines import lines
from anamnesis.transcripts.marks import FINGERPRINT, FORMAT, Ledger, Mark, fingerprint, short
from anamnesis.transcripts.significance import Decision

STEP_EPISODES = 50
STEP_BYTES = 1 << 20


@dataclass
class Step:
    """What a stretch of a file gave, and the mark that holds once its episodes are acknowledged."""

    file: Found
    episodes: list[EpisodeCreate] = field(default_factory=list)
    weight: int = 0
    """Characters of text in the episodes."""
    mark: Mark | None = None
    read: int = 0
    """Bytes that this stretch took from the file."""
    decisions: Counter[str] = field(default_factory=Counter)
    redactions: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    replayed: int = 0
    error: str = ""
    """Why the file could not be read (further), as one of a small set."""
    last: bool = False


def is_unchanged(file: Found, mark: Mark | None) -> bool:
    """Whether the directory alone says that there is nothing new."""
    return (
        mark is not None
        and mark.format == FORMAT
        and (mark.device, mark.inode, mark.size, mark.mtime_ns) == (file.device, file.inode, file.size, file.mtime_ns)
    )


def read_file(file: Found, mark: Mark | None, ledger: Ledger, maker: Maker, instance: str) -> Iterator[Step]:
    """Everything new in a file. The last step says so, and carries the error if there was one."""
    try:
        with opened(file) as descriptor:
            yield from _Reading(file, mark, ledger, maker, instance, descriptor).steps()
    except Refused as refusal:
        yield Step(file, error=refusal.reason, last=True)


class _Reading:
    def __init__(
        self, file: Found, mark: Mark | None, ledger: Ledger, maker: Maker, instance: str, descriptor: int
    ) -> None:
        self._file = file
        self._descriptor = descriptor
        self._head = os.pread(descriptor, FINGERPRINT, 0)
        """The first bytes, as they were when the file was opened."""
        self._front = (0, b"")
        """The last bytes that were read, and where they lie."""
        self._ledger = ledger
        self._maker = maker
        status = os.fstat(descriptor)
        self._status = status
        self._renewed = mark is not None and mark.format != FORMAT
        known = mark if mark is not None and self._continues(mark) else None
        self._start = known.offset if known else 0
        self._seen = known.seen if known else ()
        # What was seen in a file that has been replaced stays known: its exchanges may be elsewhere as copies.
        self._weights = dict(mark.weights) if mark is not None and not self._renewed else {}
        self._origin = Origin(
            path=file.path,
            instance=instance,
            modified=datetime.fromtimestamp(status.st_mtime, UTC),
            agent_type=agent_type(file) if file.agent else "",
        )

    def _continues(self, mark: Mark) -> bool:
        """Whether the file is the one that was read before, only longer."""
        if (mark.device, mark.inode) != (self._status.st_dev, self._status.st_ino) or mark.format != FORMAT:
            return False
        if mark.read > self._status.st_size or self._fingerprints(mark.read) != (mark.head, mark.tail):
            return False
        self._front = self._before(mark.offset)
        return True

    def _before(self, offset: int) -> tuple[int, bytes]:
        """The last bytes before an offset, and where they lie."""
        start = max(0, offset - FINGERPRINT)
        return start, os.pread(self._descriptor, offset - start, start)

    def _fingerprints(self, read: int) -> tuple[str, str]:
        return fingerprint(self._head[:read]), fingerprint(self._before(read)[1])

    def steps(self) -> Iterator[Step]:
        cutter = Cutter(self._file.agent, self._seen)
        step = Step(self._file)
        end = self._start
        ended = self._start
        """Behind the last newline."""
        for line in lines(self._blocks(), self._start):
            closed = cutter.feed(line)
            step.read += line.end - end
            end = line.end
            ended = line.end if line.ended else ended
            for exchange in closed:
                self._take(exchange, step)
            if closed and (len(step.episodes) >= STEP_EPISODES or step.weight >= STEP_BYTES):
                mark = self._mark(cutter.resume_at or 0, ended, cutter.seen, None)
                if self._is_replaced():
                    break
                step.mark = mark
                yield step
                step = Step(self._file)
        for exchange in cutter.open():
            self._take(exchange, step)
        step.unreadable = cutter.unreadable
        step.replayed = cutter.replayed
        step.last = True
        offset = ended if cutter.resume_at is None else cutter.resume_at
        mark = self._mark(offset, ended, cutter.seen, self._status)
        # Without a mark the file is read again next time, from what it has become.
        if self._is_replaced():
            step.error = "replaced-while-read"
        elif end < self._status.st_size:
            step.error = "shortened-while-read"
        else:
            step.mark = mark
        yield step

    def _blocks(self) -> Iterator[bytes]:
        """The bytes of the file as it was when it was opened; they end where it is replaced.

        Minutes pass between two blocks while episodes are embedded, and a file that is emptied meanwhile and written
        again goes on under the same descriptor.
        """
        at = self._start
        for block in blocks(self._descriptor, self._start, self._status.st_size):
            if self._is_replaced():
                return
            at += len(block)
            last = (self._front[1] + block)[-FINGERPRINT:]
            self._front = (at - len(last), last)
            yield block

    def _is_replaced(self) -> bool:
        """Whether the file no longer holds what was read of it."""
        start, last = self._front
        return (
            os.pread(self._descriptor, len(self._head), 0) != self._head
            or os.pread(self._descriptor, len(last), start) != last
        )

    def _take(self, exchange: Exchange, step: Step) -> None:
        name = short(episode_id(exchange))
        news = self._ledger.take(name, exchange.weight)
        self._weights[name] = max(self._ledger.longest(name), self._weights.get(name, 0))
        if not news:
            return
        try:
            made = self._maker.make(exchange, self._origin)
        except ValueError:  # what no contract takes, such as a time outside the calendar, is one exchange's fault
            made = Made(None, Decision(False, "unfit"), {})
        step.decisions[made.decision.reason] += 1
        if made.episode is None:
            return
        step.redactions.update(made.redactions)
        step.episodes.append(made.episode)
        step.weight += len(made.episode.summary) + len(made.episode.raw_exchange or "")

    def _mark(self, offset: int, read: int, seen: tuple[bytes, ...], status: os.stat_result | None) -> Mark:
        """The mark at `offset`; with `status` the file has been read to the end that it had then."""
        head, tail = self._fingerprints(read)
        return Mark(
            path=self._file.path,
            device=self._status.st_dev,
            inode=self._status.st_ino,
            size=status.st_size if status else offset,
            mtime_ns=status.st_mtime_ns if status else 0,
            offset=offset,
            read=read,
            head=head,
            tail=tail,
            weights=dict(self._weights),
            seen=seen,
        )
