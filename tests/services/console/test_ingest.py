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
        "redactions": {},
        "decisions": {},
        "unreadable_lines": 0,
        "errors": {},
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
    projects = write_transcripts(tmp_path, sessions=40, exchanges=10)
    memory.delay = 0.4
    process = await anamnesis.start("ingest", str(projects))
    await asyncio.wait_for(memory.second_batch.wait(), 30)
    stopped = await anamnesis.finish(process, signal.SIGINT)
    assert stopped.status == 130
    assert "the same command goes on" in stopped.err
    assert "Traceback" not in stopped.err
    before = len(memory.episodes)
    assert 0 < before < 400
    memory.delay = 0.0
    again = await anamnesis("ingest", str(projects), "--json")
    counts = json.loads(again.out)
    assert len(memory.episodes) == 400
    assert counts["created"] == 400 - before
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
    await anamnesis("ingest", str(tmp_path / "projects"), "--everything", "--anew", "--exclude", "sh*")
    assert memory.episodes == {}
    await anamnesis("ingest", str(tmp_path / "projects"), "--everything", "--anew")
    assert len(memory.episodes) == 1


async def test_a_path_that_is_not_there_is_named(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """A wrong path is one clear line and status 1, and nothing is sent."""
    done = await anamnesis("ingest", str(tmp_path / "nowhere"))
    assert done.status == 1
    assert done.err == f"anamnesis: there is nothing at {tmp_path / 'nowhere'}\n"
    assert memory.batches == 0
