"""Files that change in every way: what becomes of their episodes, what is counted, and what it costs."""

import asyncio
import contextlib
import os
import re
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from anamnesis.contracts.crawler import CrawlerConfig, Source, SourceKind, TagPattern, TagPatterns
from anamnesis.contracts.episodes import MAX_TAGS, BatchResult, EpisodeBatch
from anamnesis.crawl.counts import CrawlCounts
from anamnesis.crawl.marks import Held, Mark, Marks, Stamp, pack
from anamnesis.crawl.sync import Crawl
from anamnesis.kit.errors import Invalid, Unavailable
from tests.anamnesis.crawl.keeper import Keeper, Memory

LONG_AGO = 1_700_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = Path(os.path.realpath(tmp_path)) / "shop"
    place.mkdir()
    (place / "not meant").touch()  # an empty root would be taken for one that is not mounted
    return place


def crawler(
    keeper: Keeper,
    root: Path,
    *more: Source,
    instance: str = "laptop",
    patterns: Sequence[TagPattern] = (),
    told: Callable[[CrawlCounts], None] = lambda counts: None,
    notes: bool = True,
) -> Crawl:
    own = Source(
        name="notes",
        kind=SourceKind.NAMED,
        root=str(root),
        globs=("**/*.md", "**/*.py"),
        tags=("note",),
        project="shop",
    )
    config = CrawlerConfig(sources=((own, *more) if notes else more))
    return Crawl(keeper, lambda: (config, TagPatterns(patterns=tuple(patterns))), [root], instance, told, never=())


def section(name: str, words: str = "") -> str:
    return f"# {name}\n\n" + (words or f"All about {name}. ") * 60 + "\n\n"


