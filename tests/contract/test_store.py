"""What every store must do: one body over all of them. Searching is in `test_store_search`."""

import asyncio
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.episodes import ForgetProof
from anamnesis.kit.errors import Conflict, Invalid, NotFound, Unavailable
from services.memory.stores.base import BLOCKLIST, SCAN_BYTES, USEFULNESS, Edit, Filter, Inserted, Removal, Store
from tests.contract.conftest import MakeStore
from tests.contract.oracle import passes
from tests.contract.records import DIMENSION, MODEL, OTHER, START, make_record, make_vectors

CREATED = Inserted(created=True)


async def _scanned(store: Store, where: Filter, batch: int) -> list[str]:
    return [episode.episode_id async for found in store.scan(where, batch) for episode in found]


# Writing ----------------------------------------------------------------------------------------


async def test_gives_back_what_it_was_given(store: Store) -> None:
    """An episode with every field set comes back equal to what went in."""
    record = make_record(
        "ep_full",
        raw_exchange="USER: päivää 日本語\nASSISTANT: ok",
        tags=("zeta", "alpha"),
        session="s",
        position=2**53 - 1,
        superseded_by="ep_other",
        consolidated_from=("ep_a", "ep_b"),
        retrieval_count=7,
        last_retrieved=START + timedelta(milliseconds=123),
    )
    assert await store.insert([record]) == [CREATED]
    assert await store.get(["ep_full", "ep_absent"]) == {"ep_full": record.episode}
    vectors = await store.vectors(MODEL, ["ep_full", "ep_absent"])
    assert list(vectors) == ["ep_full"]
    assert record.vectors is not None
    np.testing.assert_array_equal(vectors["ep_full"], record.vectors)


async def test_an_id_is_taken_once(store: Store) -> None:
    """A second record of the same id is left out and named, and changes nothing."""
    first = make_record("ep_a", summary="one")
    await store.insert([first])
    assert await store.insert([make_record("ep_a", summary="two")]) == [Inserted(False, "ep_a")]
    assert (await store.get(["ep_a"]))["ep_a"] == first.episode


async def test_content_is_taken_once_in_a_project(store: Store) -> None:
    """The same content under another id is a duplicate within its project, and none in another project."""
    await store.insert([make_record("ep_a", summary="same")])
    results = await store.insert(
        [make_record("ep_b", summary="same"), make_record("ep_c", summary="same", project="other")]
    )
    assert results == [Inserted(False, "ep_a"), CREATED]
    assert set(await store.get(["ep_a", "ep_b", "ep_c"])) == {"ep_a", "ep_c"}


async def test_duplicates_within_one_call_are_found(store: Store) -> None:
    """Between records of one call, the first of an id and of a content stands."""
    results = await store.insert(
        [
            make_record("ep_a", summary="one"),
            make_record("ep_a", summary="two"),
            make_record("ep_b", summary="one"),
            make_record("ep_c", summary="three"),
        ]
    )
    assert results == [CREATED, Inserted(False, "ep_a"), Inserted(False, "ep_a"), CREATED]


async def test_writers_at_once_create_an_id_once(store: Store) -> None:
    """Of many inserts of one id at the same time, one creates it."""
    results = await asyncio.gather(
        *[store.insert([make_record("ep_a", summary=f"text {number}")]) for number in range(12)]
    )
    assert sorted(result.created for (result,) in results) == [False] * 11 + [True]


async def test_nothing_to_insert_is_fine(store: Store) -> None:
    """Empty calls answer empty."""
    assert await store.insert([]) == []
    assert await store.replace([]) == []
    assert await store.get([]) == {}
    assert await store.find_content([]) == {}
    assert await store.vectors(MODEL, []) == {}
    await store.put_vectors(MODEL, {})
    await store.record_hits({}, START)
    await store.write_many("settings", {})
    assert await store.remove(Removal(())) == (0, 0)
    assert await store.supersede([], None) == 0


