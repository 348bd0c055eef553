"""Files that change in every way, and a memory that fails: what is read, pushed and marked."""

import asyncio
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from anamnesis.contracts.episodes import BatchResult, EpisodeBatch
from anamnesis.kit.errors import Invalid, Unavailable
from anamnesis.transcripts.episodes import Maker
from anamnesis.transcripts.progress import Progress
from anamnesis.transcripts.projects import Projects
from anamnesis.transcripts.sync import DRAIN, Sync
from tests.anamnesis.transcripts.destination import Memory
from tests.anamnesis.transcripts.writing import Line, Script, encoded

LONG = "What do we do about the flaky upload test that fails every other night?"
ANSWER = "The test waited for a fixed time; it now waits for the upload itself and has passed a hundred times."


def reader(memory: Memory, *roots: Path, told: Callable[[Progress], None] = lambda progress: None) -> Sync:
    return Sync(memory, Maker(Projects(look=False)), roots, "laptop", told)


async def run(memory: Memory, *roots: Path) -> Progress:
    return await reader(memory, *roots).run()


def session(root: Path, name: str = "s1", turns: int = 2) -> tuple[Path, Script]:
    """A transcript of some exchanges in its place below a root."""
    path = root / "-home-me-shop" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    script = Script(session=name, prefix=name)
    for turn in range(turns):
        script.exchange(f"{LONG} ({name}, {turn})", ANSWER)
    path.write_bytes(script.data)
    return path, script


def asked(memory: Memory) -> list[str]:
    return sorted(one.summary.split("\n")[0].removeprefix("Asked: ") for one in memory.episodes.values())


async def test_an_episode_says_where_it_comes_from(tmp_path: Path) -> None:
    """Time, project, place and session are those of the event, not of the reading."""
    path, script = session(tmp_path, turns=1)
    memory = Memory()
    progress = await run(memory, tmp_path)
    (one,) = memory.episodes.values()
    assert one.timestamp is not None
    assert one.timestamp.isoformat() == "2026-03-01T09:00:01+00:00"
    assert (one.project, one.instance, one.tags, one.trust) == ("shop", "laptop", ("branch:main",), "assistant")
    assert one.source is not None
    assert one.source.model_dump() == {
        "kind": "claude-code", "path": str(path), "url": None, "session": "s1", "position": 0, "parent": None,
        "uuid": script.records[0]["uuid"], "last_uuid": script.records[1]["uuid"],
        "line": None, "last_line": None, "page": None, "section": None,
    }  # fmt: skip
    assert (progress.files, progress.created, progress.decisions) == (1, 1, {"kept": 1})


async def test_nothing_new_reads_nothing(tmp_path: Path) -> None:
    """A second run, even of a new process, opens no file and pushes nothing."""
    path, _ = session(tmp_path)
    memory = Memory()
    await run(memory, tmp_path)
    before = os.stat(path)
    os.utime(path, ns=(1, before.st_mtime_ns))
    memory.batches.clear()
    progress = await run(memory, tmp_path)
    assert (progress.files, progress.files_changed, progress.bytes, memory.batches) == (1, 0, 0, [])
    assert os.stat(path).st_atime_ns == 1


async def test_only_what_has_grown_is_read(tmp_path: Path) -> None:
    """An exchange that grows is updated under its id; those before it are not looked at again."""
    path, script = session(tmp_path)
    memory = Memory()
    sync = reader(memory, tmp_path)
    await sync.run()
    start = len(encoded(*script.records[:2]))
    memory.pushed.clear()
    script.says("And it is documented.")
    path.write_bytes(script.data)
    progress = await sync.run()
    assert progress.bytes == path.stat().st_size - start
    assert (progress.created, progress.updated, len(memory.pushed)) == (0, 1, 1)
    assert "And it is documented." in (memory.episodes[memory.pushed[0]].raw_exchange or "")