def write(path: Path, text: str | bytes, age: int = 0) -> Path:
    """A file that was written long enough ago for its time to tell all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    os.utime(path, (LONG_AGO + age, LONG_AGO + age))
    return path


async def test_an_episode_says_where_it_stands(root: Path) -> None:
    """Time, place, machine, section and lines are those of the file; secrets are gone, and move no line."""
    key = "-----BEGIN PRIVATE KEY-----\n" + "\n".join(["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" * 2] * 5)
    text = (
        "# Shop\n\n"
        + "Words. " * 100
        + f"\n\n{key}\n-----END PRIVATE KEY-----\n\n## Doors\n\nOpen at nine. "
        + "x " * 400
    )
    path = write(root / "docs" / "a.md", text)
    keeper = Keeper(Memory())
    counts = await crawler(keeper, root).run()
    last = max(keeper.memory.episodes.values(), key=lambda one: one.source.position or 0 if one.source else 0)
    assert last.source is not None
    assert last.timestamp is not None
    assert last.source.line == text.split("\n").index("## Doors") + 1
    assert (last.source.kind, last.source.path, last.source.section) == ("file", str(path), "Shop > Doors")
    assert last.summary == "docs/a.md: Shop > Doors\nOpen at nine. " + ("x " * 400)[:286].strip()
    assert (last.timestamp.timestamp(), last.instance, last.project) == (LONG_AGO, "laptop", "shop")
    assert last.tags == ("on:laptop", "doc", "note")
    assert not any("MIIEv" in (one.raw_exchange or "") for one in keeper.memory.episodes.values())
    assert (counts.files, counts.files_done, counts.redactions["private-key"]) == (1, 1, 1)
    assert counts.created == len(keeper.memory.episodes)


async def test_nothing_new_asks_nothing(root: Path) -> None:
    """A run that finds no change makes no call but, once a process, the one for the marks; and opens no file."""
    for number in range(20):
        write(root / f"{number}.md", section(str(number)))
    memory = Memory()
    crawl = crawler(Keeper(memory), root)
    await crawl.run()
    keeper = Keeper(memory)
    again = crawler(keeper, root)
    for _ in range(3):
        counts = await again.run()
        assert (counts.files, counts.files_changed) == (20, 0)
    assert keeper.calls == ["load"]


async def test_only_what_is_new_of_a_file_is_new(root: Path) -> None:
    """Parts that stay keep their episodes, with their lines of now; a changed one replaces its former self."""
    path = write(root / "a.md", section("One") + section("Two") + section("Three"))
    keeper = Keeper(Memory())
    crawl = crawler(keeper, root)
    await crawl.run()
    before = dict(keeper.memory.episodes)
    write(path, section("Zero") + section("One") + section("Two", "Otherwise now. ") + section("Three"), 1)
    counts = await crawl.run()
    assert (counts.created, counts.duplicate, counts.superseded) == (2, 2, 1)
    (old,) = keeper.memory.superseded
    (by,) = keeper.memory.superseded.values()
    sections = {name: one.source.section for name, one in keeper.memory.episodes.items() if one.source}
    assert sections[old] == sections[by] == "Two"
    assert "on:laptop" not in keeper.memory.episodes[old].tags
    one = next(name for name, section in sections.items() if section == "One")
    assert one in before
    kept = keeper.memory.episodes[one].source
    assert kept is not None
    assert kept.line == path.read_text().split("\n").index("# One") + 1


async def test_a_file_that_goes_back_has_its_first_episodes_again(root: Path) -> None:
    """What was replaced is current, and its replacement is put aside; without a circle, however often."""
    path = write(root / "a.md", section("One"))
    keeper = Keeper(Memory())
    crawl = crawler(keeper, root)
    for turn, words in enumerate(["", "Otherwise. ", "", "Thirdly. ", "Otherwise. ", ""]):
        write(path, section("One", words), turn)
        await crawl.run()
        assert keeper.memory.texts() == {path.read_text().strip()}
        assert len(keeper.memory.superseded) == len(keeper.memory.episodes) - 1


async def test_a_deleted_file_is_still_found_and_marked(root: Path) -> None:
    """Its episodes carry `deleted`; when it comes back they do not."""
    path = write(root / "a.md", section("One"))
    keeper = Keeper(Memory())
    crawl = crawler(keeper, root)
    await crawl.run()
    away = path.rename(root / "a.away")
    counts = await crawl.run()
    assert counts.deleted == 1
    assert [one.tags for one in keeper.memory.episodes.values()] == [("doc", "note", "deleted")]
    assert not keeper.memory.superseded
    assert [(one.path, one.state) for one in await crawl.files()] == [(str(path), "deleted")]
    assert not keeper.marks
    away.rename(path)
    await crawl.run()
    assert [set(one.tags) for one in keeper.memory.episodes.values()] == [{"doc", "note", "on:laptop"}]
    assert [(one.path, one.state) for one in await crawl.files()] == [(str(path), "read")]


@pytest.mark.parametrize("fault", range(1, 9))
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_file_may_come_back_while_it_is_let_go(root: Path, fault: int, when: str) -> None:
    """A run is cut off anywhere, then the file is there again as if nothing had been: so are its episodes."""
    path = write(root / "a.md", section("One"))
    keeper = Keeper(Memory())
    await crawler(keeper, root).run()
    away = path.rename(root / "a.away")
    keeper.fault = (fault, when)
    with contextlib.suppress(Unavailable):
        await crawler(keeper, root).run()
    keeper.fault = None
    away.rename(path)
    await crawler(keeper, root).run()
    assert keeper.memory.texts("on:laptop") == {path.read_text().strip()}


@pytest.mark.parametrize("watched", [False, True])
async def test_a_renamed_file_keeps_its_episodes(root: Path, watched: bool) -> None:
    """Nothing is sent; the episodes say where it lies now. Also where a watcher saw one vanish and another appear."""
    path = write(root / "a.md", section("One"))
    keeper = Keeper(Memory())
    crawl = crawler(keeper, root)
    await crawl.run()
    before = set(keeper.memory.episodes)
    keeper.batches.clear()
    new = path.rename(root / "b.md")
    counts = await crawl.run({str(path), str(new)} if watched else None)
    assert (counts.renamed, counts.deleted, counts.created, keeper.batches) == (1, 0, 0, [])
    assert keeper.memory.episodes.keys() == before == keeper.memory.current("on:laptop").keys()
    assert {one.source.path for one in keeper.memory.episodes.values() if one.source} == {str(new)}
    assert [one.path for one in await crawl.files()] == [str(new)]


async def test_what_a_watcher_saw_vanish_waits_for_the_scan(root: Path) -> None:
    """It may be about to appear elsewhere."""
    path = write(root / "a.md", section("One"))
    keeper = Keeper(Memory())
    crawl = crawler(keeper, root)
    await crawl.run()
    path.unlink()
    counts = await crawl.run({str(path)})
    assert counts.deleted == 0
    assert keeper.memory.current("on:laptop")
    assert (await crawl.run()).deleted == 1


async def test_a_watched_change_is_all_that_is_read(root: Path) -> None:
    """A run for some paths looks at no others."""
    paths = [write(root / f"{number}.md", section(str(number))) for number in range(5)]
    keeper = Keeper(Memory())
    crawl = crawler(keeper, root)
    await crawl.run()
    for path in paths:
        write(path, section("changed " + path.name), 1)
    counts = await crawl.run({str(paths[2])})
    assert (counts.files, counts.files_changed) == (1, 1)


async def test_copies_share_their_episodes(root: Path) -> None:
    """Two files of one content are pushed once, and what they say stays as long as one of them does."""
    write(root / "a.md", section("One"))
    write(root / "b.md", section("One"))
    keeper = Keeper(Memory())
    crawl = crawler(keeper, root)
    counts = await crawl.run()
    assert counts.created == len(keeper.memory.episodes) == 1
    (root / "a.md").unlink()
    await crawl.run()
    (one,) = keeper.memory.current("on:laptop").values()
    assert one.source is not None
    assert one.source.path == str(root / "b.md")
    (root / "b.md").unlink()
    await crawl.run()
    assert not keeper.memory.current()


async def test_machines_with_the_same_files_share_their_episodes(root: Path) -> None:
    """Each adds its name; what one deletes or changes stays as long as another has it."""
    memory = Memory()
    places = {}
    for machine in ("laptop", "server"):
        path = write(root / machine / "shop" / "a.md", section("One"))
        (path.parent / "not meant").touch()
        source = Source(name="own", kind=SourceKind.NAMED, root=str(path.parent), globs=("*.md",), project="shop")
        places[machine] = (path, crawler(Keeper(memory, machine), root, source, instance=machine, notes=False))
        await places[machine][1].run()
    (one,) = memory.episodes.values()
    assert {"on:laptop", "on:server"} <= set(one.tags)
    write(places["laptop"][0], section("One", "Otherwise. "), 1)
    await places["laptop"][1].run()
    assert len(memory.current()) == 2
    places["server"][0].unlink()
    await places["server"][1].run()
    assert memory.texts() == {places["laptop"][0].read_text().strip()}


async def test_a_directory_may_become_another_machines(root: Path) -> None:
    """Its episodes stay, and say so."""
    write(root / "a.md", section("One"))
    memory = Memory()
    await crawler(Keeper(memory), root).run()
    counts = await crawler(Keeper(memory), root, instance="server").run()
    assert (counts.created, counts.deleted) == (0, 0)
    assert [set(one.tags) for one in memory.episodes.values()] == [{"on:server", "doc", "note"}]
    assert not memory.superseded


async def test_a_part_may_be_full_of_tags(root: Path) -> None:
    """Then it is not marked, and everything else goes on."""
    path = write(root / "a.md", section("One") + section("Two"))
    keeper = Keeper(Memory())
    crawl = crawler(keeper, root)
    await crawl.run()
    first, second = sorted(keeper.memory.episodes)
    full = tuple(f"tag {number}" for number in range(MAX_TAGS - 1))
    keeper.memory.episodes[first] = keeper.memory.episodes[first].model_copy(update={"tags": ("on:laptop", *full)})
    path.unlink()
    await crawl.run()
    assert keeper.memory.episodes[first].tags == (*full, "deleted")
    keeper.memory.episodes[first] = keeper.memory.episodes[first].model_copy(update={"tags": (*full, "mine")})
    write(path, section("One") + section("Two"))
    await crawl.run()
    assert keeper.memory.episodes.keys() == {first, second}
    assert "on:laptop" in keeper.memory.episodes[second].tags


async def test_what_is_only_left_out_now_is_not_deleted(root: Path) -> None:
    """A source that is removed, or means less than before, leaves its episodes as they are."""
    write(root / "a.md", section("One"))
    memory = Memory()
    await crawler(Keeper(memory), root).run()
    other = Source(name="notes", kind=SourceKind.NAMED, root=str(root), globs=("*.py",))
    for sources in ((), (other,)):
        counts = await crawler(Keeper(memory), root, *sources, notes=False).run()
        assert counts.deleted == 0
        assert memory.current("on:laptop")


async def test_a_root_that_is_away_deletes_nothing(root: Path) -> None:
    """Nor does one that is empty, as a mount point is."""
    write(root / "a.md", section("One"))
    memory = Memory()
    crawl = crawler(Keeper(memory), root)
    await crawl.run()
    os.rename(root, root.with_name("away"))
    assert (await crawl.run()).deleted == 0
    os.mkdir(root)
    assert (await crawl.run()).deleted == 0
    assert memory.current("on:laptop")


async def test_one_bad_file_stops_no_other(root: Path) -> None:
    """It is counted and named once, and not tried again until it changes."""
    write(root / "a.md", section("One"))
    bad = write(root / "b.py", b"\x00\x01\x02 binary" * 50)
    keeper = Keeper(Memory())
    crawl = crawler(keeper, root)
    counts = await crawl.run()
    assert (counts.created, counts.errors, counts.examples) == (1, {"binary": 1}, {"binary": [str(bad)]})
    assert not (await crawl.run()).errors
    assert [(one.state, one.reason) for one in await crawl.files()] == [("read", None), ("error", "binary")]
    write(bad, section("mended"), 1)
    assert (await crawl.run()).created == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_what_may_not_be_read_is_tried_again(root: Path) -> None:
    """A permission can change without the file."""
    path = write(root / "a.md", section("One"))
    path.chmod(0)
    crawl = crawler(Keeper(Memory()), root)
    assert (await crawl.run()).errors == {"permission": 1}
    path.chmod(0o600)
    assert (await crawl.run()).created == 1


async def test_a_part_that_memory_refuses_is_one_error(root: Path) -> None:
    """All other parts and files are kept, also of the same file."""
    write(root / "a.md", section("One") + section("Two", "Unwelcome words. "))
    write(root / "b.md", section("Three"))
    keeper = Keeper(Memory())
    keeper.refuse = {"Unwelcome"}
    crawl = crawler(keeper, root)
    counts = await crawl.run()
    assert (counts.created, counts.refused, counts.errors) == (2, 1, {"refused": 1})
    assert (await crawl.run()).files_changed == 0


async def test_a_memory_that_takes_nothing_is_at_fault(root: Path) -> None:
    """Then no file is marked as read."""
    for number in range(120):
        write(root / f"{number}.md", section(str(number)))
    keeper = Keeper(Memory())
    keeper.refuse = {"All"}
    crawl = crawler(keeper, root)
    with pytest.raises(Invalid, match="refused all"):
        await crawl.run()
    keeper.refuse = set()
    assert (await crawl.run()).created == 120


async def test_what_a_person_deleted_stays_away(root: Path) -> None:
    """Its part of the file has no episode, and the others can do without it when the file changes."""
    path = write(root / "a.md", section("One") + section("Two"))
    keeper = Keeper(Memory())
    crawl = crawler(keeper, root)
    await crawl.run()
    one, two = sorted(keeper.memory.episodes)
    keeper.memory.delete(one)
    counts = await crawl.run(anew=True)
    assert (counts.blocked, set(keeper.memory.episodes)) == (1, {two})
    write(path, section("One", "Otherwise. "), 1)
    await crawl.run()
    assert keeper.memory.texts() == {path.read_text().strip()}
    assert keeper.memory.superseded.keys() == {two}


async def test_documents_are_tagged_by_patterns(root: Path) -> None:
    """By name and by content, plain and regular; one that takes too long costs its own tags only."""
    write(root / "Invoice 7.txt", "Total due: 40.\n" + "a" * 5000 + "!")
    letters = Source(name="letters", kind=SourceKind.DOCUMENTS, root=str(root))
    patterns = [
        TagPattern(pattern="invoice", where="name", tags=("invoice",)),
        TagPattern(pattern=r"due:\s+\d+", syntax="regex", where="content", tags=("due",)),
        TagPattern(pattern="(a+)+$", syntax="regex", where="content", tags=("never",)),
        TagPattern(pattern="paid", tags=("paid",)),
    ]
    keeper = Keeper(Memory())
    counts = await crawler(keeper, root, letters, patterns=patterns, notes=False).run()
    assert {one.tags for one in keeper.memory.episodes.values()} == {("on:laptop", "doc", "invoice", "due")}
    assert {one.source.kind for one in keeper.memory.episodes.values() if one.source} == {"document"}
    assert counts.errors == {"slow-tag-pattern": 1}


async def test_a_file_written_a_moment_ago_is_looked_at_twice(root: Path) -> None:
    """Clocks of file systems are coarse: it may have changed since without showing it."""
    path = root / "a.md"
    path.write_text(section("One"))
    before = path.stat()
    crawl = crawler(Keeper(memory := Memory()), root)
    await crawl.run()
    with path.open("r+") as file:
        file.write(section("Two"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await crawl.run()
    assert memory.texts() == {section("Two").strip()}


async def test_a_run_may_be_stopped(root: Path) -> None:
    """What was under way is waited for; the next run goes on from there."""
    for number in range(150):
        write(root / f"{number:03}.md", section(str(number)))
    pushing = asyncio.Event()

    class Slow(Keeper):
        async def push(self, batch: EpisodeBatch) -> BatchResult:
            pushing.set()
            await asyncio.sleep(0.05)
            return await super().push(batch)

    keeper = Slow(Memory())
    task = asyncio.create_task(crawler(keeper, root).run())
    await pushing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(keeper.memory.episodes) >= 100
    counts = await crawler(keeper, root).run()
    assert counts.created <= 50
    assert len(keeper.memory.current("on:laptop")) == 150


async def test_runs_of_one_object_wait_for_each_other(root: Path) -> None:
    """A watcher and a scan at once write nothing twice."""
    path = write(root / "a.md", section("One"))
    keeper = Keeper(Memory())
    crawl = crawler(keeper, root)
    counts = await asyncio.gather(crawl.run(), crawl.run({str(path)}), crawl.run())
    assert [one.created for one in counts] == [1, 0, 0]
    assert keeper.calls.count("push") == 1


async def test_names_of_any_bytes_are_kept(root: Path) -> None:
    """A name that is no UTF-8 is read, marked and found again."""
    path = write(root / os.fsdecode(b"caf\xe9.md"), section("One"))
    memory = Memory()
    assert (await crawler(Keeper(memory), root).run()).created == 1
    assert (await crawler(Keeper(memory), root).run()).files_changed == 0
    path.unlink()
    assert (await crawler(Keeper(memory), root).run()).deleted == 1


def test_what_is_known_of_twenty_thousand_files_is_small() -> None:
    """Less than 20 MB, with five parts in each."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    marks = Marks()
    for number in range(20_000):
        identity = f"{number:024x}"
        held = pack([Held(f"ep_file_{identity}_{n}", f"{n:08x}", n * 40 + 1, n * 40 + 39) for n in range(5)], identity)
        path = f"/home/me/projects/project-{number // 40:04}/src/module_{number}.py"
        marks.put(
            Mark(path, "deep", "laptop", "shop", Stamp(1, 10**6 + number, 9000, 17 * 10**17 + number), identity, held)
        )
    documents, _ = marks.changes()
    del marks
    loaded = Marks(documents.values())
    del documents
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(loaded) == 20_000
    assert used < 20 << 20, re.sub(r"(?<=\d)(?=(\d{3})+$)", ",", str(used))
