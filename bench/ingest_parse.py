"""How fast transcripts are read: parsing beside `orjson.loads` of every line, and a second look at unchanged files.

Run: `python -m bench.ingest_parse [--megabytes 40] [--files 1000] [--json OUT]`. The input is made here: sessions with
turns, tool calls, tool results of some kilobytes and the program's own records, in the proportions of real ones.
Each figure is the best of five, taken in turns with its reference in one process; nothing leaves the machine. Parsing
is timed by the processor's clock, since it is one thread that waits for nothing; runs over files by the wall clock.
"""

import argparse
import asyncio
import json
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import orjson

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.episodes import BatchResult, EpisodeBatch, WriteResult, WriteStatus
from anamnesis.redact import redact
from anamnesis.transcripts.episodes import Maker, Origin
from anamnesis.transcripts.exchanges import Cutter
from anamnesis.transcripts.lines import lines
from anamnesis.transcripts.projects import Projects
from anamnesis.transcripts.sync import Sync

WORDS = """
    the upload test waits for a fixed time and fails at night because the worker is slower then so we wait for the event
    itself instead of sleeping def main return value import path config error none true for in if else class self data
    result file line function module server client request response token cache query index store memory session
""".split()  # noqa: SIM905 -- one word a line is no easier to read
REPEATS = 5


class Row(NamedTuple):
    name: str
    value: float
    unit: str
    beside: str
    """What it is to be compared with."""


def transcript(size: int, seed: int) -> bytes:
    """About `size` bytes of one session."""
    dice = random.Random(seed)
    out: list[bytes] = []
    total = count = 0
    moment = datetime(2026, 1, 1, tzinfo=UTC)

    def text(length: int) -> str:
        words = [dice.choice(WORDS) for _ in range(length // 5)]
        return "\n".join(" ".join(words[at : at + 12]) for at in range(0, len(words), 12))

    def add(kind: str, content: object, **more: object) -> None:
        nonlocal total, count, moment
        count += 1
        moment += timedelta(seconds=3)
        record = {
            "parentUuid": f"{seed:08x}-0000-4000-8000-{count - 1:012x}",
            "isSidechain": False,
            "userType": "external",
            "cwd": "/home/me/shop",
            "sessionId": f"{seed:08x}-aaaa-4000-8000-000000000000",
            "version": "2.0.0",
            "gitBranch": "main",
            "type": kind,
            "message": {"role": kind, "content": content, "id": f"msg_{count}", "usage": {"output_tokens": 100}},
            "uuid": f"{seed:08x}-0000-4000-8000-{count:012x}",
            "timestamp": moment.isoformat().replace("+00:00", "Z"),
            **more,
        }
        line = orjson.dumps(record) + b"\n"
        out.append(line)
        total += len(line)

    while total < size:
        add("user", text(dice.randrange(80, 800)))
        for _ in range(dice.randrange(1, 6)):
            add("assistant", [{"type": "thinking", "thinking": text(800), "signature": "s" * 300}])
            add("assistant", [{"type": "text", "text": text(dice.randrange(100, 600))}])
            tool = f"toolu_{count}"
            given = {"file_path": f"/home/me/shop/src/{dice.choice(WORDS)}.py"}
            add("assistant", [{"type": "tool_use", "id": tool, "name": dice.choice(("Read", "Edit")), "input": given}])
            said = text(dice.randrange(200, 12_000))
            block = {"type": "tool_result", "tool_use_id": tool, "content": said}
            add("user", [block], toolUseResult={"file": {"content": said}})
            add("system", None, subtype="turn_duration", isMeta=True)
        add("assistant", [{"type": "text", "text": text(dice.randrange(300, 2500))}])
    return b"".join(out)


class Nowhere:
    """A destination that takes everything at once."""

    away = False

    def __init__(self) -> None:
        self.marks: dict[str, JsonObject] = {}

    async def load_offsets(self) -> Mapping[str, JsonObject]:
        return self.marks

    async def save_offsets(self, marks: Mapping[str, JsonObject]) -> None:
        self.marks.update(marks)

    async def remove_offsets(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.marks.pop(key, None)

    async def push(self, batch: EpisodeBatch) -> BatchResult:
        created = WriteStatus.CREATED
        return BatchResult(
            results=tuple(WriteResult(episode_id=one.episode_id or "", status=created) for one in batch.episodes)
        )


def _seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    work()
    return clock() - start


def measure_parsing(megabytes: int) -> list[Row]:
    data = transcript(megabytes << 20, 1)
    size = len(data) / 1e6
    maker = Maker(Projects(look=False))
    origin = Origin("/t/s.jsonl", "bench")

    def reference() -> None:
        for line in data.split(b"\n"):
            if line:
                orjson.loads(line)

    def cut() -> int:
        cutter = Cutter()
        found = 0
        for line in lines([data]):
            found += len(cutter.feed(line))
        return found

    def make() -> int:
        cutter = Cutter()
        found = 0
        for line in lines([data]):
            found += sum(maker.make(one, origin).episode is not None for one in cutter.feed(line))
        return found

    cutter = Cutter()
    exchanges = [one for line in lines([data[: 8 << 20]]) for one in cutter.feed(line)]
    talk = "\n".join(part.text for one in exchanges for part in one.parts)
    pieces = [talk[at : at + 4000] for at in range(0, len(talk), 4000)]
    works: dict[str, Callable[[], object]] = {
        "orjson": reference,
        "cut": cut,
        "make": make,
        "redact": lambda: [redact(piece) for piece in pieces],
    }
    best = dict.fromkeys(works, float("inf"))
    for _ in range(REPEATS):
        for name, work in works.items():
            best[name] = min(best[name], _seconds(work, time.process_time))
    return [
        Row("orjson.loads of every line", size / best["orjson"], "MB/s", "the reference"),
        Row("parse: lines to exchanges", size / best["cut"], "MB/s", f"{best['orjson'] / best['cut']:.2f} x reference"),
        Row(
            "parse, redact, summarise: episodes",
            size / best["make"],
            "MB/s",
            f"{best['orjson'] / best['make']:.2f} x reference; aim >= 20",
        ),
        Row("redact talk, 4,000 characters a piece", sum(map(len, pieces)) / 1e6 / best["redact"], "MB/s", "aim >= 30"),
    ]


def measure_second_run(files: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for number in range(files):
            path = root / f"-home-me-p{number % 20}" / f"{number:08x}.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(transcript(30_000, number + 10))
        size = sum(path.stat().st_size for path in root.glob("*/*.jsonl")) / 1e6
        memory = Nowhere()

        def sync() -> Sync:
            return Sync(memory, Maker(Projects(look=False)), [root], "bench", lambda progress: None)

        first = _seconds(lambda: asyncio.run(sync().run()))
        # A new process each time would know no more: the marks come from the destination.
        second = min(_seconds(lambda: asyncio.run(sync().run())) for _ in range(REPEATS))
        looked = asyncio.run(sync().run())
        assert looked.files == files
        assert looked.bytes_done == 0
    return [
        Row(f"first run over {files:,} files", first, "s", f"{size:.0f} MB, to a destination that takes all at once"),
        Row(f"second run over {files:,} unchanged files", second, "s", "aim < 1; 0 bytes read"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = measure_parsing(options.megabytes) + measure_second_run(options.files)
    for row in rows:
        sys.stdout.write(f"{row.name:<42} {row.value:>9.2f} {row.unit:<5} {row.beside}\n")
    if options.json:
        report = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "megabytes": options.megabytes,
            "rows": [row._asdict() for row in rows],
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
