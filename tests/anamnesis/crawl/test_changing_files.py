"""Whatever happens to files, and whenever a run is cut off: at rest memory says what they say."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from anamnesis.contracts.crawler import CrawlerConfig, Source, SourceKind, TagPatterns
from anamnesis.crawl.marks import Marks
from anamnesis.crawl.sync import Crawl
from anamnesis.cutting import cut
from anamnesis.kit.errors import Unavailable
from tests.anamnesis.crawl.keeper import Keeper, Memory

NAMES = ("a.md", "b.md", "sub/c.md")
MACHINES = ("laptop", "server")
BODIES = st.lists(st.integers(0, 9), min_size=1, max_size=3)
machines = st.sampled_from(MACHINES)
names = st.sampled_from(NAMES)
moments = st.sampled_from(["before", "after"])


def text_of(bodies: list[int]) -> str:
    """A file of some sections; all of one length, so that an edit can leave a file's size as it was."""
    return "\n".join(f"# Part {body}\n\n" + f"What part {body} says. " * 40 + "\n" for body in bodies)


def crawl(memory: Memory, root: Path, instance: str) -> Crawl:
    source = Source(name="notes", kind=SourceKind.NAMED, root=str(root), globs=("**/*.md",), project="shop")
    config = CrawlerConfig(sources=(source,))
    return Crawl(
        Keeper(memory, instance),
        lambda: (config, TagPatterns()),
        [root],
        instance,
        lambda counts: None,
        never=(),
    )


