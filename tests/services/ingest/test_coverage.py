"""Transcripts on disk against their marks, and the alarm before they are deleted."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.ingest import TranscriptFiles
from anamnesis.contracts.insight import Coverage
from anamnesis.transcripts.marks import key
from anamnesis.transcripts.purge import PURGE_DAYS, purge_days
from services.ingest.coverage import CoverageReport, covered, listed, look
from tests.anamnesis.transcripts.destination import Memory
from tests.services.ingest.conftest import MemoryPeer, serving, settings_for
from tests.services.ingest.test_app import client, finished, transcript

NOW = 1_800_000_000.0
DAY = 86_400.0


def write(root: Path, name: str, size: int, age: float = 1.0) -> Path:
    """A transcript of so many bytes that was last written to so many days ago."""
    path = root / "-home-me-shop" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (NOW - age * DAY, NOW - age * DAY))
    return path


def mark(path: Path, read: int | None = None, size: int | None = None) -> dict[str, JsonObject]:
    """The part of a mark that says how far a file was read; to its end unless told otherwise."""
    status = path.stat()
    whole = read is None
    return {
        key(os.path.realpath(path)): {
            "size": status.st_size if size is None else size,
            "mtime_ns": str(status.st_mtime_ns if whole else status.st_mtime_ns - 1),
            "read": status.st_size if read is None else read,
        }
    }


def test_files_are_read_behind_or_unread(tmp_path: Path) -> None:
    """Each file counts once, and the bytes that are left add up."""
    whole, part, none = write(tmp_path, "a", 100), write(tmp_path, "b", 200), write(tmp_path, "c", 400)
    write(tmp_path, "empty", 0)
    marks = {**mark(whole), **mark(part, read=150), **mark(none, read=0)}
    told = covered(look((tmp_path,), [marks], NOW))
    assert (told.files, told.read, told.behind, told.unread, told.bytes_unread) == (4, 2, 1, 1, 450)
    assert (told.at_risk, told.purge_days) == ((), PURGE_DAYS)


def test_a_file_that_is_shorter_than_what_was_read_is_another_one(tmp_path: Path) -> None:
    """All of it is unread then."""
    path = write(tmp_path, "a", 100)
    told = covered(look((tmp_path,), [mark(path, read=150, size=150)], NOW))
    assert (told.unread, told.bytes_unread) == (1, 100)


def test_an_incomplete_last_line_is_not_behind(tmp_path: Path) -> None:
    """A file that has not changed since it was read to its end is read, though its last line was left out."""
    path = write(tmp_path, "a", 100)
    [(name, document)] = mark(path).items()
    assert covered(look((tmp_path,), [{name: {**document, "read": 90}}], NOW)).read == 1


def test_what_another_reader_has_read_is_read(tmp_path: Path) -> None:
    """Of several marks of a file the furthest counts, and one that is broken counts as none."""
    path = write(tmp_path, "a", 100)
    for marks in ([mark(path), {}], [{}, mark(path)], [mark(path, read=1), mark(path)]):
        assert covered(look((tmp_path,), marks, NOW)).read == 1
    assert covered(look((tmp_path,), [{next(iter(mark(path))): {"size": "?"}}], NOW)).unread == 1


def test_the_most_urgent_come_first(tmp_path: Path) -> None:
    """At risk is what holds something unread and has less than a week left; what is read is not."""
    write(tmp_path, "fresh", 10, age=22.9)
    for name, age in (("soon", 25.0), ("sooner", 29.0), ("late", 40.0)):
        write(tmp_path, name, 10, age=age)
    told = covered(look((tmp_path,), [mark(write(tmp_path, "done", 10, age=29.5))], NOW))
    names = [Path(one.path).stem for one in told.at_risk]
    assert names == ["late", "sooner", "soon"]
    assert [one.days_left for one in told.at_risk] == [0.0, 1.0, 5.0]
    assert told.at_risk_total == 3


def test_the_list_of_those_at_risk_is_bounded(tmp_path: Path) -> None:
    """Fifty are named, all are counted."""
    for number in range(60):
        write(tmp_path, f"t{number}", 10, age=24 + number / 100)
    told = covered(look((tmp_path,), [], NOW))
    assert (len(told.at_risk), told.at_risk_total) == (50, 60)
    assert told.at_risk[0].path.endswith("t59.jsonl")


def test_no_roots_have_no_files() -> None:
    """Where nothing is to be read, nothing is missing."""
    assert covered(look((), [], NOW)) == Coverage(
        files=0, read=0, behind=0, unread=0, bytes_unread=0, purge_days=PURGE_DAYS
    )


@pytest.mark.parametrize(
    ("settings", "days"),
    [
        ('{"cleanupPeriodDays": 90}', 90.0),
        ('{"cleanupPeriodDays": 2.5}', 2.5),
        ('{"cleanupPeriodDays": 1e300}', 36_500.0),
        ('{"cleanupPeriodDays": 0}', PURGE_DAYS),
        ('{"cleanupPeriodDays": -1}', PURGE_DAYS),
        ('{"cleanupPeriodDays": true}', PURGE_DAYS),
        ('{"cleanupPeriodDays": "90"}', PURGE_DAYS),
        ("[]", PURGE_DAYS),
        ("{", PURGE_DAYS),
        (None, PURGE_DAYS),
    ],
)
def test_the_period_is_what_the_settings_beside_say(tmp_path: Path, settings: str | None, days: float) -> None:
    """`cleanupPeriodDays` of the settings beside `projects`; 30 where it is not there or makes no sense."""
    projects = tmp_path / "projects"
    write(projects, "a", 10, age=29.0)
    if settings is not None:
        (tmp_path / "settings.json").write_text(settings)
    assert purge_days(str(projects)) == days
    for root in (projects, tmp_path):  # the configuration directory stands for its projects
        told = covered(look((root,), [], NOW))
        assert told.purge_days == days
        assert bool(told.at_risk) == (days < 36)


def test_settings_that_are_no_file_do_not_hang(tmp_path: Path) -> None:
    """A pipe in the place of the settings is passed over."""
    os.mkfifo(tmp_path / "settings.json")
    assert purge_days(str(tmp_path / "projects")) == PURGE_DAYS


def test_settings_elsewhere_are_not_looked_at(tmp_path: Path) -> None:
    """Only a directory called `projects` has Claude Code's settings beside it."""
    (tmp_path / "settings.json").write_text(json.dumps({"cleanupPeriodDays": 1}))
    assert purge_days(str(tmp_path / "transcripts")) == PURGE_DAYS


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 60), st.booleans()), max_size=6))
def test_every_file_is_counted_once(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[int, int, bool]]
) -> None:
    """Read, behind and unread add up to all files, and no more bytes are unread than there are."""
    root = tmp_path_factory.mktemp("many")
    marks: dict[str, JsonObject] = {}
    for number, (size, read, marked) in enumerate(files):
        path = write(root, str(number), size)
        if marked:
            marks |= mark(path, read=read)
    told = covered(look((root,), [marks], NOW))
    assert told.files == len(files) == told.read + told.behind + told.unread
    assert 0 <= told.bytes_unread <= sum(size for size, _, _ in files)


