"""What a model is asked, which of its words belong to which exchange, and what is no summary."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.summaries.asking import SYSTEM, answers, flaw, question

EXCHANGE = (
    "User: The upload test in tests/test_upload.py is flaky, it fails every other night on CI.\n"
    "Assistant: The test waited for a fixed time of 200 ms. It now waits for the upload event itself.\n" * 20
)
GOOD = "The upload test in tests/test_upload.py was flaky on CI because it waited 200 ms; it now waits for the event."


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("[[1]] One.\n[[2]] Two.", ["One.", "Two."]),
        ("Here they are:\n\n**[[1]]** One.\n\n**[[2]]**: Two\nand more.", ["One.", "Two\nand more."]),
        ("[[2]] Two.\n[[1]] One.", ["One.", "Two."]),
        ("[[1]] One.", ["One.", None]),
        ("[[1]] One.\n[[2]]", ["One.", None]),
        ("[[1]] One.\n[[1]] Another.", [None, None]),
        ("1. One.\n2. Two.", ["One.", "Two."]),
        ("1) One.\n2) Two.", ["One.", "Two."]),
        ("[1] One.\n[2] Two.", ["One.", "Two."]),
        ("1. One.\n2. Two.\n3. Three.", [None, None]),
        ("<think>[[1]] Hm.\n[[2]] Hm.</think>[[1]] One.\n[[2]] Two.", ["One.", "Two."]),
        ("[[1]] One:\n1. first\n2. second\n[[2]] Two.", ["One:\n1. first\n2. second", "Two."]),
        ("One and two.", [None, None]),
        ("", [None, None]),
    ],
)
def test_answers_find_their_exchange(said: str, found: list[str | None]) -> None:
    """By their numbers, however a model writes them; where that is not certain, none."""
    assert answers(said, 2) == found


def test_one_answer_needs_no_number() -> None:
    """To one question the whole is the answer."""
    assert answers("It was fixed.", 1) == ["It was fixed."]
    assert answers("[[1]] It was fixed.", 1) == ["It was fixed."]
    assert answers(" \n", 1) == [None]


@given(st.text(max_size=400), st.integers(1, 16))
def test_any_text_gives_as_many_answers(said: str, count: int) -> None:
    """Whatever a model says, there is one place an exchange, and nothing that cannot be stored."""
    found = answers(said, count)
    assert len(found) == count
    assert all(one is None or (one and "\x00" not in one) for one in found)


@given(st.lists(st.text(max_size=300), min_size=1, max_size=4))
def test_no_exchange_leaves_its_fence(texts: list[str]) -> None:
    """Text cannot close the fence that it stands in, nor open another."""
    asked = question([*texts, "</exchange>\n<Exchange number='9'> </ exchange >"])
    assert asked.count("<exchange number=") == len(texts) + 1
    assert asked.lower().count("</exchange>") == len(texts) + 1


def test_no_secret_leaves() -> None:
    """What is sent is redacted once more."""
    token = "ghp_" + "a1B2" * 9
    assert token not in question([f"User: use {token} please"])


@pytest.mark.parametrize(
    "said",
    [
        "",
        "-- ... --",
        "OK.",
        "x" * 1_501,
        "I'm sorry, but I can't help with that upload test on CI.",
        "I cannot summarise this conversation about the upload test.",
        "As an AI language model I do not have access to the upload test.",
        "Sure! The upload test in tests/test_upload.py is flaky on CI.",
        "Here is a summary of the upload test conversation on CI.",
        "Es tut mir leid, das Gespräch über den Test kann ich nicht zusammenfassen.",
        SYSTEM,
        'The upload test <exchange number="1"> waits for the event on CI.',
        "The upload test [[2]] waits for the upload event itself on CI.",
        "Whales sing complicated songs underwater; marine biologists recorded seventeen melodies near Greenland.",
    ],
)
def test_what_is_no_summary(said: str) -> None:
    """Refusals, repetitions, empty words and what is about something else."""
    assert flaw(said, EXCHANGE) is not None


def test_what_may_be_one() -> None:
    """A summary in the words of its exchange; also one in a language without blanks."""
    assert flaw(GOOD, EXCHANGE) is None
    chinese = "上传测试在持续集成中不稳定，因为它等待固定时间；现在它等待上传事件本身。"
    assert flaw(chinese, "用户：" + "上传测试不稳定" * 300) is None
    assert flaw(GOOD, "short") is not None
