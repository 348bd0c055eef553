"""Reading in pieces, with failures and repetitions, ends where reading whole would."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from anamnesis.contracts.episodes import EpisodeCreate
from anamnesis.kit.errors import Unavailable
from anamnesis.transcripts.episodes import Maker
from anamnesis.transcripts.projects import Projects
from anamnesis.transcripts.significance import Rules
from anamnesis.transcripts.sync import Sync
from tests.anamnesis.transcripts.destination import Memory
from tests.anamnesis.transcripts.writing import Line, Script, encoded

EVERYTHING = Maker(Projects(look=False), Rules(min_said=0, min_unanswered=0, nods=False, commands=False))


def sync(memory: Memory, root: Path) -> Sync:
    return Sync(memory, EVERYTHING, [root], "laptop", lambda progress: None)


def whole(root: Path) -> dict[str, EpisodeCreate]:
    """What reading everything at once into a fresh memory gives."""
    memory = Memory()
    asyncio.run(sync(memory, root).run())
    return memory.episodes


class Model:
    """What should be remembered, kept as simply as it can be said."""

    def __init__(self) -> None:
        self.exchanges: dict[str, list[str]] = {}
        self.main = ""
        self.agents: dict[str, str] = {}

    def turn(self, uuid: str, text: str) -> None:
        self.main = uuid
        self.agents = {}
        self.exchanges[uuid] = [text]

    def answer(self, uuid: str, text: str) -> None:
        if not self.main:
            self.main = uuid
            self.exchanges[uuid] = []
        self.exchanges[self.main].append(text)

    def sidechain(self, agent: str, uuid: str, text: str) -> None:
        first = self.agents.setdefault(agent, uuid)
        self.exchanges.setdefault(first, []).append(text)


class Growing(RuleBasedStateMachine):
    """A transcript that grows in every way it can, read again and again by a reader that fails."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="transcripts-"))
        self.path = self.directory / "shop" / "session.jsonl"
        self.path.parent.mkdir()
        self.script = Script()
        self.model = Model()
        self.memory = Memory()
        self.sync = sync(self.memory, self.directory)
        self.pending = b""
        self.path.write_bytes(b"")

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            shutil.rmtree(self.directory)

    def _write(self, record: Line | bytes) -> None:
        self.pending += record if isinstance(record, bytes) else encoded(record)

    @rule(text=st.sampled_from(["fix it", "warum é 🎉 ok?", "中文的问题"]))
    def turn(self, text: str) -> None:
        record = self.script.user(f"{text} {self.script.count}")
        self.model.turn(str(record["uuid"]), f"{text} {self.script.count - 1}")
        self._write(record)

    @rule(text=st.sampled_from(["done", "größer 🚀"]))
    def answer(self, text: str) -> None:
        record = self.script.says(f"{text} {self.script.count}")
        self.model.answer(str(record["uuid"]), f"{text} {self.script.count - 1}")
        self._write(record)

    @rule(agent=st.sampled_from(["a1", "b2"]))
    def subagent(self, agent: str) -> None:
        main = self.script.last
        record = self.script.says(f"side {self.script.count}", isSidechain=True, agentId=agent)
        self.model.sidechain(agent, str(record["uuid"]), f"side {self.script.count - 1}")
        self.script.last = main
        self._write(record)

    @rule()
    def noise(self) -> None:
        self._write(self.script.user("<system-reminder>x</system-reminder>", isMeta=True))
        self._write(self.script.add("system", None, subtype="turn_duration"))

    @rule(junk=st.sampled_from([b"\n", b"{torn\n", b"\xff\xfe\n", b"42\n", b'{"type":"summary","summary":"s"}\n']))
    def junk(self, junk: bytes) -> None:
        self._write(junk)

    @rule(pick=st.integers(0, 10_000), count=st.integers(1, 4))
    def deliver_again(self, pick: int, count: int) -> None:
        if self.script.records:
            start = pick % len(self.script.records)
            for record in self.script.records[start : start + count]:
                self._write(record)

    @rule(size=st.integers(0, 4000))
    def append_some_bytes(self, size: int) -> None:
        """The writer gets a part of its bytes out, wherever that ends."""
        with self.path.open("ab") as file:
            file.write(self.pending[:size])
        self.pending = self.pending[size:]

    @rule()
    def read(self) -> None:
        asyncio.run(self.sync.run())

    @rule(fault=st.sampled_from(["fail_push", "lose_answer", "fail_save"]))
    def read_and_fail(self, fault: str) -> None:
        setattr(self.memory, fault, 1)
        with contextlib.suppress(Unavailable):
            asyncio.run(self.sync.run())
        setattr(self.memory, fault, 0)

    @rule()
    def restart_the_reader(self) -> None:
        self.sync = sync(self.memory, self.directory)

    @rule()
    def rotate(self) -> None:
        """The file is replaced by its own copy: another inode, the same content."""
        copy = self.path.with_suffix(".new")
        copy.write_bytes(self.path.read_bytes())
        copy.replace(self.path)

    @rule()
    def settle_and_compare(self) -> None:
        """All is written and read: memory holds what the model says, and what reading whole gives."""
        with self.path.open("ab") as file:
            file.write(self.pending)
        self.pending = b""
        asyncio.run(self.sync.run())
        found = self.memory.episodes
        assert found == whole(self.directory)
        told = {one.source.uuid: one.raw_exchange for one in found.values() if one.source}
        assert told.keys() == self.model.exchanges.keys()
        for uuid, texts in self.model.exchanges.items():
            raw = (told[uuid] or "").replace("User: ", "").replace("Assistant: ", "")
            assert raw.split("\n\n") == texts

    @invariant()
    def marks_lie_behind_newlines(self) -> None:
        """An offset never points into a line."""
        for mark in self.memory.marks.values():
            offset = int(str(mark["offset"]))
            assert offset == 0 or self.path.read_bytes()[offset - 1 : offset] == b"\n"


TestGrowing = Growing.TestCase
TestGrowing.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6000), max_size=8))
def test_any_split_gives_the_same_episodes(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    """Read after every piece, wherever the pieces end (within a line, within a character), or once: the same."""
    script = Script()
    script.user("erste Frage: wie größer? 🎉")
    script.uses("Bash", {"command": "make prüfung"}, "t1")
    script.result("t1", "nö", failed=True)
    script.says("So geht das: 中文 🚀")
    script.user("and the subagent?")
    script.says("side", isSidechain=True, agentId="a1")
    script.says("main")
    script.exchange("third?", "yes")
    root = tmp_path_factory.mktemp("split")
    path = root / "s.jsonl"
    memory = Memory()
    reader = sync(memory, root)
    data = script.data
    for end in sorted(min(cut, len(data)) for cut in cuts):
        path.write_bytes(data[:end]) if not path.exists() else _grow(path, data, end)
        asyncio.run(reader.run())
    path.write_bytes(data) if not path.exists() else _grow(path, data, len(data))
    asyncio.run(reader.run())
    assert memory.episodes == whole(root)
    assert len(memory.episodes) == 4


def _grow(path: Path, data: bytes, end: int) -> None:
    with path.open("ab") as file:
        file.write(data[os.path.getsize(path) : end])
