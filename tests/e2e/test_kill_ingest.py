"""kill -9 of ingest and of memory while transcripts are read: the store ends as after one undisturbed reading."""

import random
import time
from pathlib import Path

import pytest

from tests.anamnesis.transcripts.writing import Script
from tests.e2e.conftest import Stack, running
from tests.e2e.reading import begin, contents, finish, status, stored

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SEED = 20_260_303
FILES, EXCHANGES = 40, 50
TOTAL = FILES * EXCHANGES
"""Twenty batches. After a kill those that memory had taken may still be stored: two, beside the one waited for."""
KILLS = 5
LEAST = 3
"""Kills that find a run with work left, however fast the machine is: they can use up twelve batches."""


def write(root: Path) -> None:
    for number in range(FILES):
        script = Script(session=f"s{number}", prefix=f"{number:02d}")
        for turn in range(EXCHANGES):
            script.exchange(
                f"Why does lamp {number}-{turn} flicker?", f"Lamp {number}-{turn} shares the lift's circuit."
            )
        (root / f"s{number}.jsonl").write_bytes(script.data)


def wait_for_more(stack: Stack, than: int) -> None:
    """Until memory holds more episodes, or all; whoever waits sees to it that something is read."""
    deadline = time.monotonic() + 300
    while stored(stack) <= min(than, TOTAL - 1):
        assert time.monotonic() < deadline, status(stack)
        begin(stack)
        time.sleep(0.02)


def test_the_store_ends_as_after_one_whole_reading(tmp_path: Path) -> None:
    """However often either service is killed while it works, nothing is lost, doubled or different at the end."""
    chance = random.Random(SEED)
    transcripts = tmp_path / "transcripts"
    transcripts.mkdir()
    write(transcripts)
    extra = {
        "ANAMNESIS_TRANSCRIPT_ROOTS": str(transcripts),
        "ANAMNESIS_INGEST_INSTANCE": "laptop",
        "ANAMNESIS_INGEST_POLL": "0",
        "ANAMNESIS_INGEST_MIN_SAID": "1",
        "ANAMNESIS_EMBEDDING_CPU_PERCENT": "100",
    }
    with running(tmp_path / "whole", "memory", "ingest", extra=extra) as stack:
        finish(stack)
        expected = contents(stack)
    assert len(expected[0]) == TOTAL

    interrupted = 0
    with running(tmp_path / "killed", "memory", "ingest", extra=extra) as stack:
        for _ in range(KILLS):
            asked = time.monotonic()
            wait_for_more(stack, than=stored(stack))
            time.sleep(chance.random() * min(1.0, time.monotonic() - asked))
            under_way = status(stack).current is not None
            victim = chance.choice(("memory", "ingest"))
            stack.kill(victim)
            stack.start(victim)
            interrupted += under_way and stored(stack) < TOTAL
        finish(stack)
        assert contents(stack) == expected
        assert interrupted >= LEAST
        with stack.client("memory") as client:
            assert client.get("/api/episodes/stats").json()["without_vectors"] == 0
        finish(stack)
        last = status(stack).last
        assert last is not None
        assert last.files_changed == 0
