"""What every store must find: candidates held to plain loops over the same records, and to writes as they come."""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anamnesis.contracts.episodes import Trust
from anamnesis.kit.errors import Invalid
from services.memory.stores.base import Candidate, CandidateQuery, Filter, Record, Removal, Store
from tests.contract.oracle import expected, passes
from tests.contract.records import DIMENSION, MODEL, OTHER, START, make_record, make_vectors
from tests.contract.test_store import filters
from tests.mongo_peer.fixtures import URI_VARIABLE

WORDS = ("river", "stone", "cloud", "ember", "maple", "quartz", "falcon", "harbor", "lantern", "meadow")


def _spoken(number: int) -> dict[str, int]:
    generator = np.random.default_rng(number)
    count = int(generator.integers(1, 12))
    weights = 1.0 / np.arange(1, len(WORDS) + 1)
    return dict(Counter(generator.choice(WORDS, count, p=weights / weights.sum()).tolist()))


_POOL = [
    make_record(
        f"ep_{number:03}",
        summary=f"{number} " + " ".join(word for word, times in _spoken(number).items() for _ in range(times)),
        terms=_spoken(number),
        project=("atlas", "borealis", "Ärger % _")[number % 3],
        instance=("laptop", "desk")[number % 2],
        minute=number // 2,
        tags=[tag for place, tag in enumerate(("red", "green", "blue")) if number >> place & 1],
        session=None if number % 7 == 0 else f"session-{number // 9}",
        position=None if number // 9 == 2 else (number * 5) % 9 * 3,
        trust=(Trust.USER, Trust.WEB)[number % 4 == 0],
        superseded_by="ep_000" if number % 5 == 4 else None,
        model=None if number % 11 == 3 else MODEL,
        windows=1 + number % 3,
    )
    for number in range(60)
]


def _query(
    seed: str = "question",
    terms: Sequence[str] = (),
    where: Filter = Filter(),  # noqa: B008 -- frozen
    limit: int = 10,
    model: str = MODEL,
    dimension: int = DIMENSION,
) -> CandidateQuery:
    return CandidateQuery(model, make_vectors(seed, 1, dimension)[0], tuple(terms), where, limit)


async def _found(store: Store, query: CandidateQuery) -> dict[str, Candidate]:
    answer = await store.candidates(query)
    found = {candidate.episode_id: candidate for candidate in answer.found}
    assert len(found) == len(answer.found), "a candidate came twice"
    return found


SLACK = {"bm25": 1e-4, "$search": 0.02}
"""How far lexical scores may be from the definition: a real `$search` keeps the length of a text in one byte."""


async def _words_are_indexed(store: Store) -> None:
    """Wait until all scores are an index's own: what it does not know yet counts as a text of average length."""
    query = _query(terms=WORDS, limit=100)
    wanted = expected(_POOL, query, words=True)
    for _ in range(60):
        answer = await store.candidates(query)
        if answer.lexical not in SLACK or all(
            one.lexical == pytest.approx(wanted.lexical[one.episode_id], abs=SLACK[answer.lexical])
            for one in answer.found
        ):
            return
        await asyncio.sleep(1)


once = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@once
@given(
    where=filters,
    seed=st.sampled_from(["a", "b", "c", "d"]),
    terms=st.lists(st.sampled_from([*WORDS, "unknown"]), max_size=4, unique=True),
    limit=st.integers(1, 25),
)
async def test_candidates_are_what_plain_loops_find(
    store: Store, where: Filter, seed: str, terms: list[str], limit: int
) -> None:
    """The best by meaning and by words under the filter and their neighbours, each once, with both scores."""
    if (await store.page(Filter(), 0, 1))[1] == 0:
        await store.insert(_POOL)
        await store.activate(MODEL)
        await _words_are_indexed(store)
    query = _query(seed, terms, where, limit)
    answer = await store.candidates(query)
    found = {candidate.episode_id: candidate for candidate in answer.found}
    words = answer.lexical in SLACK
    slack = SLACK[answer.lexical] if words else 0.0
    wanted = expected(_POOL, query, words)
    assert len(found) == len(answer.found)
    assert wanted.must <= set(found)
    assert set(found) <= {record.episode.episode_id for record in _POOL if passes(record, where)}
    assert set(found) <= wanted.may
    by_name = {record.episode.episode_id: record for record in _POOL}
    for name, candidate in found.items():
        episode = by_name[name].episode
        assert candidate.dense == (None if wanted.dense[name] is None else pytest.approx(wanted.dense[name], abs=1e-5))
        if candidate.opening is not None:
            vectors = by_name[name].vectors
            assert vectors is not None
            assert candidate.opening == pytest.approx(float(vectors[0] @ query.vector), abs=1e-5)
        assert (candidate.session, candidate.position, candidate.trust, candidate.superseded) == (
            episode.source.session,
            episode.source.position,
            episode.trust.value,
            episode.superseded_by is not None,
        )
        assert candidate.timestamp == episode.timestamp.timestamp()
        if words:
            assert candidate.lexical == pytest.approx(wanted.lexical[name], abs=slack)
    if words:
        assert answer.ceiling == pytest.approx(wanted.ceiling, abs=slack)
        assert all((one.lexical or 0.0) <= wanted.ceiling + slack for one in answer.found)


