"""Keeps a memory service up to date with the files that sources mean: reads what has changed and pushes it.

Used by the ingest service and by the `anamnesis` command. A run looks, reads, pushes in batches, and at its end puts
aside what no file holds any more (`changing`). A file's mark says what it holds only after everything before was
acknowledged, and names what is about to be written before that; so a crash at any point costs a second look, and
never loses, doubles or wrongly replaces an episode.

What a source means no longer, or one that is removed or disabled, keeps its episodes and its marks: only what is gone
from the disk is marked as deleted. Paths that a watcher names are read at once; what it saw vanish waits for the next
whole scan, unless it has only been renamed.
"""

import asyncio
import os
import stat
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from anamnesis.contracts.crawler import CrawledFile, CrawlerConfig, TagPatterns
from anamnesis.contracts.episodes import EpisodeCreate, WriteResult, WriteStatus
from anamnesis.crawl.changing import Arrival, let_go, save_marks, welcome
from anamnesis.crawl.counts import CrawlCounts
from anamnesis.crawl.episodes import Content, Made, make, moment, read_content, tags_of
from anamnesis.crawl.found import Found
from anamnesis.crawl.marks import NEVER, Held, Mark, Marks, Stamp, pack
from anamnesis.crawl.opening import CHANGED, VANISHED, Refused
from anamnesis.crawl.scan import Scan, printable, scan
from anamnesis.crawl.tagging import Tagger
from anamnesis.destination import Keeper, Refusals, push_what_fits
from anamnesis.documents import DocumentRefused, Limits
from anamnesis.kit.errors import Invalid

BATCH_EPISODES = 100
BATCH_CHARACTERS = 4 << 20
LOAD_FILES = 200
"""Files whose marks are saved together."""
IN_FLIGHT = 2
"""Loads under way at once: while one is embedded the next is there already."""
DRAIN = 10.0
"""Seconds that an interrupted run waits for the answers to what it has sent."""
MOST_BYTES = 50 << 20
"""Of a file that has grown since it was found."""
RACY = 2_000_000_000
"""Nanoseconds within which a file may change again without showing it: clocks of file systems are that coarse."""
DELETED_SHOWN = 1_000
"""Files that are gone, which are still shown."""
REFUSED = "refused"

OnProgress = Callable[[CrawlCounts], None]


@dataclass(eq=False)
class _Work:
    """A file that is to be looked at, and what came of it."""

    file: Found
    stamp: Stamp
    identity: str = ""
    same: bool = False
    """Whether it says what it said before."""
    made: Made | None = None
    """What is to be pushed; none where memory holds it already."""
    parts: Sequence[Held] = ()
    """What it holds, as soon as that is known."""
    leader: "_Work | None" = None
    """Another file of this run with the same content."""
    reason: str = ""
    """Why it could not be read."""
    passing: bool = False
    """Whether that may be otherwise the next time, so that nothing is noted down."""
    past: str = ""
    """Of its mark, before this run."""


@dataclass
class _Load:
    works: list[_Work] = field(default_factory=list)
    episodes: list[EpisodeCreate] = field(default_factory=list)
    characters: int = 0

    def add(self, work: _Work) -> None:
        self.works.append(work)
        if work.made is not None:
            self.episodes += work.made.episodes
            self.characters += sum(map(_weight, work.made.episodes))

    @property
    def full(self) -> bool:
        return (
            len(self.episodes) >= BATCH_EPISODES or self.characters >= BATCH_CHARACTERS or len(self.works) >= LOAD_FILES
        )


@dataclass
class _Sent:
    load: _Load
    task: "asyncio.Task[tuple[dict[str, WriteResult], Refusals]]"


@dataclass
class _Run:
    marks: Marks
    counts: CrawlCounts
    anew: bool
    sent: deque[_Sent] = field(default_factory=deque)
    doubtful: list[_Work] = field(default_factory=list)
    """Files that memory has refused while it has taken nothing yet: it may be memory that is at fault."""
    taken: int = 0
    refusal: str = ""
    """Why the last one was refused."""
    leaders: dict[str, _Work] = field(default_factory=dict)
    arrived: set[str] = field(default_factory=set)
    """Contents that some file has now and had not before."""
    stop: bool = False


