"""Maps of a store: at once, refined later, new episodes beside those that they are like."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from anamnesis.kit.errors import Unavailable
from services.memory.picture.maps import Asked, Maps
from services.memory.picture.projection import Places
from services.memory.stores.sqlite import SqliteStore
from tests.contract.records import MODEL, make_record

ALL = Asked(MODEL, None, None, 1000)


class Drawer:
    """Draws when it is let: every episode in a row."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.sizes: list[int] = []
        self.fails = False
        self.under_way = 0
        self.most = 0

    async def __call__(self, components: NDArray[np.float64]) -> Places:
        self.sizes.append(len(components))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.go_on.wait()
        finally:
            self.under_way -= 1
        if self.fails:
            raise Unavailable("no paper")
        return np.stack([np.arange(len(components), dtype=np.float64), np.zeros(len(components))], axis=1)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "maps.db")
    await opened.open()
    await opened.activate(MODEL)
    yield opened
    await opened.close()


@pytest.fixture
def drawer() -> Drawer:
    return Drawer()


@pytest.fixture
async def maps(store: SqliteStore, drawer: Drawer) -> AsyncIterator[Maps]:
    made = Maps(store, drawer, fresh=0.0)
    yield made
    await made.close()


async def fill(store: SqliteStore, first: int, last: int) -> None:
    await store.insert(
        [make_record(f"ep_{number:03}", minute=number, project="ab"[number % 2]) for number in range(first, last)]
    )


async def refined(maps: Maps, drawer: Drawer) -> None:
    """Let the drawer finish, and wait until the map knows."""
    drawer.go_on.set()
    async with asyncio.timeout(20):
        while (await maps.get(ALL)).refining:  # noqa: ASYNC110 -- asked as a page does
            await asyncio.sleep(0.01)


async def test_a_store_without_vectors_has_an_empty_map(maps: Maps, store: SqliteStore) -> None:
    """No episode, or none with vectors: no point, no error; a single one lies in the middle."""
    assert (await maps.get(ALL)).episode_id == ()
    await store.insert([make_record("ep_bare", model=None)])
    assert (await maps.get(ALL)).total == 0
    await store.insert([make_record("ep_one")])
    picture = await maps.get(ALL)
    assert (picture.episode_id, picture.x, picture.y, picture.projects) == (("ep_one",), (0.0,), (0.0,), ("atlas",))


async def test_a_map_is_there_at_once_and_clearer_later(maps: Maps, store: SqliteStore, drawer: Drawer) -> None:
    """Principal components come first and say that more is to come; then the refined picture takes their place."""
    await fill(store, 0, 80)
    first = await maps.get(ALL)
    assert (first.method, first.refining, first.total) == ("pca", True, 80)
    assert first.projects == ("a", "b")
    assert [first.projects[number] for number in first.project[:2]] == ["b", "a"]
    await refined(maps, drawer)
    second = await maps.get(ALL)
    assert (second.method, second.refining) == ("tsne", False)
    assert list(second.x) == sorted(second.x)
    assert drawer.sizes == [80]


async def test_new_episodes_join_a_refined_map(maps: Maps, store: SqliteStore, drawer: Drawer) -> None:
    """They show at the next look, beside the others, which keep their order; nothing is refined anew for a few."""
    await fill(store, 0, 80)
    await maps.get(ALL)
    await refined(maps, drawer)
    await fill(store, 80, 84)
    picture = await maps.get(ALL)
    assert (picture.method, len(picture.episode_id)) == ("tsne", 84)
    assert set(picture.episode_id) > {f"ep_{number:03}" for number in range(80, 84)}
    assert drawer.sizes == [80]


async def test_a_map_that_is_mostly_new_is_drawn_anew(maps: Maps, store: SqliteStore, drawer: Drawer) -> None:
    """Where most episodes are not in the refined picture, it no longer stands for them."""
    await fill(store, 0, 60)
    await maps.get(ALL)
    await refined(maps, drawer)
    drawer.go_on.clear()
    await fill(store, 60, 200)
    picture = await maps.get(ALL)
    assert (picture.method, picture.refining) == ("pca", True)
    await asyncio.sleep(0)
    assert drawer.sizes == [60, 200]


async def test_one_map_is_refined_at_a_time(maps: Maps, store: SqliteStore, drawer: Drawer) -> None:
    """Whoever asks for another map meanwhile gets it, unrefined."""
    await fill(store, 0, 160)
    others = [ALL, Asked(MODEL, "a", None, 1000), Asked(MODEL, None, "laptop", 1000)]
    pictures = await asyncio.gather(*map(maps.get, others))
    assert [picture.total for picture in pictures] == [160, 80, 160]
    assert drawer.most == 1


async def test_a_picture_that_cannot_be_refined_stays(maps: Maps, store: SqliteStore, drawer: Drawer) -> None:
    """A failure leaves the map as it was, and is not tried again at every look."""
    drawer.fails = True
    await fill(store, 0, 80)
    await maps.get(ALL)
    await refined(maps, drawer)
    assert [(await maps.get(ALL)).method for _ in range(3)] == ["pca"] * 3
    assert drawer.sizes == [80]


async def test_a_sample_is_the_newest(maps: Maps, store: SqliteStore) -> None:
    """With more episodes than asked for, the newest are drawn and all are counted."""
    await fill(store, 0, 30)
    picture = await maps.get(Asked(MODEL, None, None, 10))
    assert (picture.total, picture.episode_id) == (30, tuple(f"ep_{number:03}" for number in range(29, 19, -1)))


async def test_a_few_episodes_need_no_refining(maps: Maps, store: SqliteStore, drawer: Drawer) -> None:
    """Of a few everybody sees all: no process is started for them."""
    await fill(store, 0, 30)
    assert not (await maps.get(ALL)).refining
    await asyncio.sleep(0)
    assert drawer.sizes == []


async def test_a_map_is_kept_for_a_while(store: SqliteStore, drawer: Drawer) -> None:
    """Within its life a map is given again as it is."""
    maps = Maps(store, drawer, fresh=3600.0)
    await fill(store, 0, 3)
    first = await maps.get(ALL)
    await fill(store, 3, 6)
    assert (await maps.get(ALL)).made_at == first.made_at
    await maps.close()