async def test_each_store_names_its_lexical_side(store: Store, request: pytest.FixtureRequest) -> None:
    """Words count where the store has a lexical side, and the answer says which one, or that there is none."""
    kind = request.node.callspec.params["make_store"]
    if kind == "mongo" and os.environ.get(URI_VARIABLE):
        pytest.skip("a real MongoDB has $search or lacks it")
    await store.insert([make_record("ep_a", terms={"river": 1})])
    await store.activate(MODEL)
    named = (await store.candidates(_query(terms=("river",)))).lexical
    assert named.split(":")[0] == {"sqlite": "bm25", "mongo": "absent", "mongo+search": "$search"}[kind]


async def test_an_empty_store_finds_nothing(store: Store) -> None:
    """Nothing is found, and nothing breaks, before the first episode and for a model nobody embedded by."""
    assert await _found(store, _query(terms=("river",))) == {}
    await store.activate(MODEL)
    assert await _found(store, _query(terms=("river",))) == {}
    await store.prepare(MODEL, DIMENSION)
    await store.activate(MODEL)
    assert await _found(store, _query(terms=("river",))) == {}
    await store.insert([make_record("ep_a")])
    assert set(await _found(store, _query())) == {"ep_a"}


async def test_writes_are_seen_at_once(store: Store) -> None:
    """What was acknowledged before a search is in it: inserts, replacements, successors, removals."""
    await store.insert(_POOL[:20])
    await store.activate(MODEL)
    nearest = make_vectors("question")
    current = Filter(include_superseded=False)
    for turn in range(5):
        name = f"ep_new{turn}"
        await store.insert([make_record(name, vectors=nearest, project="fresh", session="talk", position=turn)])
        assert (await _found(store, _query(limit=30)))[name].dense == pytest.approx(1.0, abs=1e-5)
    assert set(await _found(store, _query(where=Filter(project="fresh")))) == {f"ep_new{turn}" for turn in range(5)}
    await store.replace([make_record("ep_new0", summary="other", vectors=-nearest, project="moved", minute=3)])
    assert set(await _found(store, _query(where=Filter(project="moved")))) == {"ep_new0"}
    moved = (await _found(store, _query(where=Filter(until=START + timedelta(days=1)), limit=30)))["ep_new0"]
    assert moved.dense == pytest.approx(-1.0, abs=1e-5)
    assert moved.timestamp == (START + timedelta(minutes=3)).timestamp()
    await store.supersede(["ep_new1"], "ep_new2")
    assert "ep_new1" not in await _found(store, _query(where=current, limit=30))
    assert (await _found(store, _query(limit=30)))["ep_new1"].superseded
    await store.remove(Removal(("ep_new2", "ep_new3")))
    found = await _found(store, _query(where=current, limit=30))
    assert "ep_new1" in found
    assert not {"ep_new2", "ep_new3"} & set(found)


