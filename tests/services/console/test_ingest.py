"""`anamnesis ingest`: what it reads and sends, what it says, and that a Ctrl-C loses nothing."""

import asyncio
import json
import signal
from pathlib import Path

from .conftest import Command, Memory, write_transcripts


async def test_transcripts_become_episodes_once(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """A first run creates an episode an exchange and says so; a second run reads nothing."""
    projects = write_transcripts(tmp_path, sessions=3, exchanges=4)
    first = await anamnesis("ingest", str(projects))
    assert first.status == 0, first.err
    assert "new episodes\t12\n" in first.out
    assert "12\tworth remembering\n" in first.out
    assert len(memory.episodes) == 12
    second = await anamnesis("ingest", str(projects), "--json")
    assert json.loads(second.out) | {"seconds": 0} == {
        "files": 3,
        "files_changed": 0,
        "bytes": 0,
        "created": 0,
        "updated": 0,
        "duplicates": 0,
        "blocked": 0,
        "refused": 0,
        "refusals": {},
        "redactions": {},
        "decisions": {},
        "unreadable_lines": 0,
        "repeated_lines": 0,
        "errors": {},
        "examples": {},
        "seconds": 0,
    }


async def test_secrets_do_not_leave_this_machine(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """A key in a transcript is redacted before it is sent, and counted."""
    secret = "sk-ant-api03-" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7" * 3 + "-AAAAAA"
    projects = write_transcripts(tmp_path, sessions=1, exchanges=1, word=f"upload with {secret}")
    done = await anamnesis("ingest", str(projects))
    assert "redacted secrets\t0" not in done.out
    assert "redacted secrets" in done.out
    (episode,) = memory.episodes.values()
    assert secret not in episode.model_dump_json()


async def test_ctrl_c_loses_nothing(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """An interrupted run says how to go on and shows no traceback; the next run sends what was left, nothing twice."""
    projects = write_transcripts(tmp_path, sessions=200, exchanges=10)
    memory.delay = 1.0  # ten seconds for the whole; the interruption comes long before
    process = await anamnesis.start("ingest", str(projects))
    await asyncio.wait_for(memory.second_batch.wait(), 100)
    stopped = await anamnesis.finish(process, signal.SIGINT)
    assert stopped.status == 130
    assert "Stopping, waiting for" in stopped.err
    assert stopped.err.index("Stopping, waiting for") < stopped.err.index("the same command goes on")
    assert "Traceback" not in stopped.err
    before = len(memory.episodes)
    assert 0 < before < 2000
    memory.delay = 0.0
    again = await anamnesis("ingest", str(projects), "--json")
    counts = json.loads(again.out)
    assert len(memory.episodes) == 2000
    assert counts["created"] == 2000 - before
    assert counts["duplicates"] == 0


async def test_what_is_left_out_is_counted_and_can_be_kept(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """Exchanges that are not worth it are left out with their number; --everything keeps them; --exclude leaves out."""
    folder = tmp_path / "projects" / "-srv-shop"
    folder.mkdir(parents=True)
    common = {"sessionId": "s", "timestamp": "2026-10-01T10:00:00Z", "cwd": "/srv/shop"}
    asked = {"type": "user", "uuid": "u1", "message": {"role": "user", "content": "ok"}}
    said = {"type": "assistant", "uuid": "a1", "parentUuid": "u1", "message": {"role": "assistant", "content": "Fine."}}
    (folder / "s.jsonl").write_text("".join(json.dumps({**common, **record}) + "\n" for record in (asked, said)))
    done = await anamnesis("ingest", str(tmp_path / "projects"))
    assert "0\tworth remembering\n1\tleft out: nothing but 'ok', 'thanks' and the like\n" in done.out
    assert memory.episodes == {}
    assert "--everything reads all again and keeps what was left out" in done.err
    await anamnesis("ingest", str(tmp_path / "projects"), "--everything", "--exclude", "sh*")
    assert memory.episodes == {}
    await anamnesis("ingest", str(tmp_path / "projects"), "--everything")
    assert len(memory.episodes) == 1


async def test_what_memory_refuses_is_named(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """The command ends with status 1 and says which episodes were refused, and why; the others are kept."""
    projects = write_transcripts(tmp_path, sessions=3, exchanges=4)
    memory.refused = "test number 2 of session 1"
    done = await anamnesis("ingest", str(projects))
    assert done.status == 1
    assert "refused episodes\t1\n" in done.out
    assert "anamnesis: memory would not take 1 episodes: ep_20261002_cc_" in done.err
    assert done.err.endswith(" (invalid)\n")
    assert len(memory.episodes) == 11


async def test_without_a_path_the_usual_places_are_read(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """Transcripts are found where Claude Code keeps them, or where its own variable says; else that is said."""
    none = await anamnesis("ingest")
    assert none.status == 1
    assert f"there are no transcripts at {anamnesis.home / '.claude' / 'projects'} or " in none.err
    write_transcripts(anamnesis.home / ".claude", sessions=1, exchanges=2)
    assert (await anamnesis("ingest")).status == 0
    assert len(memory.episodes) == 2
    write_transcripts(tmp_path / "other", sessions=3, exchanges=2)
    done = await anamnesis("ingest", CLAUDE_CONFIG_DIR=f"{tmp_path / 'nowhere'},{tmp_path / 'other'}")
    assert done.status == 0, done.err
    assert len(memory.episodes) == 6


async def test_a_path_that_is_not_there_is_named(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """A wrong path is one clear line and status 1, and nothing is sent."""
    done = await anamnesis("ingest", str(tmp_path / "nowhere"))
    assert done.status == 1
    assert done.err == f"anamnesis: there is nothing at {tmp_path / 'nowhere'}\n"
    assert memory.batches == 0