class Crawl:
    """One object may run again and again, never twice at once; it remembers the marks between runs."""

    def __init__(
        self,
        destination: Keeper,
        config: Callable[[], tuple[CrawlerConfig, TagPatterns]],
        allowed: Sequence[Path],
        instance: str,
        on_progress: OnProgress,
        *,
        limits: Limits | None = None,
        entropy: bool = False,
        never: Sequence[Path] | None = None,
    ) -> None:
        """`instance` names this machine; `on_progress` is called after every batch and every file.

        `limits` are those of documents; with `entropy` what looks random is redacted as well; `never` are directories
        that are not entered (none = Anamnesis' own data).
        """
        self._destination = destination
        self._config = config
        self._allowed = tuple(allowed)
        self._instance = instance
        self._on_progress = on_progress
        self._limits = limits or Limits()
        self._entropy = entropy
        self._never = never
        self._marks: Marks | None = None
        self._sound = False
        """Whether the marks are those that are stored: not while a run is under way, or after one that failed."""
        self._failed: dict[str, tuple[Found, str]] = {}
        """Files that could not be opened; that is tried again with every scan."""
        self._gone: deque[CrawledFile] = deque(maxlen=DELETED_SHOWN)
        self._running = asyncio.Lock()

    async def run(self, only: Collection[str] | None = None, *, anew: bool = False) -> CrawlCounts:
        """Read all that has changed and push it; with `only` nothing but these paths, with `anew` everything again.

        Raises what the destination raises (it is away, has no room, refuses the key); all that was acknowledged
        before is kept and marked. Errors of single files are counted, not raised.
        """
        async with self._running:
            run = _Run(await self._known(), CrawlCounts(), anew)
            self._sound = False
            config, patterns = self._config()
            try:
                found = await asyncio.to_thread(
                    scan,
                    config,
                    self._allowed,
                    self._instance,
                    never=self._never,
                    only=only,
                    stop=lambda: run.stop,
                )
            except asyncio.CancelledError:
                run.stop = True
                raise
            await self._follow(found, only, run, patterns)
            self._sound = True
            self._on_progress(run.counts)
            return run.counts

    async def files(self) -> list[CrawledFile]:
        """What is known of every file, by path."""
        marks = self._marks
        if marks is None:
            async with self._running:
                marks = await self._known()
        shown = {mark.path: _shown(mark) for mark in marks if mark.identity or mark.reason}
        for path, (file, reason) in self._failed.items():
            known = marks.get(path)
            shown[path] = _unreadable(file, reason, known)
        for gone in self._gone:
            shown.setdefault(gone.path, gone)
        return sorted(shown.values(), key=lambda one: one.path)

    async def _known(self) -> Marks:
        if self._marks is None or not self._sound:
            self._marks = Marks((await self._destination.load_offsets()).values())
            self._sound = True
        return self._marks

    async def _follow(self, found: Scan, only: Collection[str] | None, run: _Run, patterns: TagPatterns) -> None:
        marks, counts = run.marks, run.counts
        counts.files = len(found.files)
        counts.add_scan(found.left_out, found.errors, found.examples)
        counts.problems.update(found.problems)
        missing = [path for path in self._failed if found.gone(path, self._failed[path][0].source)]
        for path in [*(file.path for file in found.files), *missing]:
            self._failed.pop(path, None)
        await self._part_with_machines(found.files, run)
        changed = [file for file in found.files if run.anew or _is_changed(file, marks.get(file.path))]
        counts.files_changed = len(changed)
        self._on_progress(counts)
        if changed:
            with Tagger(patterns) as tagger:
                await self._read_all(changed, run, tagger)
        await self._miss(found, only, run)
        await let_go(self._destination, marks, counts)

    async def _part_with_machines(self, files: Sequence[Found], run: _Run) -> None:
        """Where a directory is now another machine's, the old one lets go of what the new one will take up."""
        other = [mark for file in files if (mark := run.marks.get(file.path)) and mark.instance != file.instance]
        if other:
            for mark in other:
                run.marks.put(_emptied(mark))
            await save_marks(self._destination, run.marks)
            await let_go(self._destination, run.marks, CrawlCounts())

    async def _miss(self, found: Scan, only: Collection[str] | None, run: _Run) -> None:
        """Note down which files are gone; what they held is let go afterwards, unless others hold it."""
        marks, counts = run.marks, run.counts
        present = {file.path for file in found.files}
        if only is None:
            candidates = [mark for mark in marks if mark.path not in present and found.gone(mark.path, mark.source)]
        else:
            named = (marks.get(path) for path in only if path not in present)
            candidates = [mark for mark in named if mark and _is_elsewhere(mark, marks)]
        gone = await asyncio.to_thread(_absent, candidates)
        if not gone:
            return
        for mark in gone:
            if mark.identity in run.arrived:
                counts.renamed += 1
            elif mark.identity:
                counts.deleted += 1
                self._gone.append(_shown(mark).model_copy(update={"state": "deleted"}))
            empty = _emptied(mark)
            if empty.past:
                marks.put(empty)
            else:
                marks.remove(mark.path)
        await save_marks(self._destination, marks)

    async def _read_all(self, files: Sequence[Found], run: _Run, tagger: Tagger) -> None:
        works = (self._look(file, run, tagger) for file in files)
        sent = run.sent
        try:
            while (load := await self._collect(works, run)).works:
                await self._intend(load, run)
                if len(sent) >= IN_FLIGHT:
                    await self._settle(run)
                sent.append(_Sent(load, asyncio.create_task(self._push(load.episodes, run.anew))))
                self._on_progress(run.counts)
            while sent:
                await self._settle(run)
            if run.doubtful and run.counts.refused >= BATCH_EPISODES:
                raise _takes_nothing(run)
            await self._finish(run.doubtful, run)
        except asyncio.CancelledError:
            await self._drain(run)
            raise
        finally:
            for one in sent:
                one.task.cancel()
            await asyncio.gather(*(one.task for one in sent), return_exceptions=True)

    async def _collect(self, works: Iterator[_Work], run: _Run) -> _Load:
        """Read until a load is full or all is read, in a thread; who stops the run waits for the file in hand."""

        def read() -> _Load:
            load = _Load()
            for work in works:
                load.add(work)
                if load.full or run.stop:
                    break
            return load

        reading = asyncio.ensure_future(asyncio.to_thread(read))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            run.stop = True
            await asyncio.wait((reading,), timeout=DRAIN)
            raise

    def _look(self, file: Found, run: _Run, tagger: Tagger) -> _Work:
        """Read one file and find out what is new in it. Runs in a thread, while nothing else changes the marks."""
        stamp = Stamp(file.device, file.inode, file.size, file.mtime_ns)
        racy = abs(time.time_ns() - file.mtime_ns) < RACY
        # Such a file is looked at again by the next scan, which finds its content unchanged or not.
        work = _Work(file, stamp._replace(device=0, inode=0) if racy else stamp)
        mark = run.marks.get(file.path)
        work.past = mark.past if mark is not None else ""
        try:
            content = read_content(file, MOST_BYTES)
        except Refused as refused:
            work.reason, work.passing = refused.reason, True
            return work
        work.identity = content.identity
        known = None if run.anew else run.marks.with_identity(content.identity)
        if mark is not None and mark.identity == content.identity and not run.anew:
            work.same, work.parts = True, mark.parts
            work.reason = mark.reason if mark.reason == REFUSED else ""
        elif (leader := run.leaders.get(content.identity)) is not None:
            work.leader = leader
        elif known is not None:
            work.parts, work.reason = known.parts, known.reason if known.reason == REFUSED else ""
        else:
            run.leaders[content.identity] = work
            self._make(work, content, run, tagger)
        return work

    def _make(self, work: _Work, content: Content, run: _Run, tagger: Tagger) -> None:
        try:
            work.made = make(work.file, content, tagger, self._limits, self._entropy)
        except (Refused, DocumentRefused) as refused:
            work.reason = refused.reason
        except Exception as error:  # noqa: BLE001 -- what one file does to a parser stops no other
            work.reason = f"failed ({type(error).__name__})"
        else:
            run.counts.redactions += work.made.redactions
            for _ in work.made.slow:
                run.counts.fail("slow-tag-pattern", printable(work.file.path))

    async def _intend(self, load: _Load, run: _Run) -> None:
        """Note down which episodes are about to be written, so that they are found again whatever happens."""
        for work in load.works:
            if work.made is not None and work.made.parts:
                mark = run.marks.get(work.file.path) or _unread(work.file)
                run.marks.put(replace(mark, past=_joined(work.past, pack(work.made.parts))))
        await save_marks(self._destination, run.marks)

    async def _push(self, episodes: Sequence[EpisodeCreate], anew: bool) -> tuple[dict[str, WriteResult], Refusals]:
        results: dict[str, WriteResult] = {}
        refusals: Refusals = {}
        for batch in _batches(episodes):
            result, refused = await push_what_fits(self._destination, batch, "update" if anew else "skip")
            results.update((one.episode_id, one) for one in result.results)
            refusals |= refused
        return results, refusals

    async def _drain(self, run: _Run) -> None:
        """Wait a little for what is under way, so that it need not be sent again; not where nobody answers."""
        counts = run.counts
        counts.under_way = sum(len(one.load.episodes) for one in run.sent)
        counts.stopping = bool(run.sent) and not self._destination.away
        if not counts.stopping:
            return
        self._on_progress(counts)
        try:
            async with asyncio.timeout(DRAIN):
                while run.sent:
                    await self._settle(run)
        except Exception:  # noqa: BLE001 -- the run ends anyway; what was not acknowledged is read again next time
            return

    async def _settle(self, run: _Run) -> None:
        """Await the oldest load and write down what its files hold."""
        load, counts = run.sent[0].load, run.counts
        results, refused = await asyncio.shield(run.sent[0].task)  # whoever stops this run may still await the answer
        run.taken += len(results)
        statuses = Counter(one.status for one in results.values())
        counts.created += statuses[WriteStatus.CREATED]
        counts.updated += statuses[WriteStatus.UPDATED]
        counts.duplicate += statuses[WriteStatus.DUPLICATE]
        counts.blocked += statuses[WriteStatus.BLOCKED]
        counts.refused += len(refused)
        for error in refused.values():
            run.refusal = error.message
        ready: list[_Work] = []
        for work in load.works:
            if work.leader is not None:
                work.parts, work.reason = work.leader.parts, work.leader.reason
            elif work.made is not None:
                work.parts = [_effective(part, results) for part in work.made.parts]
                if any(part.episode_id in refused for part in work.made.parts):
                    work.reason = REFUSED
            (run.doubtful if work.reason == REFUSED and not run.taken else ready).append(work)
        if not run.taken and counts.refused >= BATCH_EPISODES:
            raise _takes_nothing(run)
        if run.taken:
            ready, run.doubtful = run.doubtful + ready, []
        created = {one.episode_id for one in results.values() if one.status is WriteStatus.CREATED}
        await self._finish(ready, run, created)
        run.sent.popleft()

    async def _finish(self, works: Sequence[_Work], run: _Run, created: Collection[str] = ()) -> None:
        marks = run.marks
        arrivals = [one for work in works for one in _arrivals(work, marks, created)]
        coming: dict[str, list[Held]] = {}
        for one in arrivals:
            if one.tags:
                coming.setdefault(one.path, []).append(one.part)
        if coming:
            files = {work.file.path: work.file for work in works}
            for path, parts in coming.items():
                mark = marks.get(path) or _unread(files[path])
                marks.put(replace(mark, past=_joined(mark.past, pack(parts))))
            await save_marks(self._destination, marks)
        await welcome(self._destination, arrivals)
        for work in works:
            self._note(work, run)
        await save_marks(self._destination, marks)

    def _note(self, work: _Work, run: _Run) -> None:
        """Let the mark of a file say what it holds; and count it."""
        marks, counts, file = run.marks, run.counts, work.file
        before = marks.get(file.path)
        if work.same and not work.reason:
            counts.files_changed -= 1
        else:
            counts.files_done += 1
        if work.reason:
            self._fail(work, run)
        if not work.passing:
            whole = not work.reason or work.reason == REFUSED
            if whole and not work.same:
                run.arrived.add(work.identity)
            mark = Mark(
                path=file.path,
                source=file.source,
                instance=file.instance,
                project=file.project,
                stamp=work.stamp,
                identity=work.identity if whole else before.identity if before is not None else "",
                held=pack(work.parts, work.identity) if whole else before.held if before is not None else "",
                past=_left(before, work) if whole and before is not None else work.past,
                read_at=int(time.time()),
                reason=work.reason,
            )
            if before is None or _says(before) != _says(mark):
                marks.put(mark)
        self._on_progress(counts)

    def _fail(self, work: _Work, run: _Run) -> None:
        if work.reason in (VANISHED, CHANGED):
            return  # the next scan sees what has become of it
        run.counts.fail(work.reason, printable(work.file.path))
        if work.passing:
            self._failed[work.file.path] = (work.file, work.reason)


