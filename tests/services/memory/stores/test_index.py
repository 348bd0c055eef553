"""The in-memory index against a dictionary and plain loops, through any order of changes."""

import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.memory.stores import postings
from services.memory.stores.base import CandidateQuery, Candidates, Filter, Record, Vectors
from services.memory.stores.columns import Row, milliseconds, moment
from services.memory.stores.index import Change, Drop, Embed, Mark, MemoryIndex, Put, Reset, Retag
from services.memory.stores.matrix import Matrix
from services.memory.stores.rows import index_row, prepared
from tests.contract.oracle import expected
from tests.contract.records import DIMENSION, MODEL, OTHER, START, make_record, make_vectors

WORDS = ("river", "stone", "cloud", "ember")


def _row(number: int, record: Record, superseded: bool = False) -> Row:
    return index_row(number, prepared(record), superseded)


def _put(number: int, record: Record) -> Put:
    vectors = {} if record.vectors is None else {MODEL: record.vectors}
    return Put(_row(number, record, record.episode.superseded_by is not None), vectors)


def _ask(
    index: MemoryIndex,
    seed: str = "question",
    terms: tuple[str, ...] = (),
    where: Filter = Filter(),  # noqa: B008 -- frozen
    limit: int = 1000,
) -> Candidates:
    return index.search([CandidateQuery(MODEL, make_vectors(seed)[0], terms, where, limit)])[0]


def _ready(eager: bool = False) -> MemoryIndex:
    """An index with an empty model; an eager one clears and merges at every occasion."""
    index = MemoryIndex(dead_least=2, small=4) if eager else MemoryIndex()
    index.begin(MODEL, DIMENSION, 0)
    index.finish(MODEL)
    return index


records = st.builds(
    lambda name, words, project, tags, session, position, windows: make_record(
        f"ep_{name}",
        terms={word: words.count(word) for word in words} or {"none": 1},
        project=project,
        tags=sorted(tags),
        session=session,
        position=position,
        minute=position,
        windows=max(windows, 1),
        model=MODEL if windows else None,
    ),
    name=st.integers(0, 30),
    words=st.lists(st.sampled_from(WORDS), max_size=6),
    project=st.sampled_from(["atlas", "borealis"]),
    tags=st.sets(st.sampled_from(["red", "green"])),
    session=st.sampled_from([None, "s", "t"]),
    position=st.integers(0, 10**6),
    windows=st.integers(0, 3),
)


