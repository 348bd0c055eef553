"""kill -9 of ingest and of memory while files are crawled and change: the store ends as after one undisturbed crawl."""

import random
import time
from pathlib import Path

import httpx
import pytest

from anamnesis.cutting import cut
from tests.e2e.conftest import Stack, running
from tests.e2e.crawling import code, config_of, configure, exported, scan, status
from tests.e2e.reading import stored

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SEED = 20_260_811
FILES = 120
KILLS = 6


def body(number: int, version: int) -> str:
    """Three functions, of which one changes with the version."""
    parts = [
        f"def lamp_{number}_{part}(volts: float) -> float:\n"
        f'    """What lamp {number} of row {part} draws in revision {version if part == number % 3 else 0}."""\n'
        + "".join(f"    step_{row} = volts * {row + number} / {part + 1}\n" for row in range(18))
        + "    return step_0\n"
        for part in range(3)
    ]
    return "\n\n".join(parts)


def write(root: Path, number: int, version: int) -> None:
    (root / f"lamp_{number}.py").write_text(body(number, version))


def change(root: Path, dice: random.Random, version: int) -> None:
    """Edit some files, delete some, rename some, bring some back."""
    for number in dice.sample(range(FILES), 25):
        file = root / f"lamp_{number}.py"
        match dice.randrange(4):
            case 0:
                file.unlink(missing_ok=True)
            case 1 if file.exists():
                file.rename(root / f"renamed_{number}.py")
            case 2:
                write(root, number, dice.randrange(version))  # as it was before, perhaps
            case _:
                write(root, number, version)


def wanted(root: Path) -> set[str]:
    """The parts of all files. Files that share a part (one that was renamed, and a new one of its old name) share what
    is remembered of it, which says of one of them that it lies there.
    """
    return {squeezed(piece.text) for file in root.glob("*.py") for piece in cut(file.read_text(), file.name)}


def remembered(stack: Stack) -> list[str]:
    return [
        squeezed(one.raw_exchange or "")
        for one in exported(stack)
        if one.superseded_by is None and "deleted" not in one.tags
    ]


def squeezed(text: str) -> str:
    return "".join(text.split())


def begin(stack: Stack) -> None:
    with stack.client("ingest") as client:
        client.post("/api/crawler/scan").raise_for_status()


def busy(stack: Stack) -> bool:
    with stack.client("ingest") as client:
        return status(client).current is not None


def test_the_store_ends_as_the_files_are(tmp_path: Path) -> None:
    """However often either is killed, what is remembered at the end is what the files hold."""
    dice = random.Random(SEED)
    root = tmp_path / "lamps"
    root.mkdir()
    for number in range(FILES):
        write(root, number, 0)
    extra = {"ANAMNESIS_SOURCES": str(root), "ANAMNESIS_INGEST_POLL": "0", "ANAMNESIS_EMBEDDING_CPU_PERCENT": "100"}
    seen: set[str] = set()
    with running(tmp_path / "data", extra=extra) as stack:
        configure(stack, config_of(root, code()))
        for version in range(1, KILLS + 1):
            before = stored(stack)
            begin(stack)
            until = time.monotonic() + dice.uniform(0.2, 6)
            while time.monotonic() < until and (stored(stack) == before or dice.random() < 0.9) and busy(stack):
                time.sleep(0.02)
            seen |= {one.episode_id for one in exported(stack)}
            victim = dice.choice(["ingest", "memory"])
            stack.kill(victim)
            change(root, dice, version)
            stack.start(victim)
        deadline = time.monotonic() + 300
        while True:
            try:
                run = scan(stack, within=200).last
            except (AssertionError, httpx.HTTPError):
                if time.monotonic() > deadline:
                    raise
                continue
            if run is not None and run.state == "done":
                break
            assert time.monotonic() < deadline, run
        parts = remembered(stack)
        assert set(parts) == wanted(root)
        assert seen <= {one.episode_id for one in exported(stack)}, "what was acknowledged is gone"
        again = scan(stack).last
        assert again is not None
        assert (again.created, again.superseded, again.deleted, again.renamed) == (0, 0, 0, 0)
