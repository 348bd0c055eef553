"""Questions made from episodes."""

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamnesis.contracts.episodes import Episode, EpisodeSource
from anamnesis.contracts.evaluate import Question
from services.gateway.evaluate.made import MOST_WORDS, UNANSWERABLE, asked, blocks, made, unanswerable

MOMENT = datetime(2026, 5, 1, tzinfo=UTC)
SUBJECTS = ("kettle", "anchor", "violin", "compost", "turbine", "lantern", "saddle", "glacier", "pretzel", "sundial")


def episode(number: int, summary: str, raw: str | None) -> Episode:
    return Episode(
        episode_id=f"ep_{number:03}",
        timestamp=MOMENT,
        ingested_at=MOMENT,
        instance="laptop",
        project="shop",
        summary=summary,
        raw_exchange=raw,
        source=EpisodeSource(kind="test"),
        content_hash=hashlib.sha256(f"{number}{summary}{raw}".encode()).hexdigest(),
    )


def told(number: int) -> Episode:
    """An episode about a subject of its own, with a detail that its summary leaves out."""
    subject = SUBJECTS[number % len(SUBJECTS)] + str(number)
    return episode(
        number,
        f"Asked: how to mend the {subject}. Answer: with care and the right tools.",
        f"User: how to mend the {subject}?\n\n"
        f"Assistant: Could you please tell me more about it? Here is what helped others.\n"
        f"The {subject} needs a copper gasket{number} soaked in linseed{number} oil before winter comes.\n"
        "```python\nimport gasket; gasket.install(where='here', and_then='there', so='on')\n```\n",
    )


def test_a_question_is_a_sentence_that_the_summary_lacks() -> None:
    """Each comes from its own episode's exchange, holds what only this one says, and is no copy of the summary."""
    episodes = [told(number) for number in range(30)]
    questions = made(episodes, 30)
    assert len(questions) == 30
    for number, question in enumerate(questions):
        assert question.episode_ids == (f"ep_{number:03}",)
        assert f"gasket{number} " in question.question
        assert question.question not in episodes[number].summary
        assert "import" not in question.question


def test_questions_are_as_many_as_asked_for_and_always_the_same() -> None:
    """The first so many episodes that have something to ask for give them."""
    episodes = [told(number) for number in range(30)]
    assert made(episodes, 7) == made(episodes, 30)[:7] == made(list(episodes), 7)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        "",
        "User: mend the kettle with care\n",
        "```\nThe kettle needs a copper gasket soaked in linseed oil.\n```",
        "  - Bash ls -la /tmp && cat /etc/passwd | grep root; echo done",
        "const kettle = require('kettle').open(function (error) { return error; });",
    ],
)
def test_an_episode_without_prose_of_its_own_gives_none(raw: str | None) -> None:
    """No exchange, an exchange that is its summary, code, lines of tools: no question."""
    others = [told(number) for number in range(20)]
    questions = made([episode(99, "Asked: mend the kettle with care", raw), *others], 50)
    assert "ep_099" not in {one for question in questions for one in question.episode_ids}


@pytest.mark.parametrize(
    ("sentence", "question"),
    [
        ("User: Hi, could you please check why the nightly backup stops?", "check why the nightly backup stops?"),
        ("Thanks! Now I want to know where the anchor lies", "know where the anchor lies"),
        ("  the kettle,  boils  over ", "the kettle, boils over"),
        ("Okay", ""),
        ("Understand the sofa first", "Understand the sofa first"),
    ],
)
def test_politeness_is_dropped(sentence: str, question: str) -> None:
    """What is left begins with the matter; a word that only begins like a polite one stays."""
    assert asked(sentence) == question


@given(st.text(max_size=400))
def test_any_sentence_becomes_a_bounded_question(sentence: str) -> None:
    """Never more words than people ask, and nothing that a second look would still take off its ends."""
    question = asked(sentence)
    assert len(question.split()) <= MOST_WORDS
    assert question == question.strip()


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=600)


@given(st.lists(st.tuples(_TEXT, _TEXT), max_size=8), st.integers(0, 10))
def test_any_episodes_give_valid_questions(texts: list[tuple[str, str]], count: int) -> None:
    """Whatever is in them: no error, no more than asked for, one an episode."""
    episodes = [episode(number, summary.strip() or "x", raw) for number, (summary, raw) in enumerate(texts)]
    questions = made(episodes, count)
    assert len(questions) <= count
    assert len({question.episode_ids for question in questions}) == len(questions)


def test_unanswerable_questions_have_no_answer_and_are_distinct() -> None:
    """They go beside the others, one to four, and some even beside few."""
    assert all(question.episode_ids == () for question in UNANSWERABLE)
    assert len({question.question for question in UNANSWERABLE}) == len(UNANSWERABLE) == 30
    assert [len(unanswerable(count)) for count in (1, 40, 80, 500)] == [8, 10, 20, 30]
    assert isinstance(unanswerable(1)[0], Question)


@given(st.integers(0, 5_000), st.integers(1, 50), st.integers(0, 500))
def test_pages_are_spread_over_the_store(total: int, size: int, wanted: int) -> None:
    """Distinct beginnings within the store, the same each time, enough of them where the store has them."""
    starts = blocks(total, size, wanted)
    assert starts == blocks(total, size, wanted)
    assert len(set(starts)) == len(starts)
    assert all(0 <= start < total and start % size == 0 for start in starts)
    assert len(starts) * size >= min(wanted, total)
