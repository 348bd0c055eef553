"""What hooks noted while nobody answered: read by the next `anamnesis ingest`, and gone only when that ended well."""

import fcntl
import json
from pathlib import Path

from .conftest import Command, Memory, write_transcripts


def note(anamnesis: Command, *paths: Path | str, name: str = "abc.00") -> Path:
    folder = anamnesis.home / "state" / "anamnesis" / "spool"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({"paths": [str(path) for path in paths]}))
    return folder


def wishes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "lock")


async def test_what_was_noted_is_read(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """Beside what was asked for; what is not there any more is let go."""
    asked = write_transcripts(tmp_path / "asked", sessions=1, exchanges=2, word="asked")
    noted = write_transcripts(tmp_path / "noted", sessions=2, exchanges=2, word="noted")
    _, transcript = sorted(noted.rglob("*.jsonl"))
    folder = note(anamnesis, transcript, "/gone.jsonl")
    done = await anamnesis("ingest", str(asked))
    assert done.status == 0, done.err
    said = " ".join(one.summary for one in memory.episodes.values())
    assert "asked test" in said
    assert "noted test" in said
    assert wishes(folder) == []


async def test_what_could_not_be_read_stays_noted(anamnesis: Command, tmp_path: Path) -> None:
    """Nobody answers: the wish is there for the next time."""
    noted = write_transcripts(tmp_path / "noted", sessions=1, exchanges=1)
    folder = note(anamnesis, noted)
    assert (await anamnesis("ingest", str(noted), ANAMNESIS_URL="http://127.0.0.1:9")).status == 1
    assert wishes(folder) == ["abc.00"]


async def test_a_wish_of_everything_reads_the_usual_places(anamnesis: Command, memory: Memory, tmp_path: Path) -> None:
    """Also where a path was asked for, and where the wish itself cannot be read."""
    write_transcripts(anamnesis.home / ".claude", sessions=1, exchanges=2, word="usual")
    asked = write_transcripts(tmp_path / "asked", sessions=1, exchanges=1)
    folder = note(anamnesis, name="everything.03")
    (folder / "broken.00").write_text('{"pa')
    done = await anamnesis("ingest", str(asked))
    assert done.status == 0, done.err
    assert any("usual test" in one.summary for one in memory.episodes.values())
    assert wishes(folder) == []


async def test_it_keeps_off_while_a_hook_has_it_read(anamnesis: Command, tmp_path: Path) -> None:
    """Whoever holds the lock has taken the wishes; so does a hook's own call, which is quiet."""
    noted = write_transcripts(tmp_path / "noted", sessions=1, exchanges=1)
    folder = note(anamnesis, noted)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert (await anamnesis("ingest", str(noted))).status == 0
        assert wishes(folder) == ["abc.00"]
    done = await anamnesis("ingest", "--quiet", str(noted))
    assert (done.status, done.out, done.err) == (0, "", "")
    assert wishes(folder) == ["abc.00"]