class Changing(RuleBasedStateMachine):
    """Two machines with files of the same project, to which everything happens that can."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(os.path.realpath(tempfile.mkdtemp(prefix="crawl-")))
        self.memory = Memory()
        self.crawls: dict[str, Crawl] = {}
        for machine in MACHINES:
            (self.directory / machine / "sub").mkdir(parents=True)
            self.kill(machine)
        self.before: set[str] = set()
        self.clock = 1_700_000_000

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.settle()
            shutil.rmtree(self.directory)

    def path(self, machine: str, name: str) -> Path:
        return self.directory / machine / name

    def put(self, path: Path, bodies: list[int], long_ago: bool) -> None:
        """Write a file, just now or long enough ago for its time to tell all."""
        path.write_text(text_of(bodies))
        if long_ago:
            self.clock += 5
            os.utime(path, (self.clock, self.clock))

    @rule(machine=machines, name=names, bodies=BODIES, long_ago=st.booleans())
    def write(self, machine: str, name: str, bodies: list[int], long_ago: bool) -> None:
        """In place: the same inode."""
        self.put(self.path(machine, name), bodies, long_ago)

    @rule(machine=machines, name=names, bodies=BODIES, long_ago=st.booleans())
    def replace(self, machine: str, name: str, bodies: list[int], long_ago: bool) -> None:
        """As editors do: another inode."""
        new = self.path(machine, "new.tmp")
        self.put(new, bodies, long_ago)
        new.replace(self.path(machine, name))

    @rule(machine=machines, name=names, bodies=BODIES, call=st.integers(1, 9), when=moments, back=st.booleans())
    def write_and_fail_and_change(
        self, machine: str, name: str, bodies: list[int], call: int, when: str, back: bool
    ) -> None:
        """A run that reads a change is cut off; then the file is what it was before, to the nanosecond, or is gone."""
        path = self.path(machine, name)
        before = path.with_suffix(".tmp")
        if path.exists():
            path.rename(before)
        self.put(path, bodies, long_ago=True)
        self.run_and_fail(machine, call, when, killed=True)
        path.unlink()
        if before.exists():
            before.rename(path) if back else before.unlink()

    @rule(machine=machines, name=names, call=st.integers(1, 9), when=moments)
    def vanish_and_return(self, machine: str, name: str, call: int, when: str) -> None:
        """A run that misses a file is cut off; then the file is back as it was."""
        path = self.path(machine, name)
        if path.exists():
            away = path.rename(path.with_suffix(".tmp"))
            self.run_and_fail(machine, call, when, killed=True)
            away.rename(path)

    @rule(machine=machines, name=names)
    def delete(self, machine: str, name: str) -> None:
        self.path(machine, name).unlink(missing_ok=True)

    @rule(machine=machines, name=names, to=names)
    def rename(self, machine: str, name: str, to: str) -> None:
        if self.path(machine, name).exists():
            self.path(machine, name).rename(self.path(machine, to))

    @rule(machine=machines, name=names, other=machines, to=names)
    def copy(self, machine: str, name: str, other: str, to: str) -> None:
        if self.path(machine, name).exists() and (machine, name) != (other, to):
            shutil.copy2(self.path(machine, name), self.path(other, to))

    @rule(machine=machines, name=names, other=names)
    def swap(self, machine: str, name: str, other: str) -> None:
        one, two = self.path(machine, name), self.path(machine, other)
        if one.exists() and two.exists() and name != other:
            away = self.path(machine, "away.tmp")
            one.rename(away)
            two.rename(one)
            away.rename(two)

    @rule(machine=machines)
    def run(self, machine: str) -> None:
        asyncio.run(self.crawls[machine].run())

    @rule(machine=machines, some=st.sets(names, min_size=1))
    def run_for_some(self, machine: str, some: set[str]) -> None:
        """As a watcher asks."""
        asyncio.run(self.crawls[machine].run({str(self.path(machine, name)) for name in some}))

    @rule(
        machine=machines,
        call=st.integers(1, 14),
        when=moments,
        killed=st.booleans(),
    )
    def run_and_fail(self, machine: str, call: int, when: str, killed: bool) -> None:
        """Cut off before or after some call took effect; the next run is by the same process or by a new one."""
        keeper = self.keeper(machine)
        keeper.fault = (call, when)
        with contextlib.suppress(Unavailable):
            asyncio.run(self.crawls[machine].run())
        keeper.fault = None
        if killed:
            self.kill(machine)

    @rule(machine=machines)
    def kill(self, machine: str) -> None:
        self.crawls[machine] = crawl(self.memory, self.directory / machine, machine)

    @rule(machine=machines)
    def read_anew(self, machine: str) -> None:
        asyncio.run(self.crawls[machine].run(anew=True))

    def keeper(self, machine: str) -> Keeper:
        keeper = self.crawls[machine]._destination
        assert isinstance(keeper, Keeper)
        return keeper

    @rule()
    def settle(self) -> None:
        """When all machines have looked: what is current on each is what its files say, and all else is put aside."""
        for machine in MACHINES:
            asyncio.run(self.crawls[machine].run())
        for machine in MACHINES:
            held = self.held(machine)
            present = {name for name in NAMES if self.path(machine, name).exists()}
            assert held.keys() == {str(self.path(machine, name)) for name in present}
            for path, ids in held.items():
                said = [piece.text.strip() for piece in cut(Path(path).read_text(), path)]
                assert [self.memory.episodes[one].raw_exchange for one in ids] == said
            here = {name for name, one in self.memory.episodes.items() if f"on:{machine}" in one.tags}
            assert here == self.memory.current(f"on:{machine}").keys() == {one for ids in held.values() for one in ids}
        assert all(any(tag.startswith("on:") for tag in one.tags) for one in self.memory.current().values())
        assert self.before <= self.memory.episodes.keys()
        self.before = set(self.memory.episodes)
        for machine in MACHINES:
            self.is_at_rest(machine)

    def held(self, machine: str) -> dict[str, list[str]]:
        """The episodes of every file, as is written down."""
        marks = Marks(self.memory.marks[machine].values())
        return {mark.path: [part.episode_id for part in mark.parts] for mark in marks}

    def is_at_rest(self, machine: str) -> None:
        """Another look, by a new process, changes nothing, whatever was written down."""
        before = (dict(self.memory.episodes), dict(self.memory.superseded))
        asyncio.run(crawl(self.memory, self.directory / machine, machine).run())
        assert (self.memory.episodes, self.memory.superseded) == before


TestChanging = Changing.TestCase
TestChanging.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