def _is_changed(file: Found, mark: Mark | None) -> bool:
    """Whether it is to be looked at."""
    return (
        mark is None
        or mark.stamp != (file.device, file.inode, file.size, file.mtime_ns)
        or (mark.source, mark.project) != (file.source, file.project)
    )


def _arrivals(work: _Work, marks: Marks, created: Collection[str]) -> Iterator[Arrival]:
    """The episodes that a file holds from now on, and those whose place in it has moved."""
    if work.passing or work.same:
        return
    before = marks.get(work.file.path)
    known = {part.episode_id: part for part in before.parts} if before is not None else {}
    tags = tags_of(work.file)
    maker = work.leader or work
    own = f"ep_file_{work.identity}_" if maker.file.instance == work.file.instance else None
    for part in {part.episode_id: part for part in work.parts if part.episode_id}.values():
        if own is not None and part.episode_id in created and part.episode_id.startswith(own):
            continue  # written just now, with all its tags
        if part.episode_id in known:
            was = known[part.episode_id]
            if (was.line, was.last_line) != (part.line, part.last_line):
                yield Arrival(part, work.file.path, work.file.instance, ())
        elif not any(mark.instance == work.file.instance for mark in marks.holding(part.episode_id)):
            yield Arrival(part, work.file.path, work.file.instance, tags)


