"""What every store must do to episodes that are there already: other tags, other places, one for several."""

import asyncio
import random
from collections import Counter

import numpy as np
import pytest

from anamnesis.contracts.episodes import MAX_TAGS, Amended, Amendment
from anamnesis.kit.errors import Invalid
from services.memory.stores.base import CandidateQuery, Filter, Joining, Record, Store
from tests.contract.conftest import MakeStore
from tests.contract.records import MODEL, OTHER, make_record, make_vectors


async def _tagged(store: Store, *tags: str) -> set[str]:
    """What a search under a filter of tags finds, and what a list does: both must say the same."""
    where = Filter(tags=tags)
    question = CandidateQuery(MODEL, make_vectors("question")[0], (), where, 100)
    found = {one.episode_id for one in (await store.candidates(question)).found}
    listed = {one.episode_id for one in (await store.page(where, 0, 100))[0]}
    assert found == listed
    return found


def _members(*records: Record) -> dict[str, str]:
    return {one.episode.episode_id: one.episode.content_hash for one in records}


# Amending ---------------------------------------------------------------------------------------


async def test_amending_changes_tags_and_places_and_nothing_else(store: Store) -> None:
    """Tags, path and lines follow; text, vectors, counters, successor and the time of ingest stay as they were."""
    record = make_record("ep_a", tags=("x", "y"), session="s", position=3, windows=2, retrieval_count=4)
    await store.insert([record, make_record("ep_b", tags=("x",))])
    amendments = [
        Amendment(episode_id="ep_a", add_tags=("z",), remove_tags=("x",), path="/new/a.md", line=3, last_line=9),
        Amendment(episode_id="ep_none", add_tags=("z",)),
    ]
    for _ in range(2):  # safe to repeat
        assert await store.amend(amendments) == [
            Amended(episode_id="ep_a", found=True, tags=("y", "z")),
            Amended(episode_id="ep_none", found=False),
        ]
    kept = await store.get(["ep_a", "ep_b", "ep_none"])
    source = record.episode.source.model_copy(update={"path": "/new/a.md", "line": 3, "last_line": 9})
    assert kept["ep_a"] == record.episode.model_copy(update={"tags": ("y", "z"), "source": source})
    assert sorted(kept) == ["ep_a", "ep_b"]
    assert record.vectors is not None
    np.testing.assert_array_equal((await store.vectors(MODEL, ["ep_a"]))["ep_a"], record.vectors)
    await store.amend([Amendment(episode_id="ep_a", line=4)])
    assert (await store.get(["ep_a"]))["ep_a"].source == source.model_copy(update={"line": 4})


async def test_searches_follow_amended_tags_at_once(store: Store) -> None:
    """A filter finds what has the tag now and no more what had it, by meaning, by words and in lists."""
    await store.insert([make_record("ep_a", tags=("x", "y")), make_record("ep_b", tags=("x",)), make_record("ep_c")])
    await store.activate(MODEL)
    assert await _tagged(store, "x") == {"ep_a", "ep_b"}
    await store.amend(
        [Amendment(episode_id="ep_a", remove_tags=("x",)), Amendment(episode_id="ep_c", add_tags=("x", "z"))]
    )
    assert await _tagged(store, "x") == {"ep_b", "ep_c"}
    assert await _tagged(store, "x", "z") == {"ep_c"}
    assert await _tagged(store, "y") == {"ep_a"}
    # of several amendments of one episode in one request, each goes on from the one before
    await store.amend(
        [
            Amendment(episode_id="ep_b", remove_tags=("x",)),
            Amendment(episode_id="ep_b", add_tags=("x", "y")),
            Amendment(episode_id="ep_b", remove_tags=("y",)),
        ]
    )
    assert await _tagged(store, "x") == {"ep_b", "ep_c"}
    assert await _tagged(store, "y") == {"ep_a"}
    assert await _tagged(store) == {"ep_a", "ep_b", "ep_c"}


async def test_too_many_tags_change_nothing(store: Store) -> None:
    """What does not fit is refused by name, with the whole request; at the bound it fits."""
    full = [f"t{number}" for number in range(MAX_TAGS)]
    await store.insert([make_record("ep_a", tags=full), make_record("ep_b")])
    with pytest.raises(Invalid, match="ep_a would have 65 tags") as refused:
        await store.amend(
            [Amendment(episode_id="ep_b", add_tags=("new",)), Amendment(episode_id="ep_a", add_tags=("new",))]
        )
    assert refused.value.detail == {"episode_id": "ep_a", "tags": MAX_TAGS + 1}
    kept = await store.get(["ep_a", "ep_b"])
    assert (kept["ep_a"].tags, kept["ep_b"].tags) == (tuple(full), ())
    [done] = await store.amend([Amendment(episode_id="ep_a", add_tags=("new", "t1"), remove_tags=("t0",))])
    assert done.tags == (*full[1:], "new")


async def test_amended_tags_are_there_after_reopening(make_store: MakeStore) -> None:
    """Tags that were amended are those that a new process loads, and vectors that come later have them."""
    first = make_store()
    await first.open()
    await first.insert([make_record("ep_a", tags=("x",)), make_record("ep_b", model=None)])
    await first.amend([Amendment(episode_id="ep_a", add_tags=("y",)), Amendment(episode_id="ep_b", add_tags=("y",))])
    hashes = {name: one.content_hash for name, one in (await first.get(["ep_b"])).items()}
    await first.put_vectors(MODEL, {"ep_b": (hashes["ep_b"], make_vectors("ep_b"))})
    await first.close()
    second = make_store()
    await second.open()
    try:
        await second.activate(MODEL)
        assert await _tagged(second, "y") == {"ep_a", "ep_b"}
        assert await _tagged(second, "x") == {"ep_a"}
    finally:
        await second.close()