async def test_replace_changes_text_and_keeps_history(store: Store) -> None:
    """A replacement brings all its own fields; counters, successor and time of ingestion stay."""
    await store.insert([make_record("ep_a", summary="old", tags=("x",), retrieval_count=3, superseded_by="ep_z")])
    await store.record_hits({"ep_a": 2}, START + timedelta(hours=1))
    before = (await store.get(["ep_a"]))["ep_a"]
    new = make_record("ep_a", summary="new", tags=("y",), minute=5, project="moved", session="s", position=1, windows=3)
    later = new.episode.model_copy(update={"ingested_at": START + timedelta(days=200)})
    assert await store.replace([new._replace(episode=later), make_record("ep_absent")]) == [True, False]
    after = (await store.get(["ep_a", "ep_absent"]))["ep_a"]
    assert after == new.episode.model_copy(
        update={
            "retrieval_count": 5,
            "last_retrieved": before.last_retrieved,
            "superseded_by": "ep_z",
            "ingested_at": before.ingested_at,
        }
    )
    assert await store.page(Filter(tags=("x",)), 0, 10) == ([], 0)
    assert (await store.vectors(MODEL, ["ep_a"]))["ep_a"].shape == (3, DIMENSION)
    assert await store.find_content([("atlas", before.content_hash), ("moved", after.content_hash)]) == {
        ("moved", after.content_hash): "ep_a"
    }


async def test_replace_drops_vectors_of_other_models(store: Store) -> None:
    """Vectors by another model belong to the old text and go with it; so do its own when none come."""
    await store.insert([make_record("ep_a"), make_record("ep_b")])
    await store.put_vectors(
        OTHER,
        {
            name: (episode.content_hash, make_vectors(name, 2, 4))
            for name, episode in (await store.get(["ep_a", "ep_b"])).items()
        },
    )
    await store.replace([make_record("ep_a", summary="new"), make_record("ep_b", summary="newer", model=None)])
    assert list(await store.vectors(OTHER, ["ep_a", "ep_b"])) == []
    assert list(await store.vectors(MODEL, ["ep_a", "ep_b"])) == ["ep_a"]
    assert (await store.get(["ep_b"]))["ep_b"].embedding_model is None


async def test_finds_content_by_project_and_hash(store: Store) -> None:
    """Only pairs that exist are answered."""
    record = make_record("ep_a")
    await store.insert([record])
    content = record.episode.content_hash
    asked = [("atlas", content), ("other", content), ("atlas", "0" * 64)]
    assert await store.find_content(asked) == {("atlas", content): "ep_a"}


async def test_removal_leaves_nothing(store: Store) -> None:
    """Episodes, their vectors of all models and their tags go; the blocklist entry comes in the same write."""
    await store.insert([make_record("ep_a", windows=2, tags=("t",)), make_record("ep_b")])
    kept = (await store.get(["ep_a"]))["ep_a"]
    await store.put_vectors(OTHER, {"ep_a": (kept.content_hash, make_vectors("x", 3, 4))})
    removed = await store.remove(Removal(("ep_a", "ep_absent"), {"block-1": {"episode_id": "ep_a"}}))
    assert removed == (1, 5)
    assert set(await store.get(["ep_a", "ep_b"])) == {"ep_b"}
    assert await store.vectors(MODEL, ["ep_a"]) == {}
    assert await store.vectors(OTHER, ["ep_a"]) == {}
    assert await store.page(Filter(tags=("t",)), 0, 10) == ([], 0)
    assert [(entry.key, entry.value) for entry in await store.list(BLOCKLIST)] == [("block-1", {"episode_id": "ep_a"})]
    proof = await store.proof(["ep_a"], [kept.content_hash], ["block-1", "block-2"])
    assert proof == ForgetProof(by_id=0, by_content=0, vectors=0, index=0, blocklist=1)


async def test_removal_revives_what_was_superseded(store: Store) -> None:
    """What only a removed episode had superseded is current again."""
    await store.insert([make_record(name) for name in ("ep_a", "ep_b", "ep_c")])
    await store.supersede(["ep_a"], "ep_b")
    await store.supersede(["ep_b"], "ep_c")
    await store.remove(Removal(("ep_b",)))
    kept = await store.get(["ep_a", "ep_c"])
    assert kept["ep_a"].superseded_by is None
    assert (await store.page(Filter(include_superseded=False), 0, 10))[1] == 2