async def test_searches_between_many_writers_stay_true(store: Store) -> None:
    """While several writers insert and remove, a search never misses what was acknowledged before it began."""
    await store.insert(_POOL[:10])
    await store.activate(MODEL)
    gone: set[str] = set()
    there: set[str] = set()

    async def writer(which: int) -> None:
        for turn in range(6):
            name = f"ep_w{which}_{turn}"
            await store.insert([make_record(name, project="busy", windows=2)])
            there.add(name)
            if turn % 2:
                there.discard(name)
                await store.remove(Removal((name,)))
                gone.add(name)

    async def reader() -> None:
        for _ in range(10):
            must, must_not = set(there), set(gone)
            found = set(await _found(store, _query(where=Filter(project="busy"), limit=100)))
            assert must & there <= found
            assert not found & must_not
            await asyncio.sleep(0)

    await asyncio.gather(*[writer(which) for which in range(4)], reader(), reader())
    assert set(await _found(store, _query(where=Filter(project="busy"), limit=100))) == there


async def test_a_search_never_mixes_models(store: Store) -> None:
    """Each search is by one model's vectors: an episode without them has no cosine, others have theirs."""
    both, one, none = make_record("ep_both"), make_record("ep_one"), make_record("ep_none", model=None)
    await store.insert([both, one, none])
    await store.activate(MODEL)
    await store.prepare(OTHER, 4)
    await store.put_vectors(OTHER, {"ep_both": (both.episode.content_hash, make_vectors("other", 2, 4))})
    first = await _found(store, _query(limit=10))
    assert {name: one.dense is not None for name, one in first.items()} == {"ep_both": True, "ep_one": True}
    await store.activate(OTHER)
    second = await _found(store, _query(limit=10, model=OTHER, dimension=4))
    assert {name: one.dense is not None for name, one in second.items()} == {"ep_both": True}
    cosine = float((make_vectors("other", 2, 4) @ make_vectors("question", 1, 4)[0]).max())
    assert second["ep_both"].dense == pytest.approx(cosine, abs=1e-5)
    with pytest.raises(Invalid):
        await store.candidates(_query(model=OTHER, dimension=DIMENSION))


async def test_vectors_that_come_later_are_searched(store: Store) -> None:
    """Vectors put beside an episode, and put again, are those that a search uses; dropped ones are not used."""
    record = make_record("ep_a", model=None)
    await store.insert([record, make_record("ep_b")])
    await store.activate(MODEL)
    for vectors, cosine in ((make_vectors("question"), 1.0), (-make_vectors("question"), -1.0)):
        await store.put_vectors(MODEL, {"ep_a": (record.episode.content_hash, vectors)})
        assert (await _found(store, _query()))["ep_a"].dense == pytest.approx(cosine, abs=1e-5)
    await store.drop_vectors(MODEL)
    assert await _found(store, _query()) == {}


async def test_a_filter_comes_before_the_ranking(store: Store) -> None:
    """A single episode under a filter is found however many better ones lie outside it."""
    near = make_vectors("question")
    await store.insert([make_record(f"ep_{number:02}", vectors=near) for number in range(40)])
    await store.insert([make_record("ep_far", vectors=-near, project="rare", tags=("only",))])
    await store.activate(MODEL)
    for where in (Filter(project="rare"), Filter(tags=("only",))):
        assert set(await _found(store, _query(where=where, limit=1))) == {"ep_far"}


async def test_neighbours_come_from_the_session_and_the_filter(store: Store) -> None:
    """The hit's neighbours are the nearest in its own session that pass the filter, by position, then by time."""
    near, far = make_vectors("question"), -make_vectors("question")

    def step(name: str, position: int, minute: int = 0, project: str = "atlas", session: str = "s") -> Record:
        return make_record(
            name, vectors=far, session=session, position=position, minute=minute, project=project, model=MODEL
        )

    await store.insert(
        [
            step("ep_b0", 1),
            step("ep_b1", 4),
            step("ep_b2", 6, project="hidden"),
            make_record("ep_hit", vectors=near, session="s", position=8, minute=5),
            step("ep_a1", 8, minute=9),
            step("ep_a2", 9),
            step("ep_else", 7, session="t"),
        ]
    )
    await store.activate(MODEL)
    assert set(await _found(store, _query(limit=1))) == {"ep_b2", "ep_hit", "ep_a1"}
    assert set(await _found(store, _query(limit=1, where=Filter(project="atlas")))) == {"ep_b1", "ep_hit", "ep_a1"}
