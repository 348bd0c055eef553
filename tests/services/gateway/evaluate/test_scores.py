"""What answers are worth, against counting by hand and in plain loops."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamnesis.contracts.evaluate import Question
from services.gateway.evaluate.scores import Answer, outcomes, percentile, reciprocal_rank, scores

IDS = [f"ep_{letter}" for letter in "abcdefgh"]
_CASES = st.lists(
    st.tuples(
        st.lists(st.sampled_from(IDS), max_size=4, unique=True),
        st.lists(st.sampled_from(IDS), max_size=6, unique=True),
        st.floats(0, 1e4),
    ),
    max_size=12,
)


def question(*expected: str, text: str = "what?") -> Question:
    return Question(question=text, episode_ids=expected)


def answer(*found: str, ms: float = 1.0) -> Answer:
    return Answer(found, ms)


def test_every_measure_by_hand() -> None:
    """Four questions, counted on paper."""
    asked = [question("ep_a", "ep_b"), question("ep_c"), question("ep_d"), question()]
    told = scores("one", asked, [answer("ep_x", "ep_a"), answer("ep_c"), answer(), answer("ep_y", ms=9.0)])
    assert (told.configuration, told.questions) == ("one", 4)
    assert told.recall == 0.5  # 1/2, 1, 0
    assert told.mrr == 0.5  # 1/2, 1, 0
    assert told.precision == 0.5  # a and c of x, a, c, y
    assert told.silence == 0.0
    assert told.false_silence == pytest.approx(1 / 3, abs=1e-4)
    assert (told.p50_ms, told.p95_ms) == (1.0, 9.0)


def test_what_no_question_can_tell_is_none() -> None:
    """Without questions of a kind, and without anything returned, there is no share."""
    nothing = scores("none", [], [])
    assert {nothing.recall, nothing.mrr, nothing.precision, nothing.silence, nothing.false_silence} == {None}
    silent = scores("silent", [question(), question()], [answer(), answer()])
    assert (silent.silence, silent.recall, silent.precision, silent.false_silence) == (1.0, None, None, None)


@given(_CASES)
def test_scores_agree_with_plain_loops(cases: list[tuple[list[str], list[str], float]]) -> None:
    """Recall, rank, precision and silence as loops over the same cases give them."""
    told = scores("any", [question(*right) for right, _, _ in cases], [answer(*found, ms=ms) for _, found, ms in cases])
    shares, ranks, kept, quiet, missed = [], [], [], [], []
    for right, found, _ in cases:
        kept += [one in right for one in found]
        if right:
            shares.append(sum(one in found for one in right) / len(right))
            places = [found.index(one) + 1 for one in right if one in found]
            ranks.append(1 / min(places) if places else 0.0)
            missed.append(not found)
        else:
            quiet.append(not found)
    for value, all_values in (
        (told.recall, shares),
        (told.mrr, ranks),
        (told.precision, kept),
        (told.silence, quiet),
        (told.false_silence, missed),
    ):
        assert value == (pytest.approx(sum(all_values) / len(all_values), abs=1e-4) if all_values else None)
        assert value is None or 0 <= value <= 1


@given(_CASES)
def test_a_perfect_answer_is_perfect(cases: list[tuple[list[str], list[str], float]]) -> None:
    """Who returns exactly what is expected gets 1 everywhere, and 0 for false silence."""
    told = scores("best", [question(*right) for right, _, _ in cases], [answer(*right) for right, _, _ in cases])
    assert {told.recall, told.mrr, told.precision, told.silence} <= {1.0, None}
    assert told.false_silence in (0.0, None)


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_one_of_the_values(values: list[float], share: float) -> None:
    """At least that share of the values do not exceed it, and no smaller value has this property."""
    values = sorted(round(value, 3) for value in values)
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_ranks_begin_at_one() -> None:
    """The first place gives 1, the second a half, none at all 0."""
    assert reciprocal_rank({"a"}, ["a", "b"]) == 1
    assert reciprocal_rank({"a"}, ["b", "a"]) == 0.5
    assert reciprocal_rank({"a"}, ["b"]) == 0


def test_outcomes_are_where_configurations_differ() -> None:
    """Two that agree are no news; a single one is shown where it failed."""
    asked = [question("ep_a", text="one"), question("ep_b", text="two"), question(text="three")]
    first = [answer("ep_a"), answer("ep_x"), answer("ep_y")]
    second = [answer("ep_a"), answer("ep_b"), answer("ep_y")]
    [differing] = outcomes(asked, [first, second])
    assert (differing.question, differing.expected, differing.found) == ("two", ("ep_b",), (("ep_x",), ("ep_b",)))
    assert [one.question for one in outcomes(asked, [first])] == ["two", "three"]
    assert [one.question for one in outcomes(asked, [second])] == ["three"]


def test_outcomes_are_bounded() -> None:
    """A hundred are shown at most."""
    asked = [question(text=str(number)) for number in range(150)]
    assert len(outcomes(asked, [[answer("ep_a")] * 150])) == 100