async def test_a_resumed_session_makes_no_copies(tmp_path: Path) -> None:
    """A new file that begins with the whole old history adds only what is new in it."""
    path, script = session(tmp_path)
    memory = Memory()
    await run(memory, tmp_path)
    script.session = "s2"
    script.exchange(f"{LONG} (resumed)", ANSWER)
    resumed = path.with_name("s2.jsonl")
    resumed.write_bytes(encoded(*({**record, "sessionId": "s2"} for record in script.records)))
    progress = await run(memory, tmp_path)
    assert (progress.created, progress.updated, len(memory.episodes)) == (1, 0, 3)


@pytest.mark.parametrize("short_first", [True, False])
async def test_a_shorter_copy_never_replaces_a_longer_one(tmp_path: Path, short_first: bool) -> None:
    """Of two copies of an exchange the longer one stays, whichever was read first, in one run or in two."""
    path, script = session(tmp_path, turns=1)
    script.says("And then some more was said, which only one of the copies holds.")
    short = encoded(*script.records[:2])
    first, second = (short, script.data) if short_first else (script.data, short)
    path.write_bytes(first)
    memory = Memory()
    await run(memory, tmp_path)
    path.with_name("copy.jsonl").write_bytes(second)
    await run(memory, tmp_path)
    (one,) = memory.episodes.values()
    assert "some more was said" in (one.raw_exchange or "")
    both = Memory()
    await run(both, tmp_path)
    assert [kept.raw_exchange for kept in both.episodes.values()] == [one.raw_exchange]


@pytest.mark.parametrize("short_first", [True, False])
async def test_a_copy_that_is_left_does_not_replace_the_deleted_original(tmp_path: Path, short_first: bool) -> None:
    """The original goes, a shorter copy stays and grows a little or is read anew: the episode keeps its longest form.

    It is updated only when the copy has outgrown what the original held.
    """
    path, script = session(tmp_path, turns=1)
    for part in range(3):
        script.says(f"And part {part}, which only the original holds.")
    path.write_bytes(script.data)
    copy = path.with_name("copy.jsonl")
    copy.write_bytes(encoded(*script.records[:2]))
    for one_of_two, when in ((path, 2_000), (copy, 1_000 if short_first else 3_000)):
        os.utime(one_of_two, (when, when))
    memory = Memory()
    sync = reader(memory, tmp_path)
    await sync.run()
    path.unlink()
    await sync.run()
    for _ in range(3):
        await sync.run(anew=True)
        await run(memory, tmp_path)
    with copy.open("ab") as file:
        file.write(encoded(*script.records[2:4]))
    await sync.run()
    (one,) = memory.episodes.values()
    assert "part 2" in (one.raw_exchange or "")
    script.says("And what only the copy holds.")
    with copy.open("ab") as file:
        file.write(encoded(*script.records[4:]))
    await sync.run()
    (one,) = memory.episodes.values()
    assert "only the copy holds" in (one.raw_exchange or "")


async def test_a_continued_session_is_one_story(tmp_path: Path) -> None:
    """A session that goes on in another file, from nothing or from a copy, gives every exchange once, each its own."""
    path, script = session(tmp_path, turns=2)
    end: Line = {"type": "continued-in", "sessionId": "s1", "continuedInSessionId": "s2"}
    path.write_bytes(script.data + encoded(end))
    after = Script(session="s2", prefix="s2")
    after.exchange(f"{LONG} (continued)", ANSWER)
    path.with_name("s2.jsonl").write_bytes(after.data)
    copied = [{**record, "sessionId": "s3"} for record in script.records]
    more = Script(session="s3", prefix="s3")
    more.exchange(f"{LONG} (continued from a copy)", ANSWER)
    path.with_name("s3.jsonl").write_bytes(encoded(*copied, end) + more.data)
    memory = Memory()
    progress = await run(memory, tmp_path)
    assert (progress.created, progress.updated, progress.unreadable, len(memory.episodes)) == (4, 0, 0, 4)
    assert (await run(memory, tmp_path)).files_changed == 0


