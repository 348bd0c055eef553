"""One file, read step by step while it changes."""

import shutil
from pathlib import Path

import pytest

from anamnesis.transcripts.episodes import Maker
from anamnesis.transcripts.files import Found, walk
from anamnesis.transcripts.marks import Ledger, Mark
from anamnesis.transcripts.projects import Projects
from anamnesis.transcripts.reading import Step, read_file
from tests.anamnesis.transcripts.writing import Script

LONG = "What do we do about the flaky upload test that fails every other night?"
TURNS = 120
"""More than two steps of them."""


def found(path: Path) -> Found:
    (one,) = (each for each in walk((path.parent,)).files if each.path == str(path.resolve()))
    return one


def read(path: Path, mark: Mark | None, ledger: Ledger) -> list[Step]:
    return list(read_file(found(path), mark, ledger, Maker(Projects(look=False)), "laptop"))


def uuids(steps: list[Step]) -> list[str | None]:
    return [one.source.uuid for step in steps for one in step.episodes if one.source]


@pytest.mark.parametrize("same", [0, 40])
@pytest.mark.parametrize("padding", [0, 20_000])
def test_a_file_that_is_replaced_while_it_is_read_is_read_again(tmp_path: Path, padding: int, same: int) -> None:
    """Copied away, emptied and written again between two steps: nothing of either is lost, and nothing is mixed.

    With padding the file is read in many blocks, else in one; the new one may begin as the old one did.
    """
    path = tmp_path / "s.jsonl"
    old, new = Script(prefix="a"), Script(prefix="b")
    for turn in range(TURNS):
        old.exchange(f"{LONG} {turn} {'x' * padding}", "It waits.")
    new.records += old.records[:same]
    for turn in range(TURNS * 2):
        new.exchange(f"{LONG} anew {turn} {'x' * padding}", "It does not wait.")
    path.write_bytes(old.data)
    ledger = Ledger(())
    steps = read_file(found(path), None, ledger, Maker(Projects(look=False)), "laptop")
    first = next(steps)
    shutil.copy(path, tmp_path / "s.1.jsonl")
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(new.data)
    rest = list(steps)
    assert [(step.error, step.mark) for step in rest] == [("replaced-while-read", None)]
    assert not {str(uuid) for uuid in uuids(rest)} - {str(record["uuid"]) for record in old.records}
    assert all("It does not" not in (one.raw_exchange or "") for step in rest for one in step.episodes)
    again = read(path, first.mark, ledger)
    assert (again[-1].error, again[-1].last) == ("", True)
    assert uuids(again) == [record["uuid"] for record in new.records[same::2]]
    copy = read(tmp_path / "s.1.jsonl", None, ledger)
    assert set(uuids([first, *rest, *copy])) == {record["uuid"] for record in old.records[::2]}


def test_a_file_that_only_grows_while_it_is_read_is_not_replaced(tmp_path: Path) -> None:
    """What is appended meanwhile is left for the next look."""
    path = tmp_path / "s.jsonl"
    script = Script()
    for turn in range(TURNS):
        script.exchange(f"{LONG} {turn}", "It waits.")
    path.write_bytes(script.data)
    ledger = Ledger(())
    steps = read_file(found(path), None, ledger, Maker(Projects(look=False)), "laptop")
    first = next(steps)
    script.exchange(f"{LONG} later", "It waits.")
    path.write_bytes(script.data)
    rest = [first, *steps]
    assert [step.error for step in rest] == ["", "", ""]
    assert uuids([*rest, *read(path, rest[-1].mark, ledger)]) == [record["uuid"] for record in script.records[::2]]
