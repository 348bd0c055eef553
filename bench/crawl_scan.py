"""How long a scan of unchanged files takes and what memory its process has, beside plain walks of the same tree.

    python -m bench.crawl_scan [--files 20000 100000] [--repeats 5] [--json OUT] [--markdown OUT]

The tree is made here: projects as a person has them, with a `.gitignore`, packages and builds that are passed by, in
one Git repository, so that `git ls-files` can be asked for the same. Six sources mean all of the files, four of them
over the whole tree. Every way of looking has processes of its own, in turns; the best of its times counts. What was
read before lies in the system's cache, for all alike.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

TARGET_S = 1.5
TARGET_MB = 80.0
ENDINGS = ("py", "py", "py", "md", "ts", "cpp", "h", "yml", "sh", "js")
IGNORED = "*.log\n*.tmp\n/out/\n.DS_Store\n*.local.*\nscratch/\n!scratch.md\n*.sw?\n**/generated/*.ts\ndata/*.csv\n"

SCAN = """
import json, resource, sys, time
from pathlib import Path
from anamnesis.contracts.crawler import CrawlerConfig, MachineRoot, Source
from anamnesis.crawl.scan import scan
root = Path(sys.argv[1])
config = CrawlerConfig(machine_roots=(MachineRoot(instance="box", path=str(root)),), sources=(
    Source(name="notes", kind="named", globs=("CLAUDE.md", "handoffs/*.md", "**/notes/*.md")),
    Source(name="docker", kind="docker"),
    Source(name="deep", kind="deep", globs=("0_*",)),
    Source(name="scripts", kind="scripts", root="bin"),
    Source(name="teachings", kind="teachings", root="teachings"),
    Source(name="documents", kind="documents", extensions=(".docx", ".pdf", ".html")),
))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
found = scan(config, [root], "home", never=())
seconds = time.perf_counter() - started
assert len(found.whole) == 6, (found.errors, found.problems)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([seconds, after / 1024, before / 1024, len(found.files)]))
"""
WALK = """
import json, os, resource, sys, time
started = time.perf_counter()
found = [os.stat(os.path.join(where, name)) for where, _, names in os.walk(sys.argv[1]) for name in names]
seconds = time.perf_counter() - started
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 0, len(found)]))
"""
COMMAND = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
out = subprocess.run(sys.argv[2:], cwd=sys.argv[1], capture_output=True, check=True).stdout
seconds = time.perf_counter() - started
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 0, out.count(b"\\0")]))
"""


class Row(NamedTuple):
    name: str
    seconds: float
    megabytes: float
    """Resident at most, of the whole process."""
    before: float
    """Of which before it began: the interpreter and what it has loaded."""
    files: int


def make(root: Path, files: int) -> None:
    """So many files that are meant, and a quarter as many beside them that are not."""
    made = number = 0
    while made < files:
        project = root / f"group{number % 12}" / f"0_project{number:04d}"
        for place in ("", "src", "src/core", "src/ui", "tests", "docs", "tools", "docs/notes", "lib/a", "lib/b"):
            (project / place).mkdir(parents=True, exist_ok=True)
            for at in range(20):
                if made == files:
                    break
                (project / place / f"file{at:02d}.{ENDINGS[at % len(ENDINGS)]}").write_bytes(b"x = 1\n")
                made += 1
        for noise in ("node_modules/p", "build", "scratch", "data"):
            (project / noise).mkdir(parents=True)
            for at in range(12):
                (project / noise / f"n{at}.js").write_bytes(b"x\n")
        (project / ".gitignore").write_text(IGNORED)
        if number % 4 == 0:
            (project / "docker-compose.yml").write_text("services: {}\n")
        number += 1
    for place in ("bin", "teachings"):
        (root / place).mkdir()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)


def look(code: str, root: Path, command: Sequence[str], name: str) -> Row:
    done = subprocess.run([sys.executable, "-c", code, str(root), *command], capture_output=True, check=True)
    return Row(name, *json.loads(done.stdout))


def measure(root: Path, repeats: int) -> list[Row]:
    ways: list[tuple[str, str, Sequence[str]]] = [
        ("scan, six sources", SCAN, ()),
        ("os.walk and os.stat of every file", WALK, ()),
    ]
    if shutil.which("find"):
        ways.append(
            ("find -type f, with size and time", COMMAND, ("find", ".", "-type", "f", "-printf", "%p %s %T@\\0"))
        )
    if shutil.which("git"):
        ways.append(("git ls-files -co --exclude-standard", COMMAND, ("git", "ls-files", "-coz", "--exclude-standard")))
    best: dict[str, Row] = {}
    for _ in range(repeats):
        for name, code, command in ways:
            row = look(code, root, command, name)
            if name not in best or row.seconds < best[name].seconds:
                best[name] = row
    return list(best.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    results: dict[int, list[Row]] = {}
    for files in options.files:
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(os.path.realpath(scratch)) / "tree"
            root.mkdir()
            make(root, files)
            results[files] = measure(root, options.repeats)
    text = (
        "# A scan of unchanged files\n\n"
        f"`python -m bench.crawl_scan` on {os.cpu_count()} cores, best of {options.repeats}. "
        f"Target for 20,000 files: <= {TARGET_S} s and < {TARGET_MB:.0f} MB of the whole process.\n"
    )
    for files, rows in results.items():
        scanned = rows[0]
        text += (
            f"\n## {files:,} files that are meant\n\n| | seconds | scan / this | MB | files |\n|---|---|---|---|---|\n"
        )
        for row in rows:
            ratio = scanned.seconds / row.seconds
            text += f"| {row.name} | {row.seconds:.3f} | {ratio:.2f} | {row.megabytes:.1f} | {row.files:,} |\n"
        each = (scanned.megabytes - scanned.before) * 2**20 / files
        text += (
            f"\nThe scan's process had {scanned.before:.1f} MB before it began. Per file "
            f"{scanned.seconds / files * 1e6:.1f} µs and {each:.0f} bytes.\n"
        )
    print(text)
    if options.json:
        report = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "files": {str(files): [row._asdict() for row in rows] for files, rows in results.items()},
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