async def test_amendments_of_every_model_are_seen(store: Store) -> None:
    """The filter of each model's vectors follows, also of one that is not searched with yet."""
    record = make_record("ep_a", tags=("x",))
    await store.insert([record])
    await store.put_vectors(OTHER, {"ep_a": (record.episode.content_hash, make_vectors("other", 1, 4))})
    await store.amend([Amendment(episode_id="ep_a", add_tags=("y",), remove_tags=("x",))])
    await store.activate(OTHER)
    for tags, found in ((("y",), ["ep_a"]), (("x",), [])):
        question = CandidateQuery(OTHER, make_vectors("question", 1, 4)[0], (), Filter(tags=tags), 10)
        assert [one.episode_id for one in (await store.candidates(question)).found] == found


async def test_amendments_at_once_are_all_kept(store: Store) -> None:
    """Tags that several requests add to one episode at the same time are all there afterwards."""
    await store.insert([make_record("ep_a")])
    await asyncio.gather(*[store.amend([Amendment(episode_id="ep_a", add_tags=(f"t{n}",))]) for n in range(6)])
    assert set((await store.get(["ep_a"]))["ep_a"].tags) == {f"t{n}" for n in range(6)}


async def test_any_order_of_amendments_leaves_what_a_set_holds(store: Store) -> None:
    """Through many seeded amendments the filters agree with plain sets."""
    chance = random.Random(7)
    names, tags = [f"ep_{n}" for n in range(6)], ["red", "green", "blue", "grey"]
    await store.insert([make_record(name) for name in names])
    await store.activate(MODEL)
    expected: dict[str, set[str]] = {name: set() for name in names}
    for _ in range(12):
        batch = []
        for name in chance.choices(names, k=4):
            plus, minus = chance.sample(tags, k=chance.randrange(3)), chance.sample(tags, k=chance.randrange(3))
            batch.append(Amendment(episode_id=name, add_tags=tuple(plus), remove_tags=tuple(minus)))
            expected[name] = (expected[name] - set(minus)) | set(plus)
        await store.amend(batch)
    for tag in tags:
        assert await _tagged(store, tag) == {name for name in names if tag in expected[name]}


# Joining ----------------------------------------------------------------------------------------


async def test_one_episode_comes_in_the_place_of_several(store: Store) -> None:
    """The made one is there, searched and the successor of its members; taking it away makes them current again."""
    a, b, c = (make_record(f"ep_{name}") for name in "abc")
    made = make_record("ep_made", consolidated_from=("ep_a", "ep_b"), tags=("t",))
    await store.insert([a, b, c])
    await store.activate(MODEL)
    assert await store.join([Joining(made, _members(a, b))]) == [True]
    kept = await store.get(["ep_a", "ep_b", "ep_c", "ep_made"])
    assert [kept[name].superseded_by for name in sorted(kept)] == ["ep_made", "ep_made", None, None]
    assert kept["ep_made"] == made.episode
    assert await store.superseded_by("ep_made") == ["ep_a", "ep_b"]
    assert await store.superseded_by("ep_a") == []
    question = CandidateQuery(MODEL, make_vectors("question")[0], (), Filter(include_superseded=False), 10)
    assert {one.episode_id for one in (await store.candidates(question)).found} == {"ep_c", "ep_made"}


async def test_members_that_have_changed_are_not_joined(store: Store) -> None:
    """One that is gone, superseded or holds another text keeps the group apart, and nothing is changed by it."""
    a, b, c, d = (make_record(f"ep_{name}") for name in "abcd")
    await store.insert([a, b, c, d])
    await store.supersede(["ep_b"], "ep_d")
    made = [make_record(f"ep_m{number}") for number in range(5)]
    wanted = [
        Joining(made[0], _members(a, b)),
        Joining(made[1], {**_members(a), "ep_gone": "x"}),
        Joining(made[2], {**_members(a), "ep_c": "another text"}),
        Joining(make_record("ep_a", summary="the id of another"), _members(c, d)),
        Joining(make_record("ep_m9", summary="about ep_b"), _members(c, d)),
        Joining(made[3], _members(a, c)),
        Joining(made[4], _members(c, d)),  # c has gone into the one before
    ]
    assert await store.join(wanted) == [False, False, False, False, False, True, False]
    kept = await store.get([f"ep_{name}" for name in ("a", "b", "c", "d", "m0", "m1", "m2", "m3", "m4", "m9")])
    assert {name: one.superseded_by for name, one in kept.items()} == {
        "ep_a": "ep_m3",
        "ep_b": "ep_d",
        "ep_c": "ep_m3",
        "ep_d": None,
        "ep_m3": None,
    }


async def test_of_joinings_at_once_one_gets_a_member(store: Store) -> None:
    """An episode goes into one of several that want it at the same time."""
    records = [make_record(f"ep_{n}") for n in range(7)]
    await store.insert(records)
    done = await asyncio.gather(
        *[
            store.join([Joining(make_record(f"ep_m{n}", terms=Counter(["x"])), _members(records[0], records[n]))])
            for n in range(1, 7)
        ]
    )
    assert sorted(result for (result,) in done) == [False] * 5 + [True]
    assert len(await store.superseded_by(f"ep_m{done.index([True]) + 1}")) == 2


# Documents --------------------------------------------------------------------------------------


async def test_documents_are_read_by_key(store: Store) -> None:
    """Those that exist, in order of key, of their kind alone."""
    await store.write_many("one", {"b": {"n": 1}, "a": {"n": 2}, "c": {}})
    await store.write_many("two", {"d": {}})
    assert await store.read_many("one", ["c", "a", "d", "none"]) == [("a", {"n": 2}, 1), ("c", {}, 1)]
    assert await store.read_many("one", []) == []
