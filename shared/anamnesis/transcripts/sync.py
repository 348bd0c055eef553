"""Reads what is new in all transcripts and pushes it, in bounded memory, two batches at a time.

Used by the ingest service and by the `anamnesis` command. A mark is saved only after everything
before it was acknowledged, so a crash at any point costs a second look and never an episode.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anamnesis.contracts.episodes import BatchResult, EpisodeCreate, WriteStatus
from anamnesis.destination import Destination, Refusals, push_what_fits
from anamnesis.kit.errors import Invalid
from anamnesis.transcripts.episodes import Maker
from anamnesis.transcripts.files import VANISHED, Found, Walk, walk
from anamnesis.transcripts.marks import Ledger, Mark, inherited, key, short
from anamnesis.transcripts.progress import REFUSALS, Progress
from anamnesis.transcripts.reading import Step, is_unchanged, read_file

BATCH_EPISODES = 100
BATCH_CHARACTERS = 4 << 20
IN_FLIGHT = 2
"""Batches under way at once: while one is embedded the next is there already."""
SAVE_EVERY = 200
"""Marks of files without new episodes that are saved together."""
DRAIN = 10.0
"""Seconds that an interrupted run waits for the answers to what it has sent."""

OnProgress = Callable[[Progress], None]


@dataclass
class _Batch:
    episodes: dict[str, EpisodeCreate] = field(default_factory=dict)
    weight: int = 0
    steps: list[Step] = field(default_factory=list)

    def add(self, step: Step) -> None:
        for episode in step.episodes:
            # Of two copies in one batch the later one is the longer one; see the ledger.
            self.episodes[episode.episode_id or ""] = episode
        self.weight += step.weight
        self.steps.append(step)

    @property
    def full(self) -> bool:
        return len(self.episodes) >= BATCH_EPISODES or self.weight >= BATCH_CHARACTERS or len(self.steps) >= SAVE_EVERY


@dataclass
class _Sent:
    batch: _Batch
    task: "asyncio.Task[tuple[BatchResult, Refusals]]"


@dataclass
class _UnderWay:
    """What has been sent and read in a run, and is not marked yet."""

    marks: dict[str, Mark]
    """Those that are saved."""
    progress: Progress
    sent: deque[_Sent] = field(default_factory=deque)
    held: dict[str, Mark] = field(default_factory=dict)
    """Marks that are true, and wait for a sign that what was refused is memory's last word."""
    refused: set[str] = field(default_factory=set)
    """Short names of the episodes that memory would not take."""
    taken: int = 0
    """Episodes that it did take."""
    reason: str = ""
    """Why the last one was refused."""