class IndexMachine(RuleBasedStateMachine):
    """Puts, drops, marks and embeds in any order and grouping; clearing of dead slots happens often here."""

    def __init__(self) -> None:
        super().__init__()
        self.index = _ready()
        self.kept: dict[int, Record] = {}
        self.waiting: list[Change] = []

    @initialize(eager=st.booleans())
    def tune(self, eager: bool) -> None:
        self.index = _ready(eager=eager)

    @rule(number=st.integers(1, 12), record=records)
    def put(self, number: int, record: Record) -> None:
        record = record._replace(episode=record.episode.model_copy(update={"episode_id": f"ep_{number}"}))
        self.kept[number] = record
        self.waiting.append(_put(number, record))

    @rule(number=st.integers(1, 12))
    def drop(self, number: int) -> None:
        self.kept.pop(number, None)
        self.waiting.append(Drop(number))

    @rule(number=st.integers(1, 12), superseded=st.booleans())
    def mark(self, number: int, superseded: bool) -> None:
        if number in self.kept:
            record = self.kept[number]
            by = "ep_other" if superseded else None
            self.kept[number] = record._replace(episode=record.episode.model_copy(update={"superseded_by": by}))
        self.waiting.append(Mark(number, superseded))

    @rule(pick=st.integers(0, 99), tags=st.sets(st.sampled_from(["red", "green"])).map(sorted).map(tuple))
    def retag(self, pick: int, tags: tuple[str, ...]) -> None:
        number = sorted(self.kept)[pick % len(self.kept)] if self.kept else pick
        former: tuple[str, ...] = ()
        if number in self.kept:
            record = self.kept[number]
            former = record.episode.tags
            self.kept[number] = record._replace(episode=record.episode.model_copy(update={"tags": tags}))
        self.waiting.append(Retag(number, former, tags))

    @rule(number=st.integers(1, 12), windows=st.integers(1, 3), seed=st.integers(0, 99))
    def embed(self, number: int, windows: int, seed: int) -> None:
        vectors = make_vectors(f"embed {seed}", windows)
        if number in self.kept:
            record = self.kept[number]
            episode = record.episode.model_copy(update={"embedding_model": MODEL})
            self.kept[number] = record._replace(episode=episode, vectors=vectors)
        self.waiting.append(Embed(number, MODEL, vectors))

    @rule()
    def commit(self) -> None:
        self.index.apply(self.waiting)
        self.waiting = []

    @rule(
        terms=st.lists(st.sampled_from([*WORDS, "unknown"]), max_size=3, unique=True).map(tuple),
        where=st.builds(
            Filter,
            project=st.sampled_from([None, "atlas", "absent"]),
            tags=st.lists(st.sampled_from(["red", "green"]), max_size=2).map(tuple),
            include_superseded=st.booleans(),
        ),
        limit=st.integers(1, 12),
    )
    def search(self, terms: tuple[str, ...], where: Filter, limit: int) -> None:
        self.commit()
        query = CandidateQuery(MODEL, make_vectors("question")[0], terms, where, limit)
        (answer,) = self.index.search([query])
        found = {one.episode_id: one for one in answer.found}
        wanted = expected(list(self.kept.values()), query, words=True)
        assert wanted.must <= set(found) <= wanted.may
        assert answer.ceiling == pytest.approx(wanted.ceiling, abs=1e-4)
        for name, one in found.items():
            assert one.lexical == pytest.approx(wanted.lexical[name], abs=1e-4)
            vectors = next(record.vectors for record in self.kept.values() if record.episode.episode_id == name)
            assert one.opening == (
                None if vectors is None else pytest.approx(float(vectors[0] @ query.vector), abs=1e-5)
            )
            assert one.dense == (None if wanted.dense[name] is None else pytest.approx(wanted.dense[name], abs=1e-5))

    @invariant()
    def counts(self) -> None:
        if not self.waiting:
            assert len(self.index) == len(self.kept)


TestIndex = IndexMachine.TestCase
TestIndex.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_search_sees_one_moment() -> None:
    """While a writer replaces episodes and clears dead slots, a search always finds each exactly once."""
    index = _ready()
    names = {f"ep_{number}" for number in range(50)}
    index.apply([_put(number, make_record(f"ep_{number}")) for number in range(50)])
    stop = threading.Event()

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            index.apply([_put(number, make_record(f"ep_{number}", windows=1 + turn % 2)) for number in range(50)])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(300):
            found = [one.episode_id for one in _ask(index).found]
            assert len(found) == 50
            assert set(found) == names
    finally:
        stop.set()
        thread.join(10)


def test_loading_a_model_while_others_write() -> None:
    """What is written between the beginning and the end of a load wins over what the load brings."""
    index = MemoryIndex()
    index.apply([Put(_row(number, make_record(f"ep_{number}")), {}) for number in range(4)])
    index.begin(MODEL, DIMENSION, 10)
    assert not index.ready(MODEL)
    near, far = make_vectors("question"), -make_vectors("question")
    index.apply([Embed(0, MODEL, near), Drop(1), Put(_row(9, make_record("ep_9")), {MODEL: near})])
    index.fill(MODEL, [(0, far), (1, far), (2, far), (7, far), (9, far)])
    index.finish(MODEL)
    assert index.ready(MODEL)
    dense = {one.episode_id: one.dense for one in _ask(index).found}
    assert dense == {
        "ep_0": pytest.approx(1, abs=1e-5),
        "ep_2": pytest.approx(-1, abs=1e-5),
        "ep_9": pytest.approx(1, abs=1e-5),
    }


def test_a_load_brings_the_vectors_of_what_changed_otherwise() -> None:
    """An episode that was superseded or tagged while a model was loaded has its vectors afterwards."""
    index = MemoryIndex()
    index.apply([Put(_row(number, make_record(f"ep_{number}")), {}) for number in range(3)])
    index.begin(MODEL, DIMENSION, 3)
    index.apply([Mark(0, True), Retag(1, (), ("new",))])
    index.fill(MODEL, [(number, make_vectors("question")) for number in range(3)])
    index.finish(MODEL)
    assert [one.dense for one in _ask(index).found] == [pytest.approx(1, abs=1e-5)] * 3


