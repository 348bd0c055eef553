"""Consolidation over every store: what is put together, what is not, and how it is taken back."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pytest

from anamnesis.contracts.base import now
from anamnesis.contracts.consolidate import Consolidated, ConsolidateRequest
from anamnesis.contracts.embedding import EmbeddingModel
from anamnesis.contracts.episodes import EpisodeCreate, EpisodePatch, EpisodeSource, Trust
from anamnesis.kit.errors import BadRequest, Conflict, NotFound
from services.memory.blocklist import Blocks
from services.memory.consolidation.run import Consolidator
from services.memory.door import Door
from services.memory.removal import Remover
from services.memory.search.text import HEAD_END
from services.memory.stores.base import CandidateQuery, Filter, Store, Vectors
from tests.contract.records import START, make_vectors

NAME, WIDTH = "test/told", 32


class Told:
    """Embeds a text by its first word, nearly: texts that begin alike are alike. A line that was added counts much."""

    def __init__(self) -> None:
        self.active = EmbeddingModel(name=NAME, dimension=WIDTH, max_tokens=64, licence="MIT")
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        yield

    async def passages(self, texts: Sequence[str]) -> tuple[str, list[Vectors]]:
        self.asked.set()
        await self.go_on.wait()
        return NAME, [np.stack([vector(window) for window in text.split(HEAD_END)]) for text in texts]


def vector(text: str) -> Vectors:
    """A word is a direction; `river@20` lies 20 degrees beside it; what follows moves it little."""
    first, *rest = text.split()
    word, _, degrees = first.partition("@")
    ahead, side = make_vectors(word, 1, WIDTH)[0], make_vectors("aside", 1, WIDTH)[0]
    side -= (side @ ahead) * ahead
    turned = np.cos(np.radians(float(degrees or 0))) * ahead
    turned += np.sin(np.radians(float(degrees or 0))) * side / np.linalg.norm(side)
    moved = make_vectors(hashlib.sha256(" ".join(rest).encode()).hexdigest(), 1, WIDTH)[0]
    whole = turned + (1.0 if "Happened" in text else 0.02) * moved
    return np.asarray(whole / np.linalg.norm(whole), dtype=np.float32)


@dataclass(frozen=True)
class House:
    """All that consolidation needs, over one store."""

    store: Store
    door: Door
    told: Told
    remover: Remover
    consolidator: Consolidator

    async def write(self, episode_id: str, text: str, raw: str | None = None, **more: object) -> None:
        given = {"instance": "laptop", "project": "p", "timestamp": START, **more}
        session = given.pop("session", None)
        source = EpisodeSource(kind="test", session=session) if session else None
        create = EpisodeCreate.model_validate(
            {"episode_id": episode_id, "summary": text, "raw_exchange": raw, "source": source, **given}
        )
        [result] = await self.door.write([create])
        assert result.status == "created"

    async def run(self, **more: object) -> Consolidated:
        return await self.consolidator.run(ConsolidateRequest.model_validate({"dry_run": False, **more}))

    async def current(self) -> set[str]:
        """What searches see."""
        question = CandidateQuery(NAME, vector("river"), (), Filter(include_superseded=False), 500)
        found = {one.episode_id for one in (await self.store.candidates(question)).found}
        assert found == {one.episode_id for one in (await self.store.page(question.where, 0, 500))[0]}
        return found

    async def superseded(self) -> dict[str, str | None]:
        return {one.episode_id: one.superseded_by for one in (await self.store.page(Filter(), 0, 500))[0]}


@pytest.fixture
async def house(store: Store) -> AsyncIterator[House]:
    with ThreadPoolExecutor(1) as workers:
        told, blocks = Told(), Blocks()
        door = Door(store, blocks, told, workers)
        remover = Remover(store, blocks)
        consolidator = Consolidator(store, door, remover, told)
        await store.prepare(NAME, WIDTH)
        await store.activate(NAME)
        yield House(store, door, told, remover, consolidator)
        await consolidator.close()


async def test_near_duplicates_become_one(house: House) -> None:
    """A dry run says what a run does and changes nothing; the one has the lowest trust, the earliest time and all
    tags; its members are superseded, whole, and no longer found; a second run finds nothing more to do.
    """
    await house.write("a", "river one", tags=("x",), timestamp=START + timedelta(days=2), session="s")
    await house.write("b", "river two", "river and more of it", tags=("y",), trust=Trust.WEB, session="t")
    await house.write("c", "stone three")
    before = await house.superseded()
    said = await house.run(dry_run=True)
    assert await house.superseded() == before
    done = await house.run()
    assert [one.model_copy(update={"episode_id": None}) for one in done.groups] == list(said.groups)
    assert (said.examined, said.superseded, said.complete) == (done.examined, done.superseded, done.complete)
    assert done.examined == 3
    [group] = done.groups
    assert group.members == ("b", "a")
    assert (group.kind, group.project) == ("sources", "p")
    made = (await house.store.get([str(group.episode_id)]))[str(group.episode_id)]
    assert made.summary == group.summary
    assert made.summary.splitlines() == [
        "river two",
        "Happened 2 times from 2026-01-01 to 2026-01-03. Told by: user, web.",
    ]
    assert (made.trust, made.timestamp, made.tags) == (Trust.WEB, START, ("y", "x"))
    assert made.consolidated_from == ("b", "a")
    assert made.embedding_model == NAME
    assert await house.superseded() == {"a": made.episode_id, "b": made.episode_id, "c": None, made.episode_id: None}
    assert await house.current() == {"c", made.episode_id}
    again = await house.run()
    assert (again.groups, again.superseded, again.complete) == ((), 0, True)


async def test_each_two_of_a_group_are_alike(house: House) -> None:
    """B is like A and like C, which are unlike: no run puts A and C together, not even by way of what B became."""
    await house.write("a", "river first")
    await house.write("b", "river@20 second")
    done = await house.run()
    assert [one.members for one in done.groups] == [("a", "b")]
    await house.write("c", "river@40 third")
    assert float(vector("river@40 third") @ vector("river@20 second")) > 0.92
    assert float(vector("river@40 third") @ vector("river first")) < 0.92
    assert (await house.run()).groups == ()


async def test_thresholds_follow_the_origin(house: House) -> None:
    """Within a session more is asked than across; projects never mix."""
    near = float(vector("river x") @ vector("river@20 y"))
    assert 0.92 < near < 0.95
    for project, sessions in (("one", ("s", "s")), ("two", ("s", "t"))):
        await house.write(f"{project}-a", "river x", project=project, session=sessions[0])
        await house.write(f"{project}-b", "river@20 y", project=project, session=sessions[1])
    done = await house.run()
    assert [(one.members, one.kind) for one in done.groups] == [(("two-a", "two-b"), "sources")]
    assert done.groups[0].similarity == pytest.approx(near, abs=1e-4)
    looser = await house.run(within_session=0.92, project_filter="one")
    assert [(one.members, one.kind) for one in looser.groups] == [(("one-a", "one-b"), "session")]


async def test_a_long_text_does_not_vanish_behind_its_opening(house: House) -> None:
    """What says more than its twin stays by itself; with the same in both, the two are one."""
    await house.write("a", "river opening")
    await house.write("b", "river opening too", "stone and much more")
    assert (await house.run()).groups == ()
    await house.write("c", "river opening again", "stone and much the same")
    assert [one.members for one in (await house.run()).groups] == [("b", "c")]


async def test_later_duplicates_join_what_was_made(house: House) -> None:
    """The one that was made and the new one become one again, made from all that ever went into it, counted right."""
    await house.write("a", "river one")
    await house.write("b", "river two")
    first = str((await house.run()).groups[0].episode_id)
    await house.write("c", "river three", timestamp=START + timedelta(days=1))
    [group] = (await house.run()).groups
    assert group.members == (first, "c")
    made = (await house.store.get([str(group.episode_id)]))[str(group.episode_id)]
    assert made.consolidated_from == ("a", "b", first, "c")
    assert "Happened 3 times from 2026-01-01 to 2026-01-02." in made.summary
    assert made.summary.count("Happened") == 1
    assert await house.current() == {made.episode_id}
    with pytest.raises(Conflict):
        await house.consolidator.undo([first])
    assert await house.consolidator.undo([first, made.episode_id]) == 2
    assert await house.current() == {"a", "b", "c"}
    assert (await house.run()).groups == ()


async def test_undoing_gives_back_what_was(house: House) -> None:
    """Its members are current, it is gone without a block, and the same are not put together again; others may be."""
    await house.write("a", "river one")
    await house.write("b", "river two")
    before = await house.superseded()
    made = str((await house.run()).groups[0].episode_id)
    assert await house.consolidator.undo([made]) == 1
    assert await house.superseded() == before
    assert house.door.blocks.page(0, 10).total == 0
    assert (await house.run()).groups == ()
    assert await house.consolidator.undo([made]) == 0  # a lost answer may be asked for again
    await house.write("c", "river three")
    [group] = (await house.run()).groups
    assert "c" in group.members
    assert len(group.members) == 2


async def test_undoing_breaks_nothing_that_came_later(house: House) -> None:
    """Refused, with nothing undone, for what is superseded itself, supersedes others, was not made, or is not there."""
    for name, word in (("a", "river"), ("b", "river"), ("c", "stone"), ("d", "stone"), ("e", "cloud"), ("f", "ember")):
        await house.write(name, f"{word} {name}")
    river, stone = (str(one.episode_id) for one in (await house.run()).groups)
    await house.store.supersede([river], "e")
    for asked in ([river], [stone, river]):
        with pytest.raises(Conflict, match="is superseded by e"):
            await house.consolidator.undo(asked)
    await house.store.supersede([river], None)
    await house.store.supersede(["f"], river)
    with pytest.raises(Conflict, match="supersedes others"):
        await house.consolidator.undo([river])
    with pytest.raises(BadRequest):
        await house.consolidator.undo([stone, "e"])
    with pytest.raises(NotFound):
        await house.consolidator.undo([stone, "never"])
    assert await house.current() == {river, stone, "e"}
    await house.store.supersede(["f"], "e")
    assert await house.consolidator.undo([river, stone]) == 2
    assert await house.current() == {"a", "b", "c", "d", "e"}


async def test_what_is_not_ours_is_left_alone(house: House) -> None:
    """What is superseded, what mirrors a file that others keep current, and what a file left behind."""
    for name, tags in (("a", ()), ("b", ("on:laptop",)), ("c", ("deleted",)), ("d", ())):
        await house.write(name, f"river {name}", tags=tags)
    await house.write("e", "stone")
    await house.store.supersede(["d"], "e")
    assert (await house.run()).groups == ()
    await house.write("f", "river f")
    assert [one.members for one in (await house.run()).groups] == [("a", "f")]


async def test_forgetting_takes_all_that_tells_it(house: House) -> None:
    """A member takes the one with it and leaves the other members; the one takes its members; nothing comes back."""
    for name in "abc":
        await house.write(name, f"river {name}")
    made = str((await house.run()).groups[0].episode_id)
    assert set((await house.remover.forget("a")).episodes) == {"a", made}
    assert await house.current() == {"b", "c"}
    second = str((await house.run()).groups[0].episode_id)
    receipt = await house.remover.forget(second)
    assert set(receipt.episodes) == {"b", "c", second}
    assert await house.superseded() == {}
    create = EpisodeCreate(episode_id="z", instance="laptop", project="p", summary="river b")
    assert (await house.door.write([create]))[0].status == "blocked"


async def test_what_was_deleted_is_not_retold(house: House) -> None:
    """A deleted member is blocked: the one that stands for it goes into no other."""
    await house.write("a", "river one")
    await house.write("b", "river two")
    await house.run()
    await house.remover.delete("a", block=True)
    await house.write("c", "river three")
    for dry_run in (True, False):
        assert (await house.run(dry_run=dry_run)).groups == ()


async def test_only_what_is_new_asks(house: House) -> None:
    """With `since`, groups have a member that was ingested then or later; old ones among themselves wait."""
    for name, word in (("a", "river"), ("b", "river"), ("c", "stone")):
        await house.write(name, f"{word} {name}")
    await asyncio.sleep(0.01)
    since = now()
    await asyncio.sleep(0.01)
    await house.write("d", "stone d")
    assert [one.members for one in (await house.run(since=since)).groups] == [("c", "d")]
    assert (await house.run(since=now() + timedelta(days=1))).groups == ()
    assert [one.members for one in (await house.run()).groups] == [("a", "b")]


async def test_a_run_makes_no_more_than_was_asked_for(house: House) -> None:
    """The limit counts groups, in a dry run as in a run, and says that there are more; the next run goes on."""
    for word in ("river", "stone", "cloud"):
        for name in "ab":
            await house.write(f"{word}-{name}", f"{word} {name}")
    said = await house.run(dry_run=True, limit=2)
    done = await house.run(limit=2)
    assert [one.members for one in done.groups] == [one.members for one in said.groups]
    assert (len(done.groups), done.complete, said.complete) == (2, False, False)
    assert sum(by is not None for by in (await house.superseded()).values()) == 4
    last = await house.run(limit=2)
    assert (len(last.groups), last.complete) == (1, True)


async def test_a_member_that_grows_is_found_again(house: House) -> None:
    """Its text is another then: it is current, beside the one that stands for the others; so it is after a change by
    hand, and after a move to another project.
    """
    for name in "abcd":
        await house.write(name, f"river {name}")
    made = str((await house.run()).groups[0].episode_id)
    grown = EpisodeCreate(episode_id="a", instance="laptop", project="p", summary="stone and nothing else")
    [result] = await house.door.write([grown], "update")
    assert result.status == "updated"
    assert await house.current() == {made, "a"}
    changed = await house.door.patch("b", EpisodePatch(summary="cloud, by hand"))
    assert changed.superseded_by is None
    assert (await house.door.patch("c", EpisodePatch(project="q"))).superseded_by is None
    assert (await house.door.patch("d", EpisodePatch(tags=("t",)))).superseded_by == made
    assert await house.current() == {made, "a", "b", "c"}
    assert await house.superseded() == {"a": None, "b": None, "c": None, "d": made, made: None}


async def test_one_run_at_a_time_and_writers_wait_for_a_moment(house: House) -> None:
    """While one is being written another is refused, a dry one too; who writes a member meanwhile is not lost."""
    await house.write("a", "river one")
    await house.write("b", "river two")
    house.told.asked.clear()
    house.told.go_on.clear()
    going = asyncio.create_task(house.run())
    await house.told.asked.wait()
    for refused in (house.run(dry_run=True), house.consolidator.undo(["x"])):
        with pytest.raises(Conflict, match="under way"):
            await refused
    grown = EpisodeCreate(episode_id="a", instance="laptop", project="p", summary="river one and a half")
    writing = asyncio.create_task(house.door.write([grown], "update"))
    await asyncio.sleep(0.05)
    house.told.go_on.set()
    [group] = (await going).groups
    await writing
    kept = (await house.store.get(["a"]))["a"]
    assert (kept.summary, kept.superseded_by) == ("river one and a half", None)
    assert await house.current() == {"a", str(group.episode_id)}


async def test_a_run_ends_in_time(house: House) -> None:
    """Without time nothing is made, and the answer says that it is not complete."""
    await house.write("a", "river one")
    await house.write("b", "river two")
    hurried = Consolidator(house.store, house.door, house.remover, house.told, seconds=0)
    done = await hurried.run(ConsolidateRequest(dry_run=False))
    await hurried.close()
    assert (done.groups, done.complete) == ((), False)
    assert await house.current() == {"a", "b"}
