"""Counts of use: how far they let an episode sink, what is held of them, and writes that fail."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.usefulness import EpisodeVerdict, Verdict
from anamnesis.kit.errors import Busy, Unavailable
from services.memory.stores.base import USEFULNESS, Removal
from services.memory.stores.sqlite import SqliteStore
from services.memory.usefulness import MAX_WAITING, Counts, Usefulness
from tests.contract.records import make_record

AT = datetime(2026, 5, 1, tzinfo=UTC)
USED, UNUSED, HELPFUL, UNHELPFUL = Verdict.USED, Verdict.UNUSED, Verdict.HELPFUL, Verdict.UNHELPFUL


class Slow(SqliteStore):
    """Writes when it is let go on, or fails."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.fails = False
        self.writes = 0

    async def write_many(self, kind: str, values: Mapping[str, JsonObject]) -> None:
        self.asked.set()
        await self.go_on.wait()
        if self.fails:
            raise Unavailable("the disk is away")
        self.writes += 1
        await super().write_many(kind, values)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Slow]:
    opened = Slow(tmp_path / "use.db")
    await opened.open()
    await opened.insert([make_record(f"ep_{name}") for name in "abcdef"])
    yield opened
    await opened.close()


def _counts(*verdicts: Verdict) -> Counts:
    counts = Counts()
    for verdict in verdicts:
        counts = counts.plus(verdict, AT)
    return counts


def _said(verdict: Verdict, *names: str) -> list[EpisodeVerdict]:
    return [EpisodeVerdict(episode_id=f"ep_{name}", verdict=verdict) for name in names]


def test_nothing_sinks_before_the_third_time() -> None:
    """Twice in vain is chance; a person's word against it counts as two times."""
    assert _counts().unused == _counts(UNUSED, UNUSED).unused == _counts(UNHELPFUL).unused == 0.0
    assert 0.0 < _counts(UNUSED, UNUSED, UNUSED).unused == _counts(UNUSED, UNHELPFUL).unused < 0.2


@given(st.lists(st.sampled_from([UNUSED, UNHELPFUL]), max_size=60), st.sampled_from([USED, HELPFUL]))
def test_it_grows_to_a_bound_and_is_taken_back(verdicts: list[Verdict], good: Verdict) -> None:
    """Each time in vain lets it sink further, never as far as 1; once of use, it stands as if nothing had been."""
    values = [_counts(*verdicts[:number]).unused for number in range(len(verdicts) + 1)]
    assert values == sorted(values)
    assert values[-1] < 1.0
    assert _counts(*verdicts, good).unused == _counts(good, *verdicts).unused == 0.0


def test_only_what_was_measured_counts_as_put_forward() -> None:
    """What a person says adds no injection."""
    assert _counts(USED, UNUSED, HELPFUL, UNHELPFUL) == Counts(2, 1, 1, 1, AT)


async def test_only_episodes_are_counted(store: Slow) -> None:
    """A verdict on what is no episode is left out and not kept."""
    usefulness = Usefulness(store)
    assert await usefulness.report([*_said(USED, "a", "b"), *_said(USED, "nowhere")]) == 2
    assert [one.key for one in await store.list(USEFULNESS)] == ["ep_a", "ep_b"]


async def test_reports_that_come_together_share_a_write(store: Slow) -> None:
    """While one is written, all that come wait for the next write; each is counted, none twice."""
    usefulness = Usefulness(store)
    store.go_on.clear()
    reports = [asyncio.create_task(usefulness.report(_said(UNUSED, "a", "b")))]
    await store.asked.wait()
    reports += [asyncio.create_task(usefulness.report(_said(UNUSED, "a"))) for _ in range(20)]
    await asyncio.sleep(0)
    store.go_on.set()
    assert await asyncio.gather(*reports) == [2] + [1] * 20
    assert store.writes == 2
    assert (await usefulness.summary()).injected == 22
    assert {one.key: one.value["injected"] for one in await store.list(USEFULNESS)} == {"ep_a": 21, "ep_b": 1}


async def test_what_could_not_be_kept_is_not_counted(store: Slow) -> None:
    """A report that fails is told so, and sent again it counts once."""
    usefulness = Usefulness(store)
    store.fails = True
    with pytest.raises(Unavailable):
        await usefulness.report(_said(UNHELPFUL, "a", "a"))
    assert usefulness.unused(["ep_a"]) == {}
    store.fails = False
    await usefulness.report(_said(UNHELPFUL, "a", "a"))
    assert (await usefulness.summary()).unhelpful == 2


async def test_reports_that_wait_are_bounded(store: Slow) -> None:
    """A store that stands still makes reporters come again later, and takes no memory for them."""
    usefulness = Usefulness(store)
    store.go_on.clear()
    first = asyncio.create_task(usefulness.report(_said(USED, "a")))
    await store.asked.wait()
    waiting = asyncio.create_task(usefulness.report(_said(USED, *"b" * MAX_WAITING)))
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await usefulness.report(_said(USED, "c"))
    store.go_on.set()
    assert await first == 1
    assert await waiting == MAX_WAITING


async def test_counts_do_not_outlive_their_episode(store: Slow) -> None:
    """Also where the episode goes while they are being written."""
    usefulness = Usefulness(store)
    await usefulness.report(_said(UNUSED, *"aaab"))
    store.go_on.clear()
    store.asked.clear()
    report = asyncio.create_task(usefulness.report(_said(UNUSED, "a", "b")))
    await store.asked.wait()
    await store.remove(Removal(("ep_a",)))
    usefulness.removed(["ep_a"])
    store.go_on.set()
    await report
    assert [one.key for one in await store.list(USEFULNESS)] == ["ep_b"]
    summary = await usefulness.summary()
    assert (summary.injected, [one.episode_id for one in summary.never_used]) == (2, ["ep_b"])
    assert usefulness.unused(["ep_a", "ep_b"]) == {}


async def test_what_is_held_is_bounded(store: Slow) -> None:
    """Beyond the bound those that were reported longest ago do not sink, but nothing is lost of any count."""
    usefulness = Usefulness(store, most=2)
    for name in "abc":
        await usefulness.report(_said(UNUSED, *(name * 4)))
    assert set(usefulness.unused(["ep_a", "ep_b", "ep_c"])) == {"ep_b", "ep_c"}
    await usefulness.report(_said(UNUSED, "a"))
    assert (await usefulness.summary()).injected == 13
    again = Usefulness(store)
    await again.load()
    assert (await again.summary()).injected == 13
    assert [(one.episode_id, one.injected) for one in (await again.summary()).never_used] == [
        ("ep_a", 5),
        ("ep_c", 4),
        ("ep_b", 4),
    ]