async def test_subagents_are_linked_to_their_parent(tmp_path: Path) -> None:
    """A subagent's file gives episodes of their own, with the parent session and the agent's kind."""
    path, _ = session(tmp_path, "s1", turns=1)
    side = path.parent / "s1" / "subagents"
    side.mkdir(parents=True)
    script = Script(session="s1", prefix="a")
    script.user(f"{LONG} (task)", isSidechain=True, agentId="xyz")
    script.says(ANSWER, isSidechain=True, agentId="xyz")
    (side / "agent-xyz.jsonl").write_bytes(script.data)
    (side / "agent-xyz.meta.json").write_text('{"agentType": "Explore", "description": "look", "spawnDepth": 1}')
    (path.parent / "s1" / "tool-results").mkdir()
    (path.parent / "s1" / "tool-results" / "t.jsonl").write_bytes(script.data)
    memory = Memory()
    progress = await run(memory, tmp_path)
    assert progress.files == 2
    (one,) = (each for each in memory.episodes.values() if "subagent" in each.tags)
    assert one.tags == ("branch:main", "subagent", "agent:Explore")
    assert one.source is not None
    assert (one.source.session, one.source.parent) == ("s1/agent-xyz", "s1")


async def test_truncation_and_replacement_start_anew(tmp_path: Path) -> None:
    """A file that was cut, emptied and written again, or replaced, is read from its beginning; nothing is lost."""
    path, _ = session(tmp_path)
    memory = Memory()
    sync = reader(memory, tmp_path)
    await sync.run()
    inode = path.stat().st_ino
    other = Script(session="s9", prefix="n")
    for turn in range(5):
        other.exchange(f"{LONG} (new {turn})", ANSWER)
    with path.open("r+b") as file:  # copy-truncate: the same inode, longer than before when it is looked at
        file.truncate(0)
        file.write(other.data)
    assert path.stat().st_ino == inode
    progress = await sync.run()
    assert (progress.created, len(memory.episodes)) == (5, 7)
    with path.open("r+b") as file:
        file.truncate(len(encoded(*other.records[:2])))
    progress = await sync.run()
    assert (progress.created, progress.updated, len(memory.episodes)) == (0, 0, 7)


async def test_a_file_that_is_cut_where_reading_goes_on_is_read_anew(tmp_path: Path) -> None:
    """What is written after the last turn was cut off belongs to the turn before it, as it does when read whole."""
    path, script = session(tmp_path)
    memory = Memory()
    sync = reader(memory, tmp_path)
    await sync.run()
    del script.records[2:]
    script.says("A second thought about the first question. " * 50)
    path.write_bytes(script.data)
    await sync.run()
    assert len(memory.episodes) == 2
    assert any("second thought" in (one.raw_exchange or "") for one in memory.episodes.values())


async def test_rotation_is_noticed(tmp_path: Path) -> None:
    """Another file under the same name is read from its beginning, and the one moved away is known already."""
    path, _ = session(tmp_path)
    memory = Memory()
    sync = reader(memory, tmp_path)
    await sync.run()
    path.rename(path.with_name("old.jsonl"))
    session(tmp_path, "s1b", turns=1)
    path.with_name("s1b.jsonl").rename(path)
    progress = await sync.run()
    assert (progress.files_changed, progress.created, progress.updated) == (2, 1, 0)


async def test_marks_of_files_that_are_gone_are_removed(tmp_path: Path) -> None:
    """Deleted transcripts leave no marks behind; their episodes stay. A root that is away forgets nothing."""
    root = tmp_path / "projects"
    path, _ = session(root)
    session(root, "s2")
    memory = Memory()
    await run(memory, root)
    path.unlink()
    progress = await run(memory, root)
    assert (progress.removed, len(memory.marks), len(memory.episodes)) == (1, 1, 4)
    root.rename(tmp_path / "unmounted")
    progress = await run(memory, root)
    assert (progress.removed, len(memory.marks), progress.errors) == (0, 1, {"root-missing": 1})