def _effective(part: Held, results: Mapping[str, WriteResult]) -> Held:
    """The part as memory holds it."""
    result = results.get(part.episode_id)
    if result is None or result.status is WriteStatus.BLOCKED:
        return part._replace(episode_id="")
    return part._replace(episode_id=result.duplicate_of or result.episode_id)


def _left(before: Mark, work: _Work) -> str:
    """What a file does not hold any more: of what it held, and of what was to be let go already."""
    holds = {part.episode_id for part in work.parts}
    former = [*before.parts, *replace(before, past=work.past).leaving]
    return pack(part for part in dict.fromkeys(former) if part.episode_id and part.episode_id not in holds)


def _emptied(mark: Mark) -> Mark:
    """The mark of a file that is gone: all that it held is to be let go."""
    past = pack(part for part in dict.fromkeys([*mark.parts, *mark.leaving]) if part.episode_id)
    return replace(mark, stamp=NEVER, identity="", held="", past=past, reason="")


def _unread(file: Found) -> Mark:
    return Mark(file.path, file.source, file.instance, file.project, NEVER, "", "")


def _joined(*packed: str) -> str:
    return " ".join(filter(None, packed))


def _says(mark: Mark) -> tuple[str, str, Stamp, str, str, str, str]:
    return mark.source, mark.project, mark.stamp, mark.identity, mark.held, mark.past, mark.reason