async def test_those_who_ask_together_share_one_look(tmp_path: Path) -> None:
    """Within its life an answer is given again; afterwards the disk is looked at anew."""
    memory, loads = Memory(), []

    class Counting(Memory):
        async def load_offsets(self) -> dict[str, JsonObject]:
            loads.append(1)
            return dict(memory.marks)

    report = CoverageReport([tmp_path], [Counting()], fresh=3600.0)
    write(tmp_path, "a", 10)
    told = await asyncio.gather(*(report.get() for _ in range(5)))
    assert [one.files for one in told] == [1] * 5
    assert len(loads) == 1
    always = CoverageReport([tmp_path], [Counting()], fresh=0.0)
    assert (await always.get()).files == 1
    write(tmp_path, "b", 10)
    assert (await always.get()).files == 2


async def test_coverage_over_http(peer: MemoryPeer, tmp_path: Path) -> None:
    """Before a run everything is unread, after it everything is read; no key, no answer."""
    transcript(tmp_path)
    for read in (False, True):
        async with serving(settings_for(peer, tmp_path)) as url, client(url) as http:
            if read:
                await http.post("/api/jsonl/ingest")
                await finished(http)
            told = Coverage.model_validate_json((await http.get("/api/jsonl/coverage")).content)
            assert (told.files, told.read, told.unread) == (1, int(read), int(not read))
            assert (told.bytes_unread == 0) == read
            async with client(url, None) as stranger:
                assert (await stranger.get("/api/jsonl/coverage")).status_code == 401