class Sync:
    """Keeps a memory service up to date with the transcripts below some roots.

    One object may run again and again, never twice at once; it remembers the marks between runs.
    """

    def __init__(
        self, destination: Destination, maker: Maker, roots: Sequence[Path], instance: str, on_progress: OnProgress
    ) -> None:
        """`instance` names this machine in episodes; `on_progress` is called after every batch and every file."""
        self._destination = destination
        self._maker = maker
        self._roots = tuple(roots)
        self._instance = instance
        self._on_progress = on_progress
        self._marks: dict[str, Mark] | None = None

    async def run(self, *, anew: bool = False) -> Progress:
        """Read all that is new and push it; with `anew` read everything again.

        Raises what the destination raises (it is away, has no room, refuses the key); all that was
        acknowledged before is kept and marked. Errors of single files are counted, not raised.
        """
        progress = Progress()
        marks = self._marks
        if marks is None:
            documents = await self._destination.load_offsets()
            read = {name: Mark.from_document(document) for name, document in documents.items()}
            marks = {name: mark for name, mark in read.items() if mark is not None}
        self._marks = None  # kept only if this run ends well
        found = await asyncio.to_thread(walk, self._roots)
        progress.files = len(found.files)
        for reason, path in found.errors:
            progress.fail(reason, path)
        await self._reconcile(found, marks, progress)
        changed = [file for file in found.files if anew or not is_unchanged(file, marks.get(key(file.path)))]
        progress.files_changed = len(changed)
        progress.bytes = sum(_left(file, None if anew else marks.get(key(file.path))) for file in changed)
        self._on_progress(progress)
        if changed:
            ledger = Ledger(marks.values(), again=anew)
            await self._read_all(changed, {} if anew else marks, ledger, marks, progress)
        self._marks = marks
        self._on_progress(progress)
        return progress

    async def _reconcile(self, found: Walk, marks: dict[str, Mark], progress: Progress) -> None:
        """Forget the marks of files that are gone, where their root was seen completely."""
        present = {key(file.path) for file in found.files}
        gone = [
            name
            for name, mark in marks.items()
            if name not in present and any(mark.path.startswith(root.rstrip("/") + "/") for root in found.whole)
        ]
        if gone:
            heirs = inherited([marks.pop(name) for name in gone], marks)
            if heirs:
                await self._destination.save_offsets({name: mark.to_document() for name, mark in heirs.items()})
                marks.update(heirs)
            await self._destination.remove_offsets(gone)
            progress.removed = len(gone)

    async def _read_all(
        self,
        files: Sequence[Found],
        known: Mapping[str, Mark],
        ledger: Ledger,
        marks: dict[str, Mark],
        progress: Progress,
    ) -> None:
        steps = (
            step
            for file in files
            for step in read_file(file, known.get(key(file.path)), ledger, self._maker, self._instance)
        )
        run = _UnderWay(marks, progress)
        sent = run.sent
        try:
            while (batch := await asyncio.to_thread(_collect, steps)).steps:
                _count_read(batch, progress)
                # Two versions of one episode must not race each other.
                while len(sent) >= IN_FLIGHT or any(
                    not one.batch.episodes.keys().isdisjoint(batch.episodes) for one in sent
                ):
                    await self._settle(run)
                sent.append(
                    _Sent(
                        batch,
                        asyncio.create_task(push_what_fits(self._destination, list(batch.episodes.values()), "update")),
                    )
                )
                self._on_progress(progress)
            while sent:
                await self._settle(run)
            if run.held:
                raise _takes_nothing(run)
        except asyncio.CancelledError:
            await self._drain(run)
            raise
        finally:
            for one in sent:
                one.task.cancel()
            await asyncio.gather(*(one.task for one in sent), return_exceptions=True)

    async def _drain(self, run: _UnderWay) -> None:
        """Wait a little for what is under way, so that it need not be sent again; not where nobody answers."""
        progress = run.progress
        progress.under_way = sum(len(one.batch.episodes) for one in run.sent)
        progress.stopping = bool(progress.under_way) and not self._destination.away
        if not progress.stopping:
            return
        self._on_progress(progress)
        try:
            async with asyncio.timeout(DRAIN):
                while run.sent:
                    await self._settle(run)
        except Exception:  # noqa: BLE001 -- the run ends anyway; what was not acknowledged is read again next time
            return

    async def _settle(self, run: _UnderWay) -> None:
        """Await the oldest batch and save the marks that it makes true."""
        progress = run.progress
        batch = run.sent[0].batch
        result, refused = await asyncio.shield(run.sent[0].task)  # whoever stops this run may still await the answer
        run.refused |= {short(name) for name in refused}
        run.refused -= {short(name) for name in batch.episodes.keys() - refused.keys()}
        run.taken += len(result.results)
        for step in batch.steps:
            if step.mark is not None:
                name = key(step.file.path)
                run.held[name] = step.mark.without(run.refused, run.marks.get(name))
        # As long as memory has taken nothing it may be memory that is at fault; then all is read again.
        if run.held and (run.taken or not run.refused):
            await self._destination.save_offsets({name: mark.to_document() for name, mark in run.held.items()})
            run.marks.update(run.held)
            run.held.clear()
        run.sent.popleft()
        statuses = Counter(one.status for one in result.results)
        progress.created += statuses[WriteStatus.CREATED]
        progress.updated += statuses[WriteStatus.UPDATED]
        progress.duplicate += statuses[WriteStatus.DUPLICATE]
        progress.blocked += statuses[WriteStatus.BLOCKED]
        progress.refused += len(refused)
        for name, error in refused.items():
            run.reason = error.message
            if len(progress.refusals) < REFUSALS:
                progress.refusals[name] = error.code
        self._on_progress(progress)
        if not run.taken and progress.refused >= BATCH_EPISODES:
            raise _takes_nothing(run)


def _takes_nothing(run: _UnderWay) -> Invalid:
    return Invalid(f"memory has refused all {run.progress.refused} episodes that were sent to it: {run.reason}")


def _collect(steps: Iterator[Step]) -> _Batch:
    """Read until a batch is full or all is read; runs in a thread."""
    batch = _Batch()
    for step in steps:
        batch.add(step)
        if batch.full:
            break
    return batch


def _count_read(batch: _Batch, progress: Progress) -> None:
    for step in batch.steps:
        progress.bytes_done += step.read
        progress.decisions.update(step.decisions)
        progress.redactions.update(step.redactions)
        progress.unreadable += step.unreadable
        progress.replayed += step.replayed
        progress.files_done += step.last
        if step.error and step.error != VANISHED:
            progress.fail(step.error, step.file.path)


def _left(file: Found, mark: Mark | None) -> int:
    """Bytes that are probably to be read."""
    return file.size - mark.offset if mark is not None and mark.offset <= file.size else file.size
