"""The SQLite store under what goes wrong: kill -9, full disks, torn logs, other programs, newer versions."""

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from anamnesis.kit.errors import Busy, Invalid, StorageFull, Unavailable
from services.memory.stores import episode_sql
from services.memory.stores.base import CandidateQuery, Candidates, Filter, Removal
from services.memory.stores.index import Change
from services.memory.stores.migrations import APPLICATION_ID, STEPS
from services.memory.stores.rows import prepared
from services.memory.stores.sqlite import SqliteStore
from services.memory.stores.sqlite_file import SqliteFile
from services.memory.stores.writer import _GROUP, Writer
from tests.contract.records import DIMENSION, MODEL, START, make_record, make_vectors

ROOT = Path(__file__).parents[4]

_INSERTING = """
import asyncio, sys
from pathlib import Path
from services.memory.stores.base import Removal
from services.memory.stores.sqlite import SqliteStore
from tests.contract.records import make_record

async def main(path: Path, run: str) -> None:
    store = SqliteStore(path)
    await store.open()
    print("open", flush=True)

    async def client(which: int) -> None:
        turn = 0
        while True:
            names = [f"ep_{run}-{which}-{turn}-{place}" for place in range(1 + turn % 5)]
            await store.insert([make_record(name, windows=2, tags=("t",)) for name in names])
            print("in", *names, flush=True)
            if turn % 7 == 6:
                await store.remove(Removal((names[0],)))
                print("out", names[0], flush=True)
            turn += 1

    await asyncio.gather(*[client(which) for which in range(4)])

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


def _child(path: Path, run: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'shared'}"}
    return subprocess.Popen(
        [sys.executable, "-c", _INSERTING, str(path), run],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def _acknowledged(lines: Sequence[str]) -> tuple[set[str], set[str]]:
    """Ids whose insert was acknowledged and not their removal; ids whose removal was acknowledged."""
    there: set[str] = set()
    gone: set[str] = set()
    for line in lines:
        word, *names = line.split()
        if word == "in":
            there.update(names)
        elif word == "out":
            gone.update(names)
    return there - gone, gone


async def _all_ids(store: SqliteStore) -> list[str]:
    return [one.episode_id async for batch in store.scan(Filter()) for one in batch]


async def _searched_ids(store: SqliteStore) -> set[str]:
    query = CandidateQuery(MODEL, make_vectors("question")[0], (), Filter(), 100_000)
    return {one.episode_id for one in (await store.candidates(query)).found}


@pytest.mark.slow
async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Killed at any moment while four clients write, the store has each acknowledged episode, once, and whole."""
    path = tmp_path / "store.db"
    chance = random.Random(20)
    there: set[str] = set()
    gone: set[str] = set()
    for run in range(6):
        child = _child(path, str(run))
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        await asyncio.sleep(chance.uniform(0.02, 0.5))
        child.send_signal(signal.SIGKILL)
        output = child.stdout.read()
        child.wait(10)
        child.stdout.close()
        whole = output[: output.rfind("\n") + 1].splitlines()
        came, went = _acknowledged(whole)
        there |= came
        gone |= went
        if run % 2:
            continue
        store = SqliteStore(path)
        await store.open()
        try:
            ids = await _all_ids(store)
            assert len(ids) == len(set(ids))
            removing = {name for name in there if name.endswith("-0")}
            # A removal whose acknowledgement was cut off may have happened; nothing else may be missing.
            assert there - removing <= set(ids)
            assert not gone & set(ids)
            assert len(removing - set(ids)) <= 4 * (run + 1)
            assert await _searched_ids(store) == set(ids)
            assert await store.count_missing(MODEL) == 0
        finally:
            await store.close()
    assert len(there) > 50
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