async def test_one_file_fails_no_other(tmp_path: Path) -> None:
    """Links, pipes and directories in the place of files are left alone or counted; the rest is read."""
    path, _ = session(tmp_path)
    (path.parent / "link.jsonl").symlink_to(path)
    os.mkfifo(path.parent / "pipe.jsonl")
    (path.parent / "directory.jsonl").mkdir()
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    session(outside, "away")
    (tmp_path / "linked-directory").symlink_to(outside)
    memory = Memory()
    progress = await run(memory, tmp_path)
    assert (progress.files, len(memory.episodes)) == (1, 2)


async def test_a_link_swapped_in_after_the_walk_is_refused(tmp_path: Path) -> None:
    """What was a file when the directory was read and is a link when it is opened is not followed."""
    root = tmp_path / "projects"
    path, _ = session(root)
    secret, _ = session(tmp_path / "elsewhere", "secret")

    def swap(progress: Progress) -> None:
        if path.exists() and not path.is_symlink():
            path.unlink()
            path.symlink_to(secret)

    memory = Memory()
    progress = await reader(memory, root, told=swap).run()
    assert (progress.errors, memory.episodes, memory.marks) == ({"symbolic-link": 1}, {}, {})
    assert progress.examples == {"symbolic-link": [str(path)]}


async def test_a_transcript_that_is_deleted_meanwhile_is_no_error(tmp_path: Path) -> None:
    """What was there when the directory was read and is gone when it is opened is left out without a word."""
    path, _ = session(tmp_path)
    session(tmp_path, "s2")
    progress = await reader(memory := Memory(), tmp_path, told=lambda _: path.unlink(missing_ok=True)).run()
    assert (progress.errors, progress.files_done, len(memory.episodes)) == ({}, 2, 2)


@pytest.mark.parametrize("fault", ["fail_push", "lose_answer", "fail_save"])
async def test_nothing_is_marked_before_it_is_acknowledged(tmp_path: Path, fault: str) -> None:
    """When memory goes away in the middle, the run says so, and the next one brings the rest; nothing twice."""
    for number in range(5):
        session(tmp_path, f"s{number}", turns=60)
    memory = Memory()
    sync = reader(memory, tmp_path)
    setattr(memory, fault, 1)
    with pytest.raises(Unavailable):
        await sync.run()
    progress = await sync.run()
    assert len(memory.episodes) == 300
    assert progress.updated == 0
    assert (await sync.run()).files_changed == 0


async def test_what_memory_will_not_take_is_found_and_counted(tmp_path: Path) -> None:
    """One episode that is refused holds up no other, and is not tried for ever."""
    session(tmp_path, turns=30)
    probe = Memory()
    await run(probe, tmp_path)
    memory = Memory()
    memory.refuse = {next(iter(probe.episodes))}
    progress = await run(memory, tmp_path)
    assert (progress.created, progress.refused) == (29, 1)
    assert progress.refusals == dict.fromkeys(memory.refuse, "invalid")
    assert (await run(memory, tmp_path)).files_changed == 0


async def test_what_was_refused_once_may_come_in_later(tmp_path: Path) -> None:
    """A refused episode does not count as seen: a copy of it, or reading anew, sends it again."""
    path, _ = session(tmp_path, turns=3)
    probe = Memory()
    await run(probe, tmp_path)
    refused = list(probe.episodes)[1]
    memory = Memory()
    memory.refuse = {refused}
    await run(memory, tmp_path)
    assert len(memory.episodes) == 2
    memory.refuse.clear()
    shutil.copy(path, path.with_name("copy.jsonl"))
    await run(memory, tmp_path)
    assert memory.pushed[2:] == [refused]
    again = Memory()
    again.refuse = {refused}
    await run(again, path)
    again.refuse.clear()
    assert (await reader(again, path).run(anew=True)).created == 1


