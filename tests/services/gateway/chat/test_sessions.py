"""What of a conversation a model is shown again, and what a session is called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamnesis.contracts.base import now
from anamnesis.contracts.chat import ChatTurn, TurnState
from services.gateway.chat.sessions import MAX_TITLE, messages_of, shown_again, title_of
from services.gateway.recall import CHARACTERS_PER_TOKEN


def turn(
    number: int, answered: str = "so it is", state: TurnState = TurnState.COMPLETE, asked: str = "is it?"
) -> ChatTurn:
    return ChatTurn(turn=number, asked=asked, answered=answered, state=state, started_at=now())


def test_the_newest_that_fit_are_shown_oldest_first() -> None:
    """Room is for the end of a conversation."""
    turns = [turn(number, "x" * 94) for number in range(1, 6)]
    assert [one.turn for one in shown_again(turns, 50)] == [4, 5]
    assert [one.turn for one in shown_again(turns, 10_000)] == [1, 2, 3, 4, 5]


def test_turns_without_an_answer_are_left_out() -> None:
    """Neither a question that nobody answered nor one that is being answered elsewhere is part of the conversation."""
    turns = [
        turn(1),
        turn(2, "", TurnState.FAILED),
        turn(3, "Half", TurnState.RUNNING),
        turn(4, "Half", TurnState.STOPPED),
    ]
    assert [one.turn for one in shown_again(turns, 1_000)] == [1, 4]


def test_a_last_answer_that_is_too_long_is_shortened() -> None:
    """What is asked next is about it, so its beginning and its end are shown; earlier turns are not."""
    long = "begins " + "x" * 100_000 + " ends"
    [shown] = shown_again([turn(1), turn(2, long)], 100)
    assert shown.turn == 2
    assert shown.answered.startswith("begins ")
    assert shown.answered.endswith(" ends")
    assert "characters left out" in shown.answered
    assert shown_again([turn(1)], 0) == []


@given(
    st.lists(st.tuples(st.integers(1, 3_000), st.integers(0, 3_000), st.sampled_from(TurnState)), max_size=20),
    st.integers(0, 2_000),
)
def test_the_room_is_never_exceeded(sizes: list[tuple[int, int, TurnState]], tokens: int) -> None:
    """However long the turns are, what is shown fits, alternates, and ends with an answer."""
    turns = [turn(at, "a" * said, state, "q" * asked) for at, (asked, said, state) in enumerate(sizes, start=1)]
    messages = messages_of(shown_again(turns, tokens))
    note = 80  # characters that say how much is left out, twice
    assert sum(len(one.text) for one in messages) <= tokens * CHARACTERS_PER_TOKEN + 2 * note
    assert [one.role for one in messages] == ["user", "assistant"] * (len(messages) // 2)


@pytest.mark.parametrize(
    ("message", "title"),
    [
        ("Why?", "Why?"),
        ("  two\n\nlines ", "two lines"),
        ("word " * 40, "word " * 11 + "word…"),
        ("x" * 200, "x" * MAX_TITLE + "…"),
        ("​", "​"),
    ],
)
def test_a_session_is_called_after_its_first_words(message: str, title: str) -> None:
    """One line, cut between words."""
    assert title_of(message) == title