def _is_elsewhere(mark: Mark, marks: Marks) -> bool:
    """Whether other files hold all that a file holds."""
    parts = [part for part in mark.parts if part.episode_id]
    return bool(parts) and all(
        any(one.path != mark.path and one.instance == mark.instance for one in marks.holding(part.episode_id))
        for part in parts
    )


def _absent(marks: Sequence[Mark]) -> list[Mark]:
    """Those whose files do not exist any more, or hold nothing: what is only left out keeps its episodes."""
    gone = []
    for mark in marks:
        try:
            status = os.lstat(mark.path)
        except OSError as error:
            if isinstance(error, (FileNotFoundError, NotADirectoryError)):
                gone.append(mark)
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            gone.append(mark)
    return gone


def _batches(episodes: Sequence[EpisodeCreate]) -> Iterator[list[EpisodeCreate]]:
    batch: list[EpisodeCreate] = []
    characters = 0
    for one in episodes:
        weight = _weight(one)
        if batch and (len(batch) >= BATCH_EPISODES or characters + weight > BATCH_CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(one)
        characters += weight
    if batch:
        yield batch


def _weight(episode: EpisodeCreate) -> int:
    return len(episode.summary) + len(episode.raw_exchange or "")


def _takes_nothing(run: _Run) -> Invalid:
    return Invalid(f"memory has refused all {run.counts.refused} episodes that were sent to it: {run.refusal}")


def _shown(mark: Mark) -> CrawledFile:
    return CrawledFile(
        path=printable(mark.path),
        source=mark.source,
        instance=mark.instance,
        project=mark.project,
        state="error" if mark.reason else "read",
        size=max(0, mark.stamp.size),
        modified_at=moment(mark.stamp.mtime_ns),
        read_at=datetime.fromtimestamp(mark.read_at, UTC) if mark.read_at else None,
        episodes=sum(bool(part.episode_id) for part in mark.parts),
        reason=mark.reason or None,
    )


def _unreadable(file: Found, reason: str, known: Mark | None) -> CrawledFile:
    shown = _shown(known or _unread(file))
    update = {"state": "error", "reason": reason, "size": file.size, "modified_at": moment(file.mtime_ns)}
    return shown.model_copy(update=update)