async def test_a_memory_that_is_away_is_an_error(peer: MemoryPeer, tmp_path: Path) -> None:
    """Without marks nothing is claimed: the answer says that memory is away, within seconds."""
    transcript(tmp_path)
    async with serving(settings_for(peer, tmp_path)) as url, client(url) as http:
        await http.get("/api/jsonl/status")  # the key is known from here on
        await peer.stop()
        answer = await http.get("/api/jsonl/coverage")
        assert answer.status_code == 503


def test_files_are_listed_by_urgency_then_by_age(tmp_path: Path) -> None:
    """What is not read comes first, the next to be deleted at the top; then what is read, the newest first."""
    old, new = write(tmp_path, "read-old", 10, age=28.0), write(tmp_path, "read-new", 10, age=2.0)
    part = write(tmp_path, "behind", 10, age=20.0)
    write(tmp_path, "late", 10, age=40.0)
    (tmp_path / "loose.jsonl").write_bytes(b"x")
    os.utime(tmp_path / "loose.jsonl", (NOW, NOW))
    looks = look((tmp_path,), [{**mark(old), **mark(new), **mark(part, read=4)}], NOW)
    told = listed(looks, None, 0, 10)
    assert [Path(one.path).stem for one in told.files] == ["late", "behind", "loose", "read-new", "read-old"]
    assert [one.state for one in told.files] == ["unread", "behind", "unread", "read", "read"]
    assert [one.days_left for one in told.files] == [0.0, 10.0, 30.0, 28.0, 2.0]
    assert [one.bytes_read for one in told.files] == [0, 4, 0, 10, 10]
    assert [one.project for one in told.files] == [
        "-home-me-shop",
        "-home-me-shop",
        None,
        "-home-me-shop",
        "-home-me-shop",
    ]
    page = listed(looks, "unread", 1, 1)
    assert ([Path(one.path).stem for one in page.files], page.total) == (["loose"], 2)
    assert listed(looks, "read", 5, 10).files == ()


@pytest.mark.parametrize("query", ["state=lost", "skip=-1", "limit=0", "limit=1001", "skip=99999999999"])
async def test_a_page_that_cannot_be_is_refused(peer: MemoryPeer, tmp_path: Path, query: str) -> None:
    """States and bounds outside what there is are 422."""
    async with serving(settings_for(peer, tmp_path)) as url, client(url) as http:
        assert (await http.get(f"/api/jsonl/files?{query}")).status_code == 422


async def test_files_over_http(peer: MemoryPeer, tmp_path: Path) -> None:
    """Each transcript with how far it was read, before and after a run."""
    transcript(tmp_path)
    for state in ("unread", "read"):
        async with serving(settings_for(peer, tmp_path)) as url, client(url) as http:
            if state == "read":
                await http.post("/api/jsonl/ingest")
                await finished(http)
            told = TranscriptFiles.model_validate_json((await http.get("/api/jsonl/files")).content)
            assert ([one.state for one in told.files], told.total) == ([state], 1)
            other = "read" if state == "unread" else "unread"
            assert (await http.get(f"/api/jsonl/files?state={other}")).json() == {"files": [], "total": 0}