async def test_a_torn_log_costs_only_what_was_never_committed(tmp_path: Path) -> None:
    """A write-ahead log that ends in half a write is read up to its last whole commit."""
    path = tmp_path / "store.db"
    child = _child(path, "x")
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(40)]
    child.kill()
    output = "".join(lines) + child.stdout.read()
    child.wait(10)
    child.stdout.close()
    log = path.with_name("store.db-wal")
    assert log.stat().st_size > 0
    with log.open("ab") as file:
        file.write(random.Random(1).randbytes(4096 + 11))
    there, _ = _acknowledged(output[: output.rfind("\n") + 1].splitlines())
    store = SqliteStore(path)
    await store.open()
    ids = set(await _all_ids(store))
    await store.close()
    assert {name for name in there if not name.endswith("-0")} <= ids


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Four megabytes of disk."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True, text=True, timeout=10
    )
    if made.returncode:
        pytest.skip(f"this user may not mount a small disk: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True, timeout=10)


async def _fill(store: SqliteStore) -> set[str]:
    """Insert until there is no room; the ids that were acknowledged."""
    there: set[str] = set()
    for turn in range(10_000):
        made = {f"ep_{turn}-{which}": f"{turn} {which} " + "x" * 5000 for which in range(4)}
        results = await asyncio.gather(
            *[store.insert([make_record(name, raw_exchange=text)]) for name, text in made.items()],
            return_exceptions=True,
        )
        there |= {name for name, one in zip(made, results, strict=True) if not isinstance(one, BaseException)}
        refused = [one for one in results if isinstance(one, BaseException)]
        if refused:
            assert {type(one) for one in refused} == {StorageFull}
            return there
    pytest.fail("there was room for everything")


async def _still_good(store: SqliteStore, there: set[str]) -> None:
    assert set(await _all_ids(store)) == there
    assert await _searched_ids(store) == there
    await store.ping()


async def test_a_full_disk_is_an_error_and_nothing_else(small_disk: Path) -> None:
    """With no room left a write fails with a clear error; reading goes on, and writing too once there is room."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(400_000))
    store = SqliteStore(small_disk / "store.db")
    await store.open()
    there = await _fill(store)
    assert there
    await _still_good(store, there)
    with pytest.raises(StorageFull):
        await store.write_many("offsets", {str(n): {"text": "x" * 1000} for n in range(2000)})
    ballast.unlink()
    await store.insert([make_record("ep_after")])
    await _still_good(store, there | {"ep_after"})
    await store.close()
    again = SqliteStore(small_disk / "store.db")
    await again.open()
    await _still_good(again, there | {"ep_after"})
    await again.close()


async def test_a_limit_of_bytes_is_a_full_disk(tmp_path: Path) -> None:
    """`max_bytes` is kept: the write that does not fit fails alone, removing makes room again."""
    store = SqliteStore(tmp_path / "store.db", max_bytes=2_000_000)
    await store.open()
    there = await _fill(store)
    await _still_good(store, there)
    assert (tmp_path / "store.db").stat().st_size <= 2_000_000
    gone = sorted(there)[:20]
    assert await store.remove(Removal(tuple(gone))) == (20, 20)
    await store.insert([make_record("ep_after")])
    await _still_good(store, there - set(gone) | {"ep_after"})
    await store.close()


async def test_a_large_write_that_does_not_fit_takes_no_other_with_it(tmp_path: Path) -> None:
    """Of writes that wait together, those that fit are kept although one does not."""
    store = SqliteStore(tmp_path / "store.db", max_bytes=1_000_000)
    await store.open()
    huge = [make_record(f"ep_huge{n}", raw_exchange=f"{n}" + "x" * 50_000) for n in range(100)]
    results = await asyncio.gather(
        *[store.insert([make_record(f"ep_{n}")]) for n in range(5)],
        store.insert(huge),
        *[store.insert([make_record(f"ep_{n}")]) for n in range(5, 10)],
        return_exceptions=True,
    )
    assert [type(one) for one in results] == [list] * 5 + [StorageFull] + [list] * 5
    await _still_good(store, {f"ep_{n}" for n in range(10)})
    await store.close()


async def test_one_bad_write_fails_alone(tmp_path: Path) -> None:
    """In a group that is committed together, a refused write leaves the others whole."""
    store = SqliteStore(tmp_path / "store.db")
    await store.open()
    await store.insert([make_record("ep_first")])
    results = await asyncio.gather(
        *[
            store.insert([make_record(f"ep_{n}"), make_record(f"ep_{n}b", dimension=DIMENSION + (n == 3))])
            for n in range(6)
        ],
        return_exceptions=True,
    )
    assert [isinstance(one, Invalid) for one in results] == [n == 3 for n in range(6)]
    await _still_good(store, {"ep_first"} | {f"ep_{n}{half}" for n in (0, 1, 2, 4, 5) for half in ("", "b")})
    await store.close()


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A database that a newer version has written is not touched, and the error says what is needed."""
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    await store.open()
    await store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    before = path.read_bytes()
    with pytest.raises(Unavailable, match="newer version"):
        await store.open()
    assert path.read_bytes() == before


async def test_foreign_files_are_refused(tmp_path: Path) -> None:
    """Another program's database, or no database at all, is left as it is."""
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
    text = tmp_path / "text.db"
    text.write_text("no database " * 1000)
    for path in (other, text):
        with pytest.raises(Unavailable):
            await SqliteStore(path).open()
    assert text.read_text() == "no database " * 1000
    with contextlib.closing(sqlite3.connect(other)) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("bookmarks",)]
        assert connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,)


