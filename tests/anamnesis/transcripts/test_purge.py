"""What is about to be deleted is read first, whatever its root and whoever wrote it."""

import json
import os
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from anamnesis.contracts.episodes import BatchResult, EpisodeBatch
from anamnesis.transcripts.episodes import Maker
from anamnesis.transcripts.files import Found, walk
from anamnesis.transcripts.projects import Projects
from anamnesis.transcripts.purge import PURGE_DAYS, SOON, urgent_first
from anamnesis.transcripts.sync import Sync
from tests.anamnesis.transcripts.destination import Memory
from tests.anamnesis.transcripts.writing import Script

DAY = 86_400.0
NOW = 1_800_000_000.0


def write(root: Path, place: str, age: float, now: float = NOW) -> Path:
    """A transcript of 150 exchanges, more than a batch, that was last written to so many days ago."""
    path = root / "-home-me-shop" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    script = Script(session=place.replace("/", "-"), prefix=path.stem)
    side = "subagents" in place
    for turn in range(150):
        script.user(f"What do we do about the flaky upload test of {place}, number {turn}?", isSidechain=side)
        script.says("It now waits for it.", isSidechain=side)
    path.write_bytes(script.data)
    os.utime(path, (now - age * DAY, now - age * DAY))
    return path


def order(files: list[Found], now: float = NOW) -> list[str]:
    return [Path(file.path).stem for file in urgent_first(files, now)]


def test_the_urgent_ones_come_first_across_roots_and_with_subagents(tmp_path: Path) -> None:
    """Days left count, by the period of each root; a subagent's file about to go comes before any young session."""
    short, long = tmp_path / "a" / "projects", tmp_path / "b" / "projects"
    write(short, "fresh.jsonl", 5.0)
    write(short, "soon.jsonl", 28.0)
    write(short, "fresh/subagents/agent-old.jsonl", 27.0)
    write(short, "fresh/subagents/agent-young.jsonl", 4.0)
    write(long, "old-and-safe.jsonl", 60.0)
    write(long, "sooner.jsonl", 89.0)
    (long.parent / "settings.json").write_text(json.dumps({"cleanupPeriodDays": 90}))
    files = walk((short, long)).files
    # `fresh` is taken along: what its old subagent repeats of it must not come before it.
    assert order(files) == ["sooner", "soon", "fresh", "agent-old", "old-and-safe", "agent-young"]


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 60.0)), max_size=20))
def test_nothing_is_lost_and_what_can_wait_stays_in_order(files: list[tuple[bool, float]]) -> None:
    """The result is a rearrangement; every urgent file stands before all that can wait, which keep their order."""
    given_files = [
        Found(
            f"/r/p/s{number}/subagents/agent-{number}.jsonl" if agent else f"/r/p/s{number}.jsonl",
            "/r", 1, number, 1, int((NOW - age * DAY) * 1e9), str(number) if agent else "",
        )
        for number, (agent, age) in enumerate(files)
    ]  # fmt: skip
    sorted_files = urgent_first(given_files, NOW)
    assert sorted(sorted_files) == sorted(given_files)
    urgent = {file for file in given_files if PURGE_DAYS - (NOW - file.mtime_ns / 1e9) / DAY < SOON}
    assert set(sorted_files[: len(urgent)]) == urgent
    assert sorted_files[len(urgent) :] == [file for file in given_files if file not in urgent]


async def test_a_run_reads_what_will_be_deleted_first(tmp_path: Path) -> None:
    """When memory goes away in the middle, what was about to be deleted has been brought to safety."""
    now = time.time()
    root = tmp_path / "projects"
    for number in range(5):
        write(root, f"young{number}.jsonl", 10.0 + number, now)
    write(root, "young0/subagents/agent-old.jsonl", 29.0, now)
    first: list[str] = []

    class Watched(Memory):
        async def push(self, batch: EpisodeBatch) -> BatchResult:
            first.extend(str(one.source.path) for one in batch.episodes if one.source and one.source.path)
            return await super().push(batch)

    await Sync(Watched(), Maker(Projects(look=False)), [root], "laptop", lambda _: None).run()
    names = list(dict.fromkeys(Path(path).stem for path in first))
    assert names[:2] == ["young0", "agent-old"]
    assert set(names[2:]) == {"young1", "young2", "young3", "young4"}
