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
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from pydantic import JsonValue

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


def raw(episodes: dict[str, EpisodeCreate]) -> dict[str, list[str]]:
    """What was said in each exchange, by the uuid of its first record."""
    return {
        one.source.uuid or "": (one.raw_exchange or "").replace("User: ", "").replace("Assistant: ", "").split("\n\n")
        for one in episodes.values()
        if one.source
    }


def model(entries: list[Line | bytes]) -> dict[str, list[str]]:
    """What reading a file should find, said as simply as it can be: a fold over its lines.

    Bytes are lines that say nothing. The exchanges are keyed as those of `raw`.
    """
    exchanges: dict[str, list[str]] = {}
    seen: set[str] = set()
    current: dict[str, str] = {}
    for entry in entries:
        if isinstance(entry, bytes) or entry.get("isMeta") or entry["uuid"] in seen:
            continue
        uuid, message = str(entry["uuid"]), entry.get("message")
        if not isinstance(message, dict):
            continue
        seen.add(uuid)
        text = said(message["content"])
        if entry["type"] == "user":
            current = {"": uuid}
        first = current.setdefault(str(entry.get("agentId", "")), uuid)
        exchanges.setdefault(first, []).append(text)
    return exchanges


def said(content: JsonValue) -> str:
    block = content[0] if isinstance(content, list) else content
    return str(block["text"] if isinstance(block, dict) else block)


KINDS = ("turn", "turn", "answer", "answer", "a1", "b2", "past", "noise")
"""Records that are written: `past` is a turn after the clock was set back, to which nothing leads."""
Versions = dict[str, list[list[str]]]
"""The longest versions of every exchange; copies that went on differently may be equally long."""


def add(versions: Versions, *found: dict[str, list[str]]) -> None:
    for exchanges in found:
        for uuid, texts in exchanges.items():
            known = versions.setdefault(uuid, [texts])
            if len(texts) > len(known[0]):
                versions[uuid] = [texts]
            elif len(texts) == len(known[0]) and texts not in known:
                known.append(texts)