@pytest.mark.parametrize("turns", [1, 30, 300])
async def test_a_memory_that_refuses_everything_marks_nothing(tmp_path: Path, turns: int) -> None:
    """When memory takes nothing at all the run fails with its words; all is read once it has been repaired."""
    session(tmp_path, turns=turns)
    session(tmp_path, "s2", turns=0)

    class Broken(Memory):
        broken = True
        asked = 0

        async def push(self, batch: EpisodeBatch) -> BatchResult:
            self.asked += 1
            if self.broken:
                raise Invalid("there is no such field")
            return await super().push(batch)

    memory = Broken()
    sync = reader(memory, tmp_path)
    for _ in range(2):
        with pytest.raises(Invalid, match=r"memory has refused all .* episodes .*: there is no such field"):
            await sync.run()
    assert memory.marks == {}
    assert memory.asked < 1000
    memory.broken = False
    assert (await sync.run()).created == turns


async def test_one_refusal_among_nothing_else_holds_up_no_other(tmp_path: Path) -> None:
    """An exchange that is refused while there is nothing else is marked as soon as memory takes another one."""
    session(tmp_path, turns=1)
    probe = Memory()
    await run(probe, tmp_path)
    memory = Memory()
    memory.refuse = set(probe.episodes)
    sync = reader(memory, tmp_path)
    with pytest.raises(Invalid):
        await sync.run()
    session(tmp_path, "s2", turns=1)
    progress = await sync.run()
    assert (progress.created, progress.refused, len(memory.marks)) == (1, 1, 2)
    assert (await sync.run()).files_changed == 0


async def test_batches_are_bounded_and_two_at_a_time(tmp_path: Path) -> None:
    """However much there is, a batch holds about a hundred episodes and no more than two are under way."""
    for number in range(8):
        session(tmp_path, f"s{number}", turns=100)

    class Patient(Memory):
        """Answers nothing before two have asked."""

        under_way = most = 0
        two = asyncio.Event()

        async def push(self, batch: EpisodeBatch) -> BatchResult:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            if self.under_way == 2:
                self.two.set()
            await self.two.wait()
            await asyncio.sleep(0.02)  # time for a third one to come
            self.under_way -= 1
            return await super().push(batch)

    memory = Patient()
    seen: list[tuple[int, int]] = []
    sync = reader(memory, tmp_path, told=lambda progress: seen.append((progress.bytes_done, progress.episodes)))
    progress = await sync.run()
    assert progress.created == 800
    assert max(memory.batches) <= 150
    assert memory.most == 2
    assert seen == sorted(seen)
    assert (progress.bytes_done, progress.files_done) == (progress.bytes, 8)


@pytest.mark.parametrize("under_way", [1, 2])
async def test_stopping_keeps_what_was_sent(tmp_path: Path, under_way: int) -> None:
    """A run that is stopped, at whatever moment, waits for what it has sent; the next one sends none of it again."""
    for number in range(4):
        session(tmp_path, f"s{number}", turns=100)

    class Held(Memory):
        """Answers nothing before it may."""

        def __init__(self) -> None:
            super().__init__()
            self.asked: list[str] = []
            self.batches_asked = 0
            self.enough, self.may = asyncio.Event(), asyncio.Event()

        async def push(self, batch: EpisodeBatch) -> BatchResult:
            self.asked += [one.episode_id or "" for one in batch.episodes]
            self.batches_asked += 1
            if self.batches_asked == under_way:
                self.enough.set()
            await self.may.wait()
            return await super().push(batch)

    memory = Held()
    task = asyncio.create_task(reader(memory, tmp_path).run())
    await memory.enough.wait()
    task.cancel()
    memory.may.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    sent = set(memory.asked)
    done = set(memory.pushed)
    assert done == sent
    assert 0 < len(done) < 400
    memory.pushed.clear()
    await run(memory, tmp_path)
    assert done.isdisjoint(memory.pushed)
    assert len(memory.episodes) == 400


