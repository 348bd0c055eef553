"""`anamnesis push`: files of this machine, read and redacted here, for a memory that may be anywhere.

It looks once, or watches: what the file system tells of is read at once, and a whole scan every few minutes finds
the rest. The marks of what was read are kept in memory, apart from those of the ingest service.
"""

import asyncio
import json
import os
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, ValidationError
from rich.progress import TextColumn

from anamnesis.contracts.crawler import (
    DOCUMENTS,
    EXTENSIONS,
    CrawlerConfig,
    Source,
    SourceKind,
    TagPattern,
    TagPatterns,
)
from anamnesis.crawl.counts import CrawlCounts
from anamnesis.crawl.scan import printable, scan
from anamnesis.crawl.sync import Crawl
from anamnesis.crawl.watching import Changes, Watcher
from anamnesis.destination import HttpDestination, namespace
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import BadRequest, Busy, DeadlineExceeded, StorageFull, Unavailable, UpstreamFailed
from anamnesis.transcripts.episodes import Maker
from anamnesis.transcripts.files import default_roots
from anamnesis.transcripts.progress import Progress as Transcripts
from anamnesis.transcripts.projects import Projects
from anamnesis.transcripts.settings import ReadingSettings
from anamnesis.transcripts.sync import Sync
from services.console import output

MAX_CONFIG = 1 << 20  # bytes
RETRY = 30.0
"""Seconds until what a watcher could not push is tried again."""
LOOK = 60.0
"""Seconds between two looks at transcripts."""
EXAMPLES = 20
WAITING = 100  # changes that wait for a run that is under way; beyond them all is looked at
_PASSING = (Unavailable, DeadlineExceeded, Busy, StorageFull, UpstreamFailed)


class PushConfig(CrawlerConfig):
    """What a configuration file says: the crawler's configuration, and tags for documents."""

    patterns: tuple[TagPattern, ...] = Field(default=(), max_length=200)


class Wishes(NamedTuple):
    """What was asked for beside the paths."""

    instance: str
    config: Path | None = None
    project: str | None = None
    tags: tuple[str, ...] = ()
    transcripts: bool = False
    watch: bool = False
    anew: bool = False
    dry: bool = False
    as_json: bool = False


async def push(client: ServiceClient, settings: ReadingSettings, given: Sequence[Path], wishes: Wishes) -> None:
    config = await asyncio.to_thread(_configured, given, wishes)
    allowed = _allowed(config)
    if wishes.dry:
        return await asyncio.to_thread(_preview, config, allowed, wishes)
    pushing = _Pushing(client, settings, config, allowed, wishes)
    try:
        if wishes.watch:
            await pushing.watch()
        else:
            await pushing.once()
    except asyncio.CancelledError:
        pushing.bar.stop()
        seen = pushing.seen
        output.note(f"Stopped. {seen.created} episodes are safe; the same command goes on where this ended.")
        raise
    finally:
        pushing.bar.stop()


