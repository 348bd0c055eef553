"""What keeping memory up to date with files costs: nothing changed, one in a hundred changed, all new.

Run: `python -m bench.crawl_sync [--files 20000] [--json OUT]`. The files are made here: Markdown and Python of some
kilobytes, forty a project. Memory is one within this process, so the figures are those of looking, reading, redacting,
cutting and keeping account; nothing leaves the machine. The first run of a process also loads what is known.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from anamnesis.contracts.crawler import CrawlerConfig, Source, SourceKind, TagPatterns
from anamnesis.contracts.episodes import BatchResult, EpisodeBatch, WriteResult, WriteStatus
from anamnesis.crawl.sync import Crawl
from tests.anamnesis.crawl.keeper import Keeper, Memory

WORDS = ("door", "window", "lamp", "stair", "roof", "garden", "gate", "wall", "floor", "room", "paint", "wood", "stone")
PER_PROJECT = 40
LONG_AGO = 1_700_000_000


class Row(NamedTuple):
    what: str
    seconds: float
    requests: int
    megabytes_sent: float
    files_read: int


class Quick(Keeper):
    """Finds copies by a table, so that it costs nothing itself."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(memory)
        self._contents: dict[tuple[str, str, str | None], str] = {}

    async def push(self, batch: EpisodeBatch) -> BatchResult:
        self.calls.append("push")
        results = []
        for one in batch.episodes:
            name = one.episode_id or ""
            self.sent += len(one.raw_exchange or "")
            held = self._contents.setdefault((one.project, one.summary, one.raw_exchange), name)
            if held != name or name in self.memory.episodes:
                results.append(WriteResult(episode_id=name, status=WriteStatus.DUPLICATE, duplicate_of=held))
            else:
                self.memory.episodes[name] = one
                results.append(WriteResult(episode_id=name, status=WriteStatus.CREATED))
        return BatchResult(results=tuple(results))


def text_of(dice: random.Random, python: bool) -> str:
    parts = []
    for number in range(dice.randint(2, 8)):
        words = " ".join(dice.choices(WORDS, k=120))
        name = f"{dice.choice(WORDS)}_{number}"
        parts.append(
            f'def {name}():\n    """{words}"""\n    return {number}\n\n' if python else f"# {name}\n\n{words}\n\n"
        )
    return "".join(parts)


def write(path: Path, dice: random.Random, when: int) -> None:
    path.write_text(text_of(dice, path.suffix == ".py"))
    os.utime(path, (when, when))


async def measure(files: int, root: Path) -> list[Row]:
    dice = random.Random(7)
    paths = []
    for number in range(files):
        directory = root / f"project-{number // PER_PROJECT:04}"
        directory.mkdir(exist_ok=True)
        paths.append(directory / f"part_{number}.{'py' if number % 2 else 'md'}")
        write(paths[-1], dice, LONG_AGO)
    config = CrawlerConfig(
        sources=(Source(name="all", kind=SourceKind.NAMED, root=str(root), globs=("**/*.md", "**/*.py")),)
    )
    keeper = Quick(Memory())

    def crawl() -> Crawl:
        return Crawl(keeper, lambda: (config, TagPatterns()), [root], "bench", lambda counts: None, never=())

    async def run(what: str, one: Crawl, only: set[str] | None = None) -> Row:
        keeper.calls.clear()
        keeper.sent = 0
        started = time.perf_counter()
        counts = await one.run(only)
        seconds = time.perf_counter() - started
        return Row(what, seconds, len(keeper.calls), keeper.sent / 1e6, counts.files_done)

    rows = [await run("all new", crawl())]
    again = crawl()
    rows.append(await run("nothing changed, a new process", again))
    rows += [await run("nothing changed", again) for _ in range(3)]
    for path in dice.sample(paths, files // 100):
        write(path, dice, LONG_AGO + 1)
    rows.append(await run("1 % changed", again))
    write(paths[0], dice, LONG_AGO + 2)
    rows.append(await run("one changed, seen by the watcher", again, {str(paths[0])}))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = asyncio.run(measure(options.files, Path(os.path.realpath(scratch))))
    for row in rows:
        print(
            f"{row.what:36} {row.seconds:8.3f} s {row.requests:6} requests {row.megabytes_sent:8.2f} MB"
            f" {row.files_read:6} files read"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process, with the memory service in it: {peak:.0f} MB")
    if options.json:
        report = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "command": sys.argv,
            "files": options.files,
            "peak_megabytes": round(peak),
            "rows": [row._asdict() for row in rows],
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
