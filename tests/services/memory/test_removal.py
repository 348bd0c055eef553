"""Deleting and forgetting over a real store: what goes, what stays away, and answers that are lost."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from anamnesis.contracts.episodes import Episode, EpisodeCreate, ForgetProof, WriteStatus
from anamnesis.kit.errors import NotFound, StorageFull, Unavailable
from services.memory.blocklist import Blocks
from services.memory.door import Door, create_to_episode
from services.memory.removal import Remover
from services.memory.stores.base import BLOCKLIST, Filter, Removal
from services.memory.stores.index import Change
from services.memory.stores.sqlite import SqliteStore

NOTHING = ForgetProof(by_id=0, by_content=0, vectors=0, index=0, blocklist=0)


def _create(episode_id: str, summary: str, project: str = "p") -> EpisodeCreate:
    return EpisodeCreate(episode_id=episode_id, instance="i", project=project, summary=summary)


def _derived(episode_id: str, *origins: str, summary: str | None = None, project: str = "p") -> Episode:
    one = create_to_episode(_create(episode_id, summary or f"Made as {episode_id}.", project))
    return one.model_copy(update={"consolidated_from": origins})


async def _status(door: Door, create: EpisodeCreate) -> WriteStatus:
    return (await door.write([create]))[0].status


@pytest.fixture
def remover(door: Door) -> Remover:
    return Remover(door.store, door.blocks)


async def test_forgetting_takes_the_content_wherever_it_is(door: Door, remover: Remover) -> None:
    """Copies in other projects, what was derived from any of them, and the copies of that."""
    await door.write([_create("root", "One."), _create("copy", "One.", "q"), _create("other", "Two.")])
    await door.restore(
        [
            _derived("child", "copy"),
            _derived("grandchild", "child"),
            _derived("twin", summary="Made as child.", project="q"),
            _derived("of-twin", "twin"),
        ]
    )
    receipt = await remover.forget("root")
    assert set(receipt.episodes) == {"root", "copy", "child", "grandchild", "twin", "of-twin"}
    assert receipt.proof == NOTHING.model_copy(update={"blocklist": 6})
    assert (len(receipt.blocked), receipt.vectors) == (6, 6)
    assert {document.key for document in await door.store.list(BLOCKLIST)} == set(receipt.blocked)
    assert [one.episode_id async for batch in door.store.scan(Filter()) for one in batch] == ["other"]


async def test_what_was_deleted_can_be_forgotten(door: Door, remover: Remover) -> None:
    """After the root is gone its derived episodes and other holders of its content still go, with proof."""
    await door.write([_create("root", "One."), _create("copy", "One.", "q")])
    await door.restore([_derived("child", "root"), _derived("of-copy", "copy")])
    await remover.delete("root", block=True)
    receipt = await remover.forget("root")
    assert set(receipt.episodes) == {"root", "copy", "child", "of-copy"}
    assert receipt.proof == NOTHING.model_copy(update={"blocklist": 4})
    assert receipt.content_hash == create_to_episode(_create("root", "One.")).content_hash
    again = await remover.forget("root")
    assert (again.episodes, again.content_hash) == (("root",), receipt.content_hash)
    assert again.proof == NOTHING.model_copy(update={"blocklist": 1})
    with pytest.raises(NotFound):
        await remover.forget("never-there")
    await door.write([_create("unblocked", "Three.")])
    await remover.delete("unblocked", block=False)
    with pytest.raises(NotFound):
        await remover.forget("unblocked")


async def test_a_receipt_never_says_that_something_is_left(door: Door, tmp_path: Path) -> None:
    """While the index goes on finding it, forgetting is unavailable, and can be repeated until it is not."""

    class Lagging(SqliteStore):
        lag = True

        async def proof(self, episode_ids: Sequence[str], hashes: Sequence[str], blocked: Sequence[str]) -> ForgetProof:
            found = await super().proof(episode_ids, hashes, blocked)
            return found.model_copy(update={"index": int(self.lag)})

    store = Lagging(tmp_path / "lagging.db")
    await store.open()
    await Door(store, Blocks(), door.embedder, door.workers).write([_create("root", "One.")])
    remover = Remover(store, Blocks(), patience=0.0)
    with pytest.raises(Unavailable):
        await remover.forget("root")
    store.lag = False
    assert (await remover.forget("root")).proof == NOTHING.model_copy(update={"blocklist": 1})
    await store.close()


# Answers that are lost --------------------------------------------------------------------------


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Another program holds the lock for writing: the store's writer has begun, and waits for it."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


async def test_a_removal_whose_answer_is_lost_goes_on_to_hold(door: Door, remover: Remover, tmp_path: Path) -> None:
    """It times out and commits later: the text cannot come back, and forgetting it again gives the receipt."""
    await door.write([_create("root", "One.")])
    with _locked(tmp_path / "door.db"), pytest.raises(Unavailable):
        await remover.forget("root")
    for create in (_create("root", "One."), _create("other", "One.")):
        assert await _status(door, create) is WriteStatus.BLOCKED
    assert await door.store.get(["root"]) == {}
    receipt = await remover.forget("root")
    assert receipt.proof == NOTHING.model_copy(update={"blocklist": 1})


async def test_a_removal_that_never_happened_holds_nothing_back(door: Door, remover: Remover) -> None:
    """One that timed out before its turn came: when the store answers again, its entries are taken back."""
    await door.write([_create("root", "One.")])
    assert isinstance(door.store, SqliteStore)
    begun, go_on = threading.Event(), threading.Event()

    def hold(_connection: sqlite3.Connection, _changes: list[Change]) -> None:
        begun.set()
        go_on.wait(60)

    before = door.store._file.write(hold)
    await asyncio.to_thread(begun.wait, 60)
    with pytest.raises(Unavailable):
        await remover.forget("root")
    assert await door.store.get(["root"])
    go_on.set()
    await asyncio.wrap_future(before)
    assert sorted(await door.store.get(["root"])) == ["root"]
    [result] = await door.write([_create("root", "One, and more.")], "update")
    assert result.status is WriteStatus.UPDATED


async def test_an_error_before_a_commit_is_taken_back_at_once(door: Door, tmp_path: Path) -> None:
    """A removal that did not fit on the disk changed nothing, and blocks nothing."""

    class Full(SqliteStore):
        async def remove(self, removal: Removal) -> tuple[int, int]:
            raise StorageFull("no room")

    store = Full(tmp_path / "full.db")
    await store.open()
    full = Door(store, Blocks(), door.embedder, door.workers)
    await full.write([_create("root", "One.")])
    with pytest.raises(StorageFull):
        await Remover(store, full.blocks).forget("root")
    assert full.blocks.page(0, 10).total == 0
    await store.close()