async def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    """A path below a file cannot be made."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be opened"):
        await SqliteStore(tmp_path / "file" / "store.db").open()


@pytest.mark.slow
async def test_two_processes_cannot_share_a_database(tmp_path: Path) -> None:
    """While another process has the database open, opening it fails with the reason; afterwards it works."""
    path = tmp_path / "store.db"
    child = _child(path, "other")
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    store = SqliteStore(path)
    try:
        with pytest.raises(Unavailable, match="another process"):
            await store.open()
    finally:
        child.kill()
        child.stdout.close()
        child.wait(10)
    await store.open()
    await store.close()


async def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """Nobody else may read the database, its log or its lock."""
    store = SqliteStore(tmp_path / "new" / "store.db")
    await store.open()
    await store.insert([make_record("ep_a")])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
    await store.close()
    assert set(modes.values()) == {0o600}
    assert "store.db-wal" in modes


def _holding(directory: Path, text: str) -> list[str]:
    return [path.name for path in directory.iterdir() if text.encode() in path.read_bytes()]


def _until_gone(directory: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while _holding(directory, text):
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_removed_text_is_gone_from_the_files(tmp_path: Path) -> None:
    """After a removal neither the database nor its log holds a byte of the text."""
    store = SqliteStore(tmp_path / "store.db")
    await store.open()
    secret = "xyzzy-plugh-unrepeatable"
    await store.insert([make_record("ep_keep"), make_record("ep_gone", summary=secret, raw_exchange=secret * 500)])
    assert _holding(tmp_path, secret) != []
    await store.remove(Removal(("ep_gone",)))
    assert _holding(tmp_path, secret) == []
    await store.close()


async def test_removed_text_leaves_the_log_without_another_write(tmp_path: Path) -> None:
    """A reader keeps removed text in the log; once it has gone an idle store empties the log by itself."""
    store = SqliteStore(tmp_path / "store.db")
    await store.open()
    secret = "xyzzy-plugh-unrepeatable"
    await store.insert([make_record("ep_gone", summary=secret, raw_exchange=secret * 500)])
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM episodes").fetchone()
        await store.remove(Removal(("ep_gone",)))
        assert _holding(tmp_path, secret) != []
    await asyncio.to_thread(_until_gone, tmp_path, secret)
    await store.close()


async def test_counters_share_a_commit(tmp_path: Path) -> None:
    """Hits wait for each other: as many calls at once as a commit takes are one commit, durable when they return."""
    store = SqliteStore(tmp_path / "store.db", linger=25)
    await store.open()
    await store.insert([make_record("ep_a")])
    commits = 0

    def counted(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    writer = store._file._writer
    assert isinstance(writer, Writer)
    writer._connection.set_trace_callback(counted)
    await asyncio.gather(*[store.record_hits({"ep_a": 1}, START) for _ in range(_GROUP)])
    assert commits == 1
    assert (await store.get(["ep_a"]))["ep_a"].retrieval_count == _GROUP
    await store.close()


async def test_writes_at_once_share_commits(tmp_path: Path) -> None:
    """Small writes that wait together are committed together."""
    store = SqliteStore(tmp_path / "store.db")
    await store.open()
    commits = 0

    def counted(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    writer = store._file._writer
    assert isinstance(writer, Writer)
    writer._connection.set_trace_callback(counted)
    await asyncio.gather(*[store.insert([make_record(f"ep_{n}")]) for n in range(200)])
    assert commits < 100
    await _still_good(store, {f"ep_{n}" for n in range(200)})
    await store.close()


async def test_closing_finishes_what_was_accepted(tmp_path: Path) -> None:
    """A write that waits when the store is closed is committed first."""
    store = SqliteStore(tmp_path / "store.db", linger=30)
    await store.open()
    await store.insert([make_record("ep_a")])
    hit = asyncio.create_task(store.record_hits({"ep_a": 1}, START))
    await asyncio.sleep(0.05)
    await store.close()
    await hit
    await store.open()
    assert (await store.get(["ep_a"]))["ep_a"].retrieval_count == 1
    await store.close()


async def test_a_lock_of_another_program_ends_in_an_error(tmp_path: Path) -> None:
    """A writer that another program holds up fails in bounded time; reads go on; afterwards writing works."""
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    await store.open()
    await store.insert([make_record("ep_a")])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        patience, store._timeout = store._timeout, 0.3
        with pytest.raises(Unavailable, match="did not answer"):
            await store.insert([make_record("ep_b")])
        store._timeout = patience
        assert set(await store.get(["ep_a"])) == {"ep_a"}
        other.execute("ROLLBACK")
    await store.insert([make_record("ep_c")])
    assert "ep_c" in await _all_ids(store)
    await store.close()


@pytest.mark.parametrize(
    ("statement", "values", "kind"),
    [
        ("SELECT nothing FROM episodes", (), sqlite3.OperationalError),
        ("INSERT INTO documents VALUES ('k', 'a', 1, NULL), ('k', 'a', 1, NULL)", (), sqlite3.IntegrityError),
        ("SELECT 1 WHERE 1 = ?", (1, 2), sqlite3.ProgrammingError),
    ],
)
async def test_a_mistake_of_ours_is_no_outage(
    tmp_path: Path, statement: str, values: tuple[int, ...], kind: type[sqlite3.Error]
) -> None:
    """A statement that can never work is raised as what it is, not as an outage after which clients try again."""
    store = SqliteStore(tmp_path / "store.db")
    await store.open()
    with pytest.raises(kind):
        await store._write(lambda connection, _: connection.execute(statement, values))
    if statement.startswith("SELECT"):
        with pytest.raises(kind):
            await store._read(lambda connection: connection.execute(statement, values))
    await store.insert([make_record("ep_a")])
    await _still_good(store, {"ep_a"})
    await store.close()


async def test_a_lock_is_an_outage(tmp_path: Path) -> None:
    """A statement that meets a lock is Unavailable: another try makes sense."""
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    await store.open()

    def collide(_: sqlite3.Connection, __: list[Change]) -> None:
        with contextlib.closing(sqlite3.connect(path, timeout=0)) as other:
            other.execute("DELETE FROM episodes")

    with pytest.raises(Unavailable, match="locked"):
        await store._write(collide)
    await store.close()


async def test_waiting_writes_are_bounded(tmp_path: Path) -> None:
    """More writes than the queue holds are turned away at once, and those that were accepted are kept."""
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    await store.open()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writes = asyncio.gather(*[store.write("settings", f"{n:05}", {}) for n in range(1500)], return_exceptions=True)
        await asyncio.sleep(0.2)
        other.execute("ROLLBACK")
    results = await writes
    refused = sum(isinstance(one, Busy) for one in results)
    assert refused >= 1500 - 1024 - 129
    assert len(await store.list("settings")) == 1500 - refused
    await store.close()


async def test_searches_that_wait_are_turned_away_on_closing(tmp_path: Path) -> None:
    """Closing the store ends every search, answered or refused, and leaves none hanging."""
    store = SqliteStore(tmp_path / "store.db")
    await store.open()
    await store.insert([make_record(f"ep_{n}") for n in range(20)])
    query = CandidateQuery(MODEL, make_vectors("question")[0], (), Filter(), 5)
    await store.candidates(query)
    asked = [asyncio.create_task(store.candidates(query)) for _ in range(60)]
    await asyncio.sleep(0)
    await store.close()
    async with asyncio.timeout(5):
        results = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(one, Candidates | Unavailable) for one in results)


async def test_an_index_that_cannot_follow_closes_the_store(tmp_path: Path) -> None:
    """When a committed write cannot reach the index, nothing is answered any more, and a restart has the write."""

    def follow(changes: Sequence[Change]) -> None:
        raise MemoryError

    path = tmp_path / "store.db"
    file = SqliteFile(path, follow, readers=1, linger=0.1, max_bytes=None)
    await asyncio.to_thread(file.open)
    items = [prepared(make_record("ep_a"))]
    write = file.write(lambda connection, changes: episode_sql.insert(connection, changes, items))
    with pytest.raises(Unavailable, match="open the store again"):
        await asyncio.wrap_future(write)
    assert file.trouble is not None
    with pytest.raises(Unavailable):
        await asyncio.wrap_future(file.write(lambda connection, _: connection.execute("SELECT 1").fetchone()))
    await asyncio.to_thread(file.close, 5)
    store = SqliteStore(path)
    await store.open()
    await _still_good(store, {"ep_a"})
    await store.close()
