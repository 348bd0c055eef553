"""A full disk: a clear error, and everything acknowledged before stays valid and readable."""

import contextlib
import json
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anamnesis.contracts.crawler import CrawlRun
from anamnesis.contracts.ingest import IngestRun
from anamnesis.cutting import cut
from tests.anamnesis.transcripts.writing import Script
from tests.e2e.conftest import Stack, running
from tests.e2e.crawling import code, config_of, configure, exported, scan
from tests.e2e.reading import begin, contents, finish, status

SIZE = 32 << 20  # bytes
SESSIONS, TURNS = 10, 12
PADDING = 80_000
"""Characters of nothing in each answer: quick to embed, and large on disk."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


def occupy(file: Path, size: int = SIZE) -> None:
    """Make a file of that size, or of what there is room for."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as opened:
        for _ in range(size >> 12):
            opened.write(bytes(1 << 12))


def assert_whole(disk: Path) -> None:
    """The store's own check of its file finds nothing."""
    (file,) = disk.glob("*.db")
    with contextlib.closing(sqlite3.connect(file)) as store:
        assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_full_disk_is_told_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    """Writes end in 507 `storage_full`; reads go on and give what was acknowledged; with room, writes go on too."""
    extra = {"ANAMNESIS_DATA_DIR": str(small_disk)}
    offsets = "/api/state/offsets/laptop"
    with running(tmp_path / "logs", "memory", extra=extra) as stack, stack.client("memory") as client:
        assert client.put(offsets, json={"documents": {"file": {"offset": 7}}}).status_code == 200
        occupy(small_disk / "ballast", SIZE // 2)
        acknowledged, refusal = list[str](), None
        for number in range(400):
            body = {
                "episode_id": f"e{number}",
                "instance": "i",
                "project": "p",
                "summary": f"Note {number}",
                "raw_exchange": f"{number}" + " " * 400_000,  # large on disk, one window to embed
            }
            response = client.post("/api/episodes/batch", json={"episodes": [body]})
            if response.status_code != 200:
                refusal = response
                break
            acknowledged.append(f"e{number}")
        assert refusal is not None
        assert (refusal.status_code, refusal.json()["error"]["code"]) == (507, "storage_full")
        assert len(acknowledged) > 3
        for one in acknowledged:
            assert client.get(f"/api/episodes/{one}").status_code == 200

        occupy(small_disk / "more")
        known, answers = 7, list[int]()
        while 507 not in answers and len(answers) < 500:  # what the store has freed before may hold some
            documents = {"file": {"offset": known + 2}, f"pad{known}": {"pad": "x" * 100_000}}
            answers.append(client.put(offsets, json={"documents": documents}).status_code)
            known += 2 if answers[-1] == 200 else 0
            assert client.get(offsets).json()["documents"]["file"] == {"offset": known}
        assert set(answers) <= {200, 507}
        assert answers[-1] == 507

        (small_disk / "ballast").unlink()
        (small_disk / "more").unlink()
        assert client.post("/api/episodes", json={**body, "episode_id": "after", "summary": "after"}).status_code == 201
        assert client.put(offsets, json={"documents": {"file": {"offset": known + 2}}}).status_code == 200
        stack.kill("memory")
        stack.start("memory")
        assert client.get(offsets).json()["documents"]["file"] == {"offset": known + 2}
        with stack.client("memory") as again:
            kept = {one: again.get(f"/api/episodes/{one}").status_code for one in [*acknowledged, "after"]}
        assert set(kept.values()) == {200}
    assert_whole(small_disk)


def write(root: Path) -> None:
    for number in range(SESSIONS):
        script = Script(session=f"s{number}", prefix=f"{number:02d}")
        for turn in range(TURNS):
            asked = f"Why does the lamp of room {number}-{turn} flicker whenever the lift moves? What can we do?"
            script.exchange(asked, f"I moved lamp {number}-{turn} {' ' * PADDING} to a circuit of its own.")
        (root / f"s{number}.jsonl").write_bytes(script.data)


def ended(stack: Stack) -> IngestRun:
    """Begin a run and wait for its end, whatever that is."""
    begin(stack)
    deadline = time.monotonic() + 300
    while (seen := status(stack)).current or seen.last is None:
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    return seen.last


def test_reading_on_a_full_disk_goes_on_when_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    """A run that finds no room ends with a clear error and no mark ahead of the store; a later one brings the rest."""
    transcripts = tmp_path / "transcripts"
    transcripts.mkdir()
    write(transcripts)
    extra = {
        "ANAMNESIS_TRANSCRIPT_ROOTS": str(transcripts),
        "ANAMNESIS_INGEST_INSTANCE": "laptop",
        "ANAMNESIS_INGEST_POLL": "0",
        "ANAMNESIS_INGEST_MAX_RAW": "100000",
    }
    with running(tmp_path / "whole", "memory", "ingest", extra=extra) as stack:
        finish(stack)
        expected = contents(stack)
    assert len(expected[0]) == SESSIONS * TURNS

    extra["ANAMNESIS_DATA_DIR"] = str(small_disk)
    with running(tmp_path / "logs", "memory", "ingest", extra=extra) as stack:
        occupy(small_disk / "ballast", SIZE - (7 << 20))  # room for one batch of four megabytes, and not for two
        for _ in range(2):  # that it was tried in vain changes nothing
            run = ended(stack)
            assert run.state == "failed"
            assert "no room left" in (run.error or "")
            episodes, marks = contents(stack)
            assert 0 < len(episodes) < SESSIONS * TURNS
            kept = {one.source.uuid for one in episodes.values()}
            for mark in marks.values():
                assert isinstance(mark, dict)
                read = Path(mark["path"]).read_bytes()[: mark["offset"]]
                records = [json.loads(line) for line in read.splitlines()]
                assert {record["uuid"] for record in records if record["type"] == "user"} <= kept
        (small_disk / "ballast").unlink()
        finish(stack)
        assert contents(stack) == expected
    assert_whole(small_disk)


FILES, FUNCTIONS = 40, 10


def body(number: int) -> str:
    """Functions that are cut one by one."""
    return "\n\n".join(
        f"def lamp_{number}_{one}(volts: float) -> float:\n"
        + "".join(f"    step_{row} = volts * {row + number * one} / {one + 1}\n" for row in range(24))
        for one in range(FUNCTIONS)
    )


def test_a_crawl_on_a_full_disk_goes_on_when_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    """A scan that finds no room says so, whatever it has kept stays, and a later one brings the rest, once."""
    root = tmp_path / "lamps"
    root.mkdir()
    for number in range(FILES):
        (root / f"lamp_{number}.py").write_text(body(number))
    wanted = sorted(piece.text for number in range(FILES) for piece in cut(body(number), "lamp.py"))
    extra = {
        "ANAMNESIS_SOURCES": str(root),
        "ANAMNESIS_INGEST_POLL": "0",
        "ANAMNESIS_EMBEDDING_CPU_PERCENT": "100",
        "ANAMNESIS_DATA_DIR": str(small_disk),
    }
    with running(tmp_path / "logs", extra=extra) as stack:
        occupy(small_disk / "ballast", SIZE - (2 << 20))
        configure(stack, config_of(root, code()))
        run = scan(stack, within=300).last
        assert run is not None
        assert_no_room(run)
        before = {one.episode_id for one in exported(stack)}
        assert len(before) < len(wanted)
        (small_disk / "ballast").unlink()
        run = scan(stack, within=300).last
        assert run is not None
        assert run.state == "done", run
        found = exported(stack)
        assert before <= {one.episode_id for one in found}
        assert sorted(one.raw_exchange or "" for one in found) == wanted
    assert_whole(small_disk)


def assert_no_room(run: CrawlRun) -> None:
    assert run.state == "failed"
    assert "no room left" in (run.error or "")
