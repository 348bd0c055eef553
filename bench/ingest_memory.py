"""Memory while a lot of transcripts is read: a tenth of a gigabyte beside a whole one, each in a process of its own.

Run: `python -m bench.ingest_memory [--megabytes 1000] [--file 20]`. Sessions are made as for `bench.ingest_parse`; what
is read is redacted, made into episodes and given to a destination that takes all at once. Flat means: the process that
reads ten times as much takes about as much memory.
"""

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from anamnesis.transcripts.episodes import Maker
from anamnesis.transcripts.projects import Projects
from anamnesis.transcripts.sync import Sync
from bench.ingest_parse import Nowhere, transcript

KINDS = 5
"""Different sessions that are made; further files are copies under other ids."""


def write(root: Path, megabytes: int, each: int) -> int:
    made = [transcript(each << 20, seed + 1) for seed in range(KINDS)]
    size = 0
    for number in range(max(1, megabytes // each)):
        seed = number % KINDS + 1
        data = made[number % KINDS].replace(f"{seed:08x}-".encode(), f"{number + 100:08x}-".encode())
        path = root / f"-home-me-p{number % 20}" / f"{number:08x}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        size += len(data)
    return size


def read(root: Path) -> None:
    """In a process of its own: prints seconds, episodes and the most memory in megabytes."""
    sync = Sync(Nowhere(), Maker(Projects(look=False)), [root], "bench", lambda progress: None)
    begun = time.perf_counter()
    done = asyncio.run(sync.run())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1 << 20)
    print(f"{time.perf_counter() - begun:.1f} {done.created} {peak:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--file", type=int, default=20, help="megabytes of one file")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        return read(args.read)
    print("| read | files of | seconds | MB/s | episodes | peak of the process |\n|---|---|---|---|---|---|")
    for megabytes in (args.megabytes // 10, args.megabytes):
        with tempfile.TemporaryDirectory() as directory:
            size = write(Path(directory), megabytes, args.file)
            command = [sys.executable, "-m", "bench.ingest_memory", "--read", directory]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        seconds, episodes, peak = float(told[0]), int(told[1]), int(told[2])
        rate = size / 1e6 / seconds
        print(f"| {size / 1e6:,.0f} MB | {args.file} MB | {seconds:.1f} | {rate:.0f} | {episodes:,} | {peak} MB |")


if __name__ == "__main__":
    main()