def test_a_reset_model_takes_no_part() -> None:
    """After a reset the model is no longer in memory, and vectors of any width are passed over until it is loaded."""
    index = _ready()
    index.apply([_put(1, make_record("ep_1"))])
    index.apply([Reset(MODEL), Embed(1, MODEL, make_vectors("x", 1, 3)), Embed(1, OTHER, make_vectors("x", 1, 5))])
    assert not index.ready(MODEL)
    assert index.models() == ()
    assert _ask(index).found == []


def test_questions_that_wait_together_are_answered_each_for_itself() -> None:
    """Many questions at once, of several models and filters, get what each would get alone."""
    index = _ready()
    index.begin(OTHER, 3, 0)
    index.finish(OTHER)
    made = [make_record(f"ep_{number}", project=f"p{number % 3}", windows=1 + number % 2) for number in range(40)]
    index.apply([_put(number, record) for number, record in enumerate(made)])
    index.apply([Embed(number, OTHER, make_vectors(f"o{number}", 1, 3)) for number in range(0, 40, 2)])
    queries = [
        CandidateQuery(model, make_vectors(f"q{n}", 1, width)[0], ("about",), where, 3 + n)
        for n, (model, width, where) in enumerate(
            [(MODEL, DIMENSION, Filter()), (OTHER, 3, Filter()), (MODEL, DIMENSION, Filter(project="p1"))] * 3
            + [("absent", 4, Filter())]
        )
    ]
    together = index.search(queries)
    for query, answer in zip(queries, together, strict=True):
        (alone,) = index.search([query])
        assert [one.episode_id for one in answer.found] == [one.episode_id for one in alone.found]
        for one, other in zip(answer.found, alone.found, strict=True):
            assert (one.dense is None) == (other.dense is None)
            assert one.dense is None or one.dense == pytest.approx(other.dense, abs=1e-5)


def test_memory_is_given_back_when_episodes_change() -> None:
    """Replacing the same few episodes again and again does not grow the index."""
    index = _ready()
    for turn in range(40):
        index.apply([_put(number, make_record(f"ep_{number}", minute=turn)) for number in range(300)])
    frame = index._frame
    assert frame.n < 300 + 2048 + 301
    assert frame.matrices[MODEL].windows < 300 + 2048 + 301
    assert len(_ask(index).found) == 300


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_picking_rows_equals_scoring_all(share: float) -> None:
    """The best window by picked rows is the best window by the whole matrix, for single and several windows."""
    generator = np.random.default_rng(5)
    items: list[tuple[int, Vectors]] = [
        (slot, make_vectors(str(slot), int(generator.integers(1, 4)))) for slot in range(5000) if slot % 9
    ]
    matrix = Matrix.empty(DIMENSION, 5000).extended(5000, items)
    slots = np.flatnonzero(generator.random(5000) < share)
    question = make_vectors("question")[0]
    np.testing.assert_allclose(matrix.best_of(question, slots), matrix.best(question[None])[0][slots], atol=1e-6)


def test_packed_terms_keep_their_counts() -> None:
    """Terms in any script survive packing; counts are cut at 65,535."""
    terms = {"päivä": 3, "日本": 1, "x": 70_000}
    segment = postings.Segment.of_packed([4], [postings.pack(terms)])
    keys = np.array([postings.key(term) for term in [*terms, "absent"]], dtype=np.uint64)
    found = {place: segment.times[first:last].tolist() for place, first, last in segment.spans(keys)}
    assert found == {0: [3], 1: [1], 2: [65_535]}
    assert postings.length(postings.pack(terms)) == 65_539


def test_moments_survive_as_milliseconds() -> None:
    """Every moment at the precision of the contracts comes back; finer bounds are rounded up, so none slips in."""
    for at in (START, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)):
        assert moment(milliseconds(at)) == at
    assert milliseconds(START + timedelta(microseconds=1)) == milliseconds(START) + 1