async def test_an_id_can_come_back_after_removal(store: Store) -> None:
    """A removed id and content are free again, without anything of the old ones."""
    await store.insert([make_record("ep_a", windows=3)])
    await store.record_hits({"ep_a": 4}, START)
    await store.remove(Removal(("ep_a",)))
    again = make_record("ep_a", model=None)
    assert await store.insert([again]) == [CREATED]
    assert (await store.get(["ep_a"]))["ep_a"] == again.episode
    assert await store.vectors(MODEL, ["ep_a"]) == {}


async def test_proof_counts_what_is_left(store: Store) -> None:
    """Ids, content, vectors, hits of the index and stored blocks that are still there are counted."""
    record = make_record("ep_a", windows=2)
    await store.insert([record, make_record("ep_b", summary=record.episode.summary, project="other")])
    await store.write(BLOCKLIST, "block-1", {})
    asked = (["ep_a", "ep_absent"], [record.episode.content_hash], ["block-1", "block-2"])
    async with asyncio.timeout(60):
        while (found := await store.proof(*asked)).index == 0:  # noqa: ASYNC110 - a server's index follows with a lag
            await asyncio.sleep(0.05)
    assert found == ForgetProof(by_id=1, by_content=2, vectors=2, index=1, blocklist=1)
    assert await store.proof([], [], []) == ForgetProof(by_id=0, by_content=0, vectors=0, index=0, blocklist=0)


async def test_holders_of_content_are_found_in_every_project(store: Store) -> None:
    """All episodes of some contents, in order of id, whichever projects hold them."""
    first, other = make_record("ep_b", summary="same"), make_record("ep_c", summary="other")
    await store.insert([first, make_record("ep_a", summary="same", project="elsewhere"), other, make_record("ep_d")])
    assert await store.holding([first.episode.content_hash]) == ["ep_a", "ep_b"]
    assert await store.holding([other.episode.content_hash, first.episode.content_hash]) == ["ep_a", "ep_b", "ep_c"]
    assert await store.holding(["0" * 64]) == await store.holding([]) == []


async def test_derived_follows_every_generation(store: Store) -> None:
    """Episodes consolidated from one, directly or through others, are found, cycles or not, without itself."""
    await store.insert(
        [
            make_record("ep_a", consolidated_from=("ep_d",)),
            make_record("ep_b", consolidated_from=("ep_a", "ep_x")),
            make_record("ep_c", consolidated_from=("ep_b",)),
            make_record("ep_d", consolidated_from=("ep_c",)),
            make_record("ep_e", consolidated_from=("ep_x",)),
        ]
    )
    assert sorted(await store.derived("ep_a")) == ["ep_b", "ep_c", "ep_d"]
    assert await store.derived("ep_e") == []


async def test_supersede_counts_changes(store: Store) -> None:
    """Marking and unmarking answer with how many really changed."""
    await store.insert([make_record(name) for name in ("ep_a", "ep_b", "ep_c")])
    assert await store.supersede(["ep_a", "ep_b", "ep_absent"], "ep_c") == 2
    assert await store.supersede(["ep_a", "ep_b"], "ep_c") == 0
    assert (await store.get(["ep_a"]))["ep_a"].superseded_by == "ep_c"
    assert (await store.page(Filter(include_superseded=False), 0, 10))[1] == 1
    assert await store.supersede(["ep_a", "ep_c"], None) == 1
    assert (await store.get(["ep_a"]))["ep_a"].superseded_by is None