class _Pushing:
    """One machine's files on their way."""

    def __init__(
        self,
        client: ServiceClient,
        settings: ReadingSettings,
        config: PushConfig,
        allowed: Sequence[Path],
        wishes: Wishes,
    ) -> None:
        self.seen = CrawlCounts()
        self.bar = output.progress(None, TextColumn("{task.fields[counts]}"))
        self._task = self.bar.add_task("looking", total=None, counts="")
        self._config = config
        self._allowed = allowed
        self._wishes = wishes
        self._told = False
        patterns = TagPatterns(patterns=config.patterns)
        self._crawl = Crawl(
            self._destination(client, "push"),
            lambda: (config, patterns),
            allowed,
            wishes.instance,
            self._show,
            entropy=settings.redact_entropy,
        )
        self._sync = None
        if wishes.transcripts:
            maker = Maker(Projects(), settings.rules, settings.ingest_max_raw, settings.redact_entropy)
            roots = [root for root in default_roots(os.environ, Path.home()) if root.is_dir()]
            destination = self._destination(client, "console")  # the marks that `anamnesis ingest` has
            self._sync = Sync(destination, maker, roots, wishes.instance, lambda _: None)

    def _destination(self, client: ServiceClient, reader: str) -> HttpDestination:
        return HttpDestination(
            client,
            namespace(reader, self._wishes.instance),
            lambda: self.bar.update(self._task, counts="waiting for the gateway ..."),
        )

    async def once(self) -> None:
        self.bar.start()
        counts = await self._crawl.run(anew=self._wishes.anew)
        transcripts = await self._transcripts()
        self.bar.stop()
        if self._wishes.as_json:
            output.lines([json.dumps(report(counts), indent=2)])
        else:
            _summary(counts, transcripts)
        if counts.problems:
            raise BadRequest("; ".join(f"{name}: {problem}" for name, problem in counts.problems.items()))
        if counts.errors or counts.refused:
            wrong = [
                f"{count} {reason} ({', '.join(counts.examples.get(reason, ()))})"
                for reason, count in counts.errors.items()
            ]
            wrong += [f"memory would not take {counts.refused} parts"] if counts.refused else []
            raise UpstreamFailed("some files could not be read: " + ", ".join(wrong))

    async def watch(self) -> None:
        """Until it is stopped. What could not be pushed is tried again, unless waiting mends nothing."""
        queue: asyncio.Queue[Changes] = asyncio.Queue(WAITING)
        watcher = Watcher(lambda: self._config, self._allowed, self._wishes.instance)
        watching = asyncio.create_task(_listen(watcher, queue))
        loop = asyncio.get_running_loop()
        scan_at = look_at = loop.time()
        anew = self._wishes.anew
        output.note(f"Watching {len(self._config.sources)} sources; Ctrl-C ends it and loses nothing.")
        try:
            while True:
                try:
                    if loop.time() >= scan_at:
                        _log(await self._crawl.run(anew=anew))
                        anew = False
                        scan_at = loop.time() + (self._config.scan_seconds or 86_400.0)
                    if self._sync is not None and loop.time() >= look_at:
                        await self._transcripts()
                        look_at = loop.time() + LOOK
                    until = min(scan_at, look_at) if self._sync is not None else scan_at
                    change = await _next(queue, until - loop.time())
                    if change is not None and change.everything:
                        scan_at = loop.time()
                    elif change is not None:
                        _log(await self._crawl.run(change.paths))
                except _PASSING as error:
                    output.note(f"{error.message}; trying again in {RETRY:.0f} s")
                    await asyncio.sleep(RETRY)
                    scan_at = look_at = loop.time()
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _transcripts(self) -> Transcripts | None:
        return await self._sync.run() if self._sync is not None else None

    def _show(self, counts: CrawlCounts) -> None:
        if counts.stopping and not self._told:
            self._told = True
            self.bar.stop()
            output.note(f"Stopping, waiting for {counts.under_way} sent episodes ...")
        self.seen = counts
        self.bar.update(
            self._task,
            description=f"{counts.files} files",
            total=counts.files_changed or None,
            completed=counts.files_done,
            counts=f"{counts.created} episodes, {counts.duplicate} duplicates, {counts.redactions.total()} redactions",
        )


async def _listen(watcher: Watcher, queue: asyncio.Queue[Changes]) -> None:
    reason = None
    async for change in watcher.changes():
        if watcher.reason is not None and watcher.reason != reason:
            reason = watcher.reason
            output.note(reason)
        if queue.full():
            queue.get_nowait()
            change = Changes(frozenset(), everything=True)
        queue.put_nowait(change)


async def _next(queue: asyncio.Queue[Changes], within: float) -> Changes | None:
    """What changed, of all that waits together; none = nothing did."""
    try:
        change = await asyncio.wait_for(queue.get(), max(0.0, within))
    except TimeoutError:
        return None
    while not queue.empty():
        more = queue.get_nowait()
        change = Changes(change.paths | more.paths, change.everything or more.everything)
    return change


def _configured(given: Sequence[Path], wishes: Wishes) -> PushConfig:
    """The configuration of a file, or made of paths; both together are the file's sources and the paths'."""
    config = _read(wishes.config) if wishes.config is not None else PushConfig()
    sources: list[Source] = []
    for path in given:
        real = path.expanduser().resolve()
        if not real.exists():
            raise BadRequest(f"there is nothing at {path}")
        sources += _sources(real, wishes)
    if not sources and not config.sources:
        raise BadRequest("say what to read: paths, or sources in a file (--config)")
    return config.model_copy(update={"sources": (*config.sources, *sources)})


def _sources(path: Path, wishes: Wishes) -> list[Source]:
    root, globs = (path, ()) if path.is_dir() else (path.parent, (_literal(path.name),))
    name = str(path)[-150:]
    # What both would mean is read as text, where its size is bounded.
    documents = tuple(one for one in DOCUMENTS if one not in EXTENSIONS)
    common = {"root": str(root), "project": wishes.project, "tags": wishes.tags}
    return [
        Source.model_validate({"name": name, "kind": SourceKind.NAMED, "globs": globs or ("**/*",), **common}),
        Source.model_validate(
            {
                "name": f"{name} (documents)",
                "kind": SourceKind.DOCUMENTS,
                "globs": globs,
                "extensions": documents,
                **common,
            }
        ),
    ]