async def test_stopping_does_not_wait_for_a_memory_that_is_away(tmp_path: Path) -> None:
    """Where nobody answers, a run that is stopped ends at once."""
    session(tmp_path, turns=10)
    begun = asyncio.Event()

    class Gone(Memory):
        async def push(self, batch: EpisodeBatch) -> BatchResult:
            self.away = True
            begun.set()
            await asyncio.sleep(3600)
            raise AssertionError

    seen: list[bool] = []
    task = asyncio.create_task(reader(Gone(), tmp_path, told=lambda progress: seen.append(progress.stopping)).run())
    await begun.wait()
    task.cancel()
    async with asyncio.timeout(DRAIN - 2):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not any(seen)


async def test_reading_anew_changes_no_episode(tmp_path: Path) -> None:
    """With `anew` all is read and sent again, and memory finds it has it."""
    session(tmp_path)
    memory = Memory()
    sync = reader(memory, tmp_path)
    await sync.run()
    progress = await sync.run(anew=True)
    assert (progress.created, progress.updated, progress.duplicate) == (0, 0, 2)


async def test_secrets_do_not_leave_the_machine(tmp_path: Path) -> None:
    """Keys in talk, commands and errors, and private blocks, are gone before anything is sent; they are counted."""
    path, script = session(tmp_path, turns=0)
    key = "sk-ant-api03-" + "Ab1" * 30
    script.user(f"{LONG} The key is {key}. <private>and my diagnosis</private>")
    script.uses("Bash", {"command": f"curl -H 'Authorization: Bearer {key}' https://x"}, "t1")
    script.result("t1", f"401 for {key}", failed=True)
    script.says(f"Never paste {key} again.")
    path.write_bytes(script.data)
    memory = Memory()
    progress = await run(memory, tmp_path)
    (one,) = memory.episodes.values()
    sent = one.model_dump_json()
    assert key[:20] not in sent
    assert "diagnosis" not in sent
    assert progress.redactions["anthropic-key"] >= 4
    assert progress.redactions["private"] == 1


async def test_a_private_block_may_reach_over_a_picture(tmp_path: Path) -> None:
    """A block that one text of a message opens and another closes goes with all that lies between."""
    path, script = session(tmp_path, turns=0)
    script.user(
        [
            {"type": "text", "text": f"{LONG} <private>my diagnosis"},
            {"type": "image", "source": {}},
            {"type": "text", "text": "and my pills</private> but do look it up"},
        ]
    )
    script.says("So.")
    path.write_bytes(script.data)
    memory = Memory()
    progress = await run(memory, tmp_path)
    (one,) = memory.episodes.values()
    sent = one.model_dump_json()
    assert "but do look it up" in sent
    assert not any(word in sent for word in ("diagnosis", "pills", "[image]"))
    assert progress.redactions["private"] == 1


async def test_what_is_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    """The filter's decisions can be seen."""
    path, script = session(tmp_path, turns=1)
    script.exchange("ok", "Fine.")
    script.user("/clear")
    script.user("hm?")
    path.write_bytes(script.data)
    memory = Memory()
    progress = await run(memory, tmp_path)
    assert progress.decisions == {"kept": 1, "nod": 1, "command": 1, "unanswered": 1}
    assert len(memory.episodes) == 1


async def test_a_file_of_twenty_megabytes_stays_out_of_memory(tmp_path: Path) -> None:
    """A large file goes through in pieces: what is held at once is far less than the file."""
    path = tmp_path / "big.jsonl"
    script = Script()
    with path.open("wb") as file:
        for turn in range(400):
            script.records.clear()
            script.exchange(f"{LONG} {turn}", ANSWER)
            script.result("t", "x" * 50_000)
            file.write(script.data)
    memory = Memory()
    tracemalloc.start()
    progress = await run(memory, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert progress.created == 400
    assert path.stat().st_size > 20_000_000
    assert peak < 12_000_000