async def test_supersession_makes_no_circle(store: Store) -> None:
    """What supersedes must exist, and must not be superseded by what it supersedes, however far along."""
    await store.insert([make_record(name) for name in ("ep_a", "ep_b", "ep_c", "ep_d")])
    assert await store.supersede(["ep_a"], "ep_b") == 1
    assert await store.supersede(["ep_b"], "ep_c") == 1
    for superseded, by in ((["ep_b"], "ep_a"), (["ep_d", "ep_c"], "ep_a"), (["ep_d"], "ep_d")):
        with pytest.raises(Conflict):
            await store.supersede(superseded, by)
    with pytest.raises(NotFound):
        await store.supersede(["ep_d"], "ep_absent")
    kept = await store.get(["ep_a", "ep_b", "ep_c", "ep_d"])
    assert [kept[name].superseded_by for name in sorted(kept)] == ["ep_b", "ep_c", None, None]
    assert await store.supersede(["ep_b"], None) == 1
    assert await store.supersede(["ep_c"], "ep_a") == 1


async def test_supersessions_at_once_make_no_circle(store: Store) -> None:
    """Of many that would close a circle together, one at least is refused."""
    names = [f"ep_{number}" for number in range(4)]
    await store.insert([make_record(name) for name in names])
    asked = [store.supersede([one], by) for one, by in zip(names, [*names[1:], names[0]], strict=True)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 1
    assert (await store.page(Filter(include_superseded=False), 0, 10))[1] == 1


async def test_a_scan_is_bounded_by_bytes(store: Store) -> None:
    """However many are asked for, a batch holds little more than its bound of text, and none is left out."""
    await store.insert(
        [make_record(f"ep_{number:02}", raw_exchange=str(number % 10) * 900_000) for number in range(12)]
    )
    sizes = [sum(len(one.raw_exchange or "") for one in batch) async for batch in store.scan(Filter())]
    assert sum(sizes) == 12 * 900_000
    assert max(sizes) < SCAN_BYTES + 900_000


async def test_hits_add_up(store: Store) -> None:
    """Counters grow by what is recorded, the last time is the latest, unknown ids are passed over."""
    await store.insert([make_record("ep_a"), make_record("ep_b")])
    late, early = START + timedelta(hours=2), START + timedelta(hours=1)
    await store.record_hits({"ep_a": 2, "ep_absent": 9}, late)
    await store.record_hits({"ep_a": 1, "ep_b": 1}, early)
    kept = await store.get(["ep_a", "ep_b"])
    assert (kept["ep_a"].retrieval_count, kept["ep_a"].last_retrieved) == (3, late)
    assert (kept["ep_b"].retrieval_count, kept["ep_b"].last_retrieved) == (1, early)


@pytest.mark.parametrize(
    "vectors",
    [np.zeros((0, DIMENSION)), np.zeros(DIMENSION), np.full((1, DIMENSION), np.nan)],
    ids=["no window", "no table", "not a number"],
)
async def test_vectors_that_mean_nothing_are_refused(store: Store, vectors: NDArray[np.float64]) -> None:
    """Empty, flat or non-finite vectors are an error of the caller and leave nothing behind."""
    with pytest.raises(Invalid):
        await store.insert([make_record("ep_a", vectors=vectors.astype(np.float32))])
    assert await store.get(["ep_a"]) == {}


async def test_a_model_keeps_its_dimension(store: Store) -> None:
    """Vectors of another dimension than the model's are refused, whole call and all."""
    await store.insert([make_record("ep_a")])
    with pytest.raises(Invalid):
        await store.insert([make_record("ep_b"), make_record("ep_c", dimension=DIMENSION + 1)])
    with pytest.raises(Invalid):
        await store.prepare(MODEL, DIMENSION + 1)
    assert set(await store.get(["ep_a", "ep_b", "ep_c"])) == {"ep_a"}
    await store.prepare(MODEL, DIMENSION)


# Reading ----------------------------------------------------------------------------------------


async def test_pages_are_newest_first_with_ties_by_id(store: Store) -> None:
    """Pages join to the whole, in one order, each with the total."""
    await store.insert([make_record(f"ep_{number:02}", minute=number // 3) for number in range(10)])
    expected = [f"ep_{number:02}" for number in sorted(range(10), key=lambda number: (-(number // 3), number))]
    found: list[str] = []
    for skip in range(0, 12, 4):
        episodes, total = await store.page(Filter(), skip, 4)
        assert total == 10
        found += [episode.episode_id for episode in episodes]
    assert found == expected


_POOL = [
    make_record(
        f"ep_{number:03}",
        project=("atlas", "borealis", "Ärger % _")[number % 3],
        instance=("laptop", "desk")[number % 2],
        minute=number // 2,
        tags=[tag for place, tag in enumerate(("red", "green", "blue")) if number >> place & 1],
        superseded_by="ep_000" if number % 5 == 4 else None,
    )
    for number in range(48)
]

filters = st.builds(
    Filter,
    project=st.sampled_from([None, "atlas", "borealis", "Ärger % _", "absent"]),
    instance=st.sampled_from([None, "laptop", "desk"]),
    tags=st.lists(st.sampled_from(["red", "green", "blue", "absent"]), max_size=2).map(tuple),
    since=st.none() | st.integers(-1, 25).map(lambda minute: START + timedelta(minutes=minute)),
    until=st.none() | st.integers(-1, 25).map(lambda minute: START + timedelta(minutes=minute, milliseconds=1)),
    include_superseded=st.booleans(),
)
once = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@once
@given(where=filters, skip=st.integers(0, 20), limit=st.integers(1, 20), batch=st.integers(1, 20))
async def test_every_filter_reads_what_it_says(store: Store, where: Filter, skip: int, limit: int, batch: int) -> None:
    """Pages, totals and scans hold exactly the episodes that a plain loop would pick, in order."""
    if (await store.page(Filter(), 0, 1))[1] == 0:
        await store.insert(_POOL)
    wanted = [record.episode for record in _POOL if passes(record, where)]
    assert await _scanned(store, where, batch) == [episode.episode_id for episode in wanted]
    ordered = sorted(wanted, key=lambda episode: (-episode.timestamp.timestamp(), episode.episode_id))
    assert await store.page(where, skip, limit) == (ordered[skip : skip + limit], len(wanted))


async def test_a_scan_is_in_order_while_others_write(store: Store) -> None:
    """A scan meets each episode once that was there throughout, whatever is written meanwhile."""
    await store.insert([make_record(f"ep_m{number:02}") for number in range(20)])
    seen: list[str] = []
    async for batch in store.scan(Filter(), 3):
        seen += [episode.episode_id for episode in batch]
        turn = len(seen)
        await store.insert([make_record(f"ep_a{turn}"), make_record(f"ep_z{turn:03}")])
        await store.replace([make_record(f"ep_m{turn % 20:02}", summary=f"changed at {turn}")])
        if turn > 60:
            break
    assert seen == sorted(set(seen))
    assert {f"ep_m{number:02}" for number in range(20)} <= set(seen)
    assert not any(name.startswith("ep_a") for name in seen)


async def test_stats_count_everything(store: Store) -> None:
    """Totals, projects, instances and the span of event time."""
    empty = await store.stats(MODEL)
    assert (empty.episodes, empty.projects, empty.earliest, empty.latest) == (0, (), None, None)
    await store.insert(
        [
            make_record("ep_a", minute=3, instance="desk"),
            make_record("ep_b", minute=1, model=None),
            make_record("ep_c", minute=2, project="borealis", superseded_by="ep_a"),
        ]
    )
    stats = await store.stats(MODEL)
    assert (stats.episodes, stats.superseded, stats.without_vectors) == (3, 1, 1)
    assert sorted((one.name, one.episodes, one.latest) for one in stats.projects) == [
        ("atlas", 2, START + timedelta(minutes=3)),
        ("borealis", 1, START + timedelta(minutes=2)),
    ]
    assert sorted((one.name, one.episodes) for one in stats.instances) == [("desk", 1), ("laptop", 2)]
    assert (stats.earliest, stats.latest) == (START + timedelta(minutes=1), START + timedelta(minutes=3))
    assert stats.bytes_on_disk is None or stats.bytes_on_disk > 0


# Re-embedding -----------------------------------------------------------------------------------


async def test_missing_vectors_are_listed_in_order_of_id(store: Store) -> None:
    """What lacks vectors of a model is found in order, and no more once it has them."""
    await store.insert([make_record(f"ep_{number}") for number in range(6)])
    assert await store.missing(MODEL, 10) == []
    assert await store.count_missing(OTHER) == 6
    first = await store.missing(OTHER, 2)
    assert [episode.episode_id for episode in first] == ["ep_0", "ep_1"]
    await store.put_vectors(
        OTHER, {one.episode_id: (one.content_hash, make_vectors(one.episode_id, 1, 4)) for one in first}
    )
    assert [episode.episode_id for episode in await store.missing(OTHER, 2)] == ["ep_2", "ep_3"]
    assert await store.count_missing(OTHER) == 4


async def test_what_is_written_behind_a_re_embedding_is_missing(store: Store) -> None:
    """An episode added or changed below those that were done already is not passed over."""
    await store.insert([make_record(f"ep_{number}") for number in range(4)])
    for one in await store.missing(OTHER, 10):
        await store.put_vectors(OTHER, {one.episode_id: (one.content_hash, make_vectors(one.episode_id, 1, 4))})
    assert await store.missing(OTHER, 10) == []
    await store.insert([make_record("ep_00")])
    await store.replace([make_record("ep_1", summary="changed")])
    assert [one.episode_id for one in await store.missing(OTHER, 10)] == ["ep_00", "ep_1"]
    await store.put_vectors(OTHER, {"ep_00": (make_record("ep_00").episode.content_hash, make_vectors("x", 1, 4))})
    await store.remove(Removal(("ep_1",)))
    assert await store.missing(OTHER, 10) == []
    assert await store.drop_vectors(OTHER) == 4
    assert await store.count_missing(OTHER) == 4
    assert [one.episode_id for one in await store.missing(OTHER, 10)] == ["ep_0", "ep_00", "ep_2", "ep_3"]


async def test_vectors_of_old_text_are_left_out(store: Store) -> None:
    """Vectors made from a text that has changed since, or of an episode that is gone, are not kept."""
    old = make_record("ep_a", model=None)
    await store.insert([old])
    await store.replace([make_record("ep_a", summary="changed meanwhile", model=None)])
    items = {name: (old.episode.content_hash, make_vectors(name)) for name in ("ep_a", "ep_gone")}
    await store.put_vectors(MODEL, items)
    assert await store.vectors(MODEL, ["ep_a", "ep_gone"]) == {}
    assert await store.count_missing(MODEL) == 1


async def test_switching_models_loses_nothing(store: Store) -> None:
    """Vectors stand side by side; an episode names the model that is active, then the one that is left."""
    record = make_record("ep_a", windows=2)
    await store.insert([record])
    await store.activate(MODEL)
    await store.prepare(OTHER, 4)
    await store.put_vectors(OTHER, {"ep_a": (record.episode.content_hash, make_vectors("x", 3, 4))})
    assert (await store.get(["ep_a"]))["ep_a"].embedding_model == MODEL
    await store.activate(OTHER)
    assert (await store.get(["ep_a"]))["ep_a"].embedding_model == OTHER
    assert (await store.vectors(MODEL, ["ep_a"]))["ep_a"].shape == (2, DIMENSION)
    assert await store.drop_vectors(MODEL) == 2
    assert await store.vectors(MODEL, ["ep_a"]) == {}
    assert (await store.vectors(OTHER, ["ep_a"]))["ep_a"].shape == (3, 4)


async def test_a_dropped_model_may_come_back_in_another_size(store: Store) -> None:
    """Once its vectors are dropped, a model is no longer held to their dimension."""
    record = make_record("ep_a")
    await store.insert([record])
    await store.activate(MODEL)
    await store.drop_vectors(MODEL)
    await store.prepare(MODEL, 5)
    await store.put_vectors(MODEL, {"ep_a": (record.episode.content_hash, make_vectors("x", 1, 5))})
    assert (await store.vectors(MODEL, ["ep_a"]))["ep_a"].shape == (1, 5)


# State documents --------------------------------------------------------------------------------


async def test_documents_count_their_versions(store: Store) -> None:
    """A document is read as it was written, and every write adds one to its version."""
    value: JsonObject = {"n": 1, "f": 0.5, "list": [None, True, "ü"], "deep": {"a.b": {"$c": []}}, "big": 2**53}
    assert await store.read("settings", "a") is None
    assert await store.write("settings", "a", value) == 1
    assert await store.write("settings", "a", {"n": 2}) == 2
    await store.write_many("settings", {"a": value, "b": {}})
    found = await store.read("settings", "a")
    assert found is not None
    assert (found.key, found.value, found.version) == ("a", value, 3)
    assert await store.read("other", "a") is None


async def test_compare_and_set_admits_one_writer(store: Store) -> None:
    """With an expected version, of writers at once exactly one gets through, and a stale one never."""
    assert await store.write("lease", "a", {"owner": "x"}, expect=1) is None
    created = await asyncio.gather(*[store.write("lease", "a", {"owner": n}, expect=0) for n in range(8)])
    assert sorted(created, key=str) == [1] + [None] * 7
    taken = await asyncio.gather(*[store.write("lease", "a", {"owner": n}, expect=1) for n in range(8)])
    assert sorted(taken, key=str) == [2] + [None] * 7
    assert await store.write("lease", "a", {}, expect=1) is None


async def test_documents_are_listed_by_prefix_in_order(store: Store) -> None:
    """A prefix is taken literally; the order is that of the keys."""
    keys = ["b", "a/2", "a/1", "a", "ab", "a%", "a_", "A", "a/\U0010ffff"]
    await store.write_many("offsets", {key: {"key": key} for key in keys})
    await store.write("other", "a/3", {})
    assert [one.key for one in await store.list("offsets")] == sorted(keys)
    assert [one.key for one in await store.list("offsets", "a/")] == ["a/1", "a/2", "a/\U0010ffff"]
    assert [one.key for one in await store.list("offsets", "a%")] == ["a%"]


_KEYS = ["b", "a/2", "a/1", "a/10", "a", "a/\ud7ff", "a/\ue000", "a/\U0010ffff", "a/\U0010ffffz", "a0", "ab"]


@pytest.mark.parametrize("prefix", ["", "a/", "a/1", "a/\ud7ff", "a/\U0010ffff", "c"])
async def test_pages_of_documents_are_cut_from_one_order(store: Store, prefix: str) -> None:
    """Whatever the prefix, in both directions: pages by the last key, pages by number, and the count agree."""
    await store.write_many("pages", {key: {} for key in _KEYS})
    await store.write("pagesz", "a/3", {})
    ordered = sorted(key for key in _KEYS if key.startswith(prefix))
    assert await store.count("pages", prefix) == len(ordered)
    for reverse in (False, True):
        wanted = ordered[::-1] if reverse else ordered
        paged: list[str] = []
        while found := await store.list("pages", prefix, after=paged[-1] if paged else None, limit=2, reverse=reverse):
            assert len(found) <= 2
            paged += [one.key for one in found]
        assert paged == wanted
        assert [one.key for one in await store.list("pages", prefix, reverse=reverse)] == wanted
        for skip in range(len(wanted) + 1):
            found = await store.list("pages", prefix, skip=skip, limit=3, reverse=reverse)
            assert [one.key for one in found] == wanted[skip : skip + 3]


async def test_a_page_may_begin_behind_a_key_that_is_gone(store: Store) -> None:
    """What was deleted since the page before it changes nothing for the next one."""
    await store.write_many("pages", {key: {} for key in ("a", "b", "d")})
    assert [one.key for one in await store.list("pages", after="c", limit=5)] == ["d"]
    assert [one.key for one in await store.list("pages", after="c", limit=5, reverse=True)] == ["b", "a"]
    assert await store.list("pages", "a", after="b", limit=5) == []


async def test_a_page_of_documents_is_bounded_by_bytes(store: Store) -> None:
    """Large documents make a short page, never an empty one; without a limit all of them come."""
    large: JsonObject = {"text": "x" * (SCAN_BYTES // 2)}
    await store.write_many("pages", {f"{n}": large for n in range(5)})
    assert [one.key for one in await store.list("pages", limit=5)] == ["0", "1"]
    assert [one.key for one in await store.list("pages", after="1", limit=1)] == ["2"]
    assert len(await store.list("pages")) == 5


async def test_edits_are_made_together_or_not_at_all(store: Store) -> None:
    """Documents of several kinds are written and deleted at once; one stale version keeps all as they were."""
    await store.write("one", "a", {"n": 1})
    await store.write("one", "gone", {})
    assert await store.edit(
        [
            Edit("one", "a", {"n": 2}, expect=1),
            Edit("two", "new", {"n": 1}, expect=0),
            Edit("two", "free", {"n": 1}),
            Edit("one", "gone", None),
            Edit("one", "never", None),
        ]
    )
    assert await store.read("one", "a") == ("a", {"n": 2}, 2)
    assert [one.key for one in await store.list("two")] == ["free", "new"]
    assert await store.read("one", "gone") is None
    for stale in (Edit("one", "a", {}, expect=1), Edit("two", "new", {}, expect=0), Edit("one", "b", {}, expect=1)):
        assert not await store.edit([Edit("two", "free", None), Edit("two", "other", {}), stale])
    assert [one.key for one in await store.list("two")] == ["free", "new"]
    assert await store.read("one", "a") == ("a", {"n": 2}, 2)
    assert await store.edit([])


async def test_of_editors_at_once_one_gets_through(store: Store) -> None:
    """Each reads the same version and writes two documents: the two stay those of one editor."""
    for version in (0, 1):
        done = await asyncio.gather(
            *[store.edit([Edit("one", "a", {"by": n}, expect=version), Edit("two", "b", {"by": n})]) for n in range(6)]
        )
        assert sorted(done) == [False] * 5 + [True]
        first, second = await store.read("one", "a"), await store.read("two", "b")
        assert first is not None
        assert second is not None
        assert first.value == second.value == {"by": done.index(True)}


async def test_counts_of_use_go_with_their_episode(store: Store) -> None:
    """Removing an episode removes the document that counts its use, and no other."""
    await store.insert([make_record("ep_a"), make_record("ep_b")])
    await store.write_many(USEFULNESS, {"ep_a": {}, "ep_b": {}})
    await store.write("other", "ep_a", {})
    await store.remove(Removal(("ep_a",)))
    assert [one.key for one in await store.list(USEFULNESS)] == ["ep_b"]
    assert await store.read("other", "ep_a") is not None


async def test_deleting_a_document(store: Store) -> None:
    """A deleted document is gone, says so once, and starts anew at version 1."""
    await store.write("settings", "a", {})
    assert await store.delete("settings", "a")
    assert not await store.delete("settings", "a")
    assert await store.write("settings", "a", {}, expect=0) == 1


# Life -------------------------------------------------------------------------------------------


async def test_everything_is_there_after_reopening(make_store: MakeStore) -> None:
    """A store that was closed and opened again answers as before."""
    first = make_store()
    await first.open()
    await first.insert(_POOL)
    await first.record_hits({"ep_001": 2}, START)
    await first.write("settings", "a", {"x": 1})
    await first.remove(Removal(("ep_002",), {"k": {}}))
    before = [one async for batch in first.scan(Filter()) for one in batch]
    await first.close()
    second = make_store()
    await second.open()
    try:
        assert [one async for batch in second.scan(Filter()) for one in batch] == before
        assert (await second.get(["ep_001"]))["ep_001"].retrieval_count == 2
        assert await second.read("settings", "a") == ("a", {"x": 1}, 1)
        assert len(await second.list(BLOCKLIST)) == 1
        assert set(await second.vectors(MODEL, ["ep_001", "ep_002"])) == {"ep_001"}
        await second.ping()
    finally:
        await second.close()


async def test_a_closed_store_says_so(make_store: MakeStore) -> None:
    """Before it is opened and after it is closed, a store is unavailable; closing twice is fine."""
    store = make_store()
    for _ in range(2):
        with pytest.raises(Unavailable):
            await store.ping()
        with pytest.raises(Unavailable):
            await store.insert([make_record("ep_a")])
        with pytest.raises(Unavailable):
            await store.get(["ep_a"])
        await store.open()
        await store.ping()
        await store.close()
        await store.close()