def _literal(name: str) -> str:
    return "".join(f"\\{one}" if one in "*?[]\\!#" else one for one in name)


def _read(path: Path) -> PushConfig:
    try:
        with path.expanduser().open("rb") as file:
            text = file.read(MAX_CONFIG + 1)
        if len(text) > MAX_CONFIG:
            raise BadRequest(f"{path} is larger than a configuration may be (1 MB)")
        value = tomllib.loads(text.decode()) if path.suffix == ".toml" else json.loads(text)
        return PushConfig.model_validate(value)
    except FileNotFoundError:
        raise BadRequest(f"there is no configuration at {path}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        raise BadRequest(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
    except ValueError as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise BadRequest(f"{path} cannot be read as {kind}: {error}") from None


def _allowed(config: PushConfig) -> tuple[Path, ...]:
    """Whoever calls may read what they name."""
    roots = [root.path for root in config.machine_roots]
    named = [source.root for source in config.sources if source.root is not None]
    roots += [root for root in named if os.path.isabs(os.path.expanduser(root))]
    return tuple(dict.fromkeys(Path(root).expanduser() for root in roots))


def _preview(config: PushConfig, allowed: Sequence[Path], wishes: Wishes) -> None:
    found = scan(config, allowed, wishes.instance)
    step = max(1, len(found.files) // EXAMPLES)
    examples = [printable(file.path) for file in found.files[::step][:EXAMPLES]]
    size = sum(file.size for file in found.files)
    if wishes.as_json:
        told = {
            "files": len(found.files),
            "bytes": size,
            "examples": examples,
            "left_out": dict(found.left_out),
            "errors": dict(found.errors),
            "problems": found.problems,
        }
        output.lines([json.dumps(told, indent=2)])
        return
    output.fields([("files", f"{len(found.files)} ({output.size(size)})"), *_counted(found.left_out, found.errors)])
    for example in examples:
        output.say(f"  {example}")
    if len(examples) < len(found.files):
        output.note(f"and {len(found.files) - len(examples)} more")
    for name, problem in found.problems.items():
        output.note(f"{name}: {problem}")


def _counted(left_out: "dict[str, int]", errors: "dict[str, int]") -> list[tuple[str, str]]:
    return [
        *((f"left out: {reason}", str(count)) for reason, count in sorted(left_out.items())),
        *((f"not readable: {reason}", str(count)) for reason, count in sorted(errors.items())),
    ]


def report(counts: CrawlCounts) -> dict[str, object]:
    """The outcome for programs."""
    return {
        "files": counts.files,
        "files_changed": counts.files_changed,
        "renamed": counts.renamed,
        "deleted": counts.deleted,
        "created": counts.created,
        "updated": counts.updated,
        "superseded": counts.superseded,
        "duplicates": counts.duplicate,
        "blocked": counts.blocked,
        "refused": counts.refused,
        "redactions": dict(counts.redactions),
        "left_out": dict(counts.left_out),
        "errors": dict(counts.errors),
        "examples": counts.examples,
        "problems": counts.problems,
    }


def _summary(counts: CrawlCounts, transcripts: Transcripts | None) -> None:
    pairs = [
        ("files", f"{counts.files}, of which {counts.files_changed} new or changed"),
        ("new episodes", str(counts.created)),
        ("superseded", str(counts.superseded)),
        ("duplicates", str(counts.duplicate)),
        ("renamed files", str(counts.renamed)),
        ("deleted files", str(counts.deleted)),
        ("kept away by the blocklist", str(counts.blocked)),
        ("redacted secrets", str(counts.redactions.total())),
    ]
    if transcripts is not None:
        pairs.append(("of transcripts", f"{transcripts.created} new and {transcripts.updated} grown episodes"))
    always = ("files", "new episodes", "redacted secrets", "of transcripts")
    output.fields([(name, value) for name, value in pairs if name in always or value != "0"])
    if left_out := _counted(counts.left_out, {}):
        output.say()
        output.fields(left_out)


def _log(counts: CrawlCounts) -> None:
    """One line of a run of a watcher that found something."""
    if counts.files_changed or counts.deleted or counts.renamed:
        output.say(
            f"{counts.files_changed} files changed, {counts.deleted} deleted, {counts.renamed} renamed: "
            f"{counts.created} episodes, {counts.superseded} superseded, {counts.redactions.total()} redactions"
        )