class Growing(RuleBasedStateMachine):
    """A transcript to which everything happens that can, read again and again by a reader that fails."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="transcripts-"))
        self.path = self.directory / "shop" / "session.jsonl"
        self.path.parent.mkdir()
        self.script = Script(prefix="a")
        self.files: dict[Path, list[Line | bytes]] = {self.path: []}
        """What each file holds, or will when all is written."""
        self.longest: Versions = {}
        """What memory should hold."""
        self.memory = Memory()
        self.sync = sync(self.memory, self.directory)
        self.pending = b""
        self.count = 0
        self.path.write_bytes(b"")

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.settle()
            shutil.rmtree(self.directory)

    @property
    def entries(self) -> list[Line | bytes]:
        return self.files[self.path]

    def _write(self, entry: Line | bytes) -> None:
        self.entries.append(entry)
        self.pending += entry if isinstance(entry, bytes) else encoded(entry)

    @rule()
    def settle(self) -> None:
        """All is written and read: memory holds everything once, in its longest form, as reading whole would."""
        with self.path.open("ab") as file:
            file.write(self.pending)
        self.pending = b""
        asyncio.run(self.sync.run())
        for mark in self.memory.marks.values():  # an offset never points into a line
            data, offset = Path(str(mark["path"])).read_bytes(), int(str(mark["offset"]))
            assert offset == 0 or data[offset - 1 : offset] == b"\n"
        present: Versions = {}
        add(present, *map(model, self.files.values()))
        add(self.longest, *map(model, self.files.values()))
        for expected, episodes in ((self.longest, self.memory.episodes), (present, whole(self.directory))):
            found = raw(episodes)
            assert found.keys() == expected.keys()
            for uuid, texts in found.items():
                assert texts in expected[uuid]

    def _next(self) -> int:
        self.count += 1
        return self.count

    @rule(
        kinds=st.lists(st.sampled_from(["turn", "turn", "answer", "answer", "a1", "b2", "past", "noise"]), min_size=1)
    )
    def talk(self, kinds: list[str]) -> None:
        """Users, the assistant, two subagents and the program have their say, in any order."""
        for kind in kinds:
            text = f"{kind}: größer, 中文 🎉 {self._next()}"
            main = self.script.last
            if kind == "turn":
                self._write(self.script.user(text))
            elif kind == "past":
                self._write(self.script.user(text, timestamp="2020-01-01T00:00:00Z", parentUuid=None))
            elif kind == "answer":
                self._write(self.script.says(text))
            elif kind == "noise":
                self._write(self.script.user("<system-reminder>x</system-reminder>", isMeta=True))
                self._write(self.script.add("system", None, subtype="turn_duration"))
            else:
                self._write(self.script.says(text, isSidechain=True, agentId=kind))
                self.script.last = main

    @rule(junk=st.sampled_from([b"\n", b"{torn\n", b"\xff\xfe\n", b"42\n", b'{"type":"summary","summary":"s"}\n']))
    def junk(self, junk: bytes) -> None:
        self._write(junk)

    @rule(cut=st.floats(0.01, 0.99))
    def torn_append(self, cut: float) -> None:
        """A writer is killed in the middle of a line; the next one goes on behind it."""
        line = encoded(self.script.says(f"torn 中 {self._next()}"))
        self.script.records.pop()
        self._write(line[: max(1, int((len(line) - 2) * cut))])

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

    @rule(anew=st.booleans())
    def restart_the_reader(self, anew: bool) -> None:
        self.sync = sync(self.memory, self.directory)
        if anew:
            asyncio.run(self.sync.run(anew=True))

    @rule()
    def replace_by_a_copy(self) -> None:
        """Another inode, the same content."""
        copy = self.path.with_suffix(".new")
        copy.write_bytes(self.path.read_bytes())
        copy.replace(self.path)

    @rule(keep=st.floats(0, 1))
    def truncate(self, keep: float) -> None:
        """The file loses its end, at a line or within one; what was read of it before stays remembered."""
        self.settle()
        count = int(len(self.entries) * keep)
        del self.entries[count:]
        with self.path.open("r+b") as file:
            file.truncate(sum(len(one if isinstance(one, bytes) else encoded(one)) for one in self.entries))
        self.script.records = [one for one in self.entries if isinstance(one, dict)]

    @rule(read=st.booleans(), copied=st.booleans())
    def rotate(self, read: bool, copied: bool) -> None:
        """The file is moved away, or copied away and emptied, and another session goes on under its name."""
        if read:
            self.settle()
        with self.path.open("ab") as file:
            file.write(self.pending)
        self.pending = b""
        old = self.path.with_name(f"old-{self._next()}.jsonl")
        self.files[old], self.files[self.path] = self.entries, []
        if copied:
            shutil.copy(self.path, old)
            with self.path.open("r+b") as file:
                file.truncate(0)
        else:
            self.path.rename(old)
            self.path.write_bytes(b"")
        self.script = Script(session=f"s{self.count}", prefix=f"{self.count}r")

    @rule(keep=st.floats(0, 1))
    def resume(self, keep: float) -> None:
        """The session goes on in a new file that begins with a copy of the history, or of a part of it."""
        with self.path.open("ab") as file:
            file.write(self.pending)
        self.pending = b""
        records = self.script.records[: int(len(self.script.records) * keep) + 1]
        self.path = self.path.with_name(f"resumed-{self._next()}.jsonl")
        self.path.write_bytes(b"")
        self.files[self.path] = []
        self.script.session = f"s{self.count}"
        self.script.records = [{**record, "sessionId": self.script.session} for record in records]
        for record in self.script.records:
            self._write(record)

    @rule(pick=st.integers(0, 10_000))
    def delete_an_old_file(self, pick: int) -> None:
        others = [path for path in self.files if path != self.path]
        if others:
            self.settle()
            path = others[pick % len(others)]
            path.unlink()
            del self.files[path]


TestGrowing = Growing.TestCase
TestGrowing.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


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
