"""Which memories an answer made use of: told by words that it has from nowhere else."""

import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.usefulness import MAX_ANSWER, used

PORT = "The upload test failed because port 9100 was taken; it waits for the port in tests/uploads/test_retry.py now."
CAT = "The user has a cat called Fluffy that eats nothing but salmon."
BLUE = "The user's favourite colour is blue."
MEETING = "On Tuesday we agreed with Katarzyna to move the invoices to the new ledger by the fourteenth of June."
RETRY = "Uploads are retried three times with exponential backoff, then the payload is parked in the dead-letter queue."
DEPLOY = "Deployments go through Jenkins; the rollback command is `kubectl rollout undo deployment/shop-web`."
CHINESE = "用户住在杭州西湖附近,喜欢喝龙井茶。"

TAKEN_UP = {
    "a number": (PORT, "Why did it fail?", "Another process was listening on 9100."),
    "a path": (PORT, "Where is that test?", "See `tests/uploads/test_retry.py`."),
    "the end of a path": (PORT, "Which file?", "It is in test_retry.py, as far as I can see."),
    "a name": (CAT, "What should I buy for my cat?", "Some salmon for Fluffy, of course!"),
    "one word": (BLUE, "What is my favourite colour?", "Your favourite colour is blue."),
    "a person": (MEETING, "Whom do I ask about this?", "Katarzyna agreed to the move, so ask her first."),
    "a plan in other order": (
        RETRY,
        "What happens to a broken one?",
        "It lands in the dead-letter queue after backoff.",
    ),
    "bent words": (
        RETRY,
        "What happens when it fails?",
        "It retries with an exponential backoff; then it parks the payload.",
    ),
    "a command": (DEPLOY, "How do I undo a bad release?", "Run `kubectl rollout undo deployment/shop-web` at once."),
    "a script without blanks": (CHINESE, "我住在哪里?", "您住在杭州,就在西湖附近。"),
    "one sentence of a long answer": (
        PORT,
        "Why is the build red?",
        "There are many reasons for a red build. " * 20
        + "Last time port 9100 was taken, and test_retry.py waits for it now. "
        + "Let me look at the log and tell you what I see there. " * 20,
    ),
}
LEFT_ALONE = {
    "another subject": (
        CAT,
        "How do I sort a list in Python?",
        "sorted() gives a new one; list.sort() sorts in place.",
    ),
    "only the question": (PORT, "Does the upload test fail at port 9100?", "Yes, the upload test fails at port 9100."),
    "nothing said": (BLUE, "What is my favourite colour?", ""),
    "pleasantries": (BLUE, "Hi!", "Hello! How can I help you today?"),
    "the same subject": (RETRY, "How do uploads work?", "The client sends chunks; the server joins them."),
    "a long answer that shares a phrase": (
        "The staging database is cleaned on Sundays.",
        "Tell me about deployments.",
        "Keep the staging database apart. "
        + "A release goes out when its checks pass, in small steps, each of which can be taken back. " * 25,
    ),
    "a long answer that shares a word": (
        DEPLOY,
        "Tell me about databases.",
        "An index is a tree of keys. A transaction ends with a commit or a rollback. " * 30,
    ),
}


@pytest.mark.parametrize("case", TAKEN_UP)
def test_what_was_taken_up_is_seen(case: str) -> None:
    """An answer with a number, name, path or phrase that only the memory holds made use of it, of it alone."""
    episode, prompt, answer = TAKEN_UP[case]
    other = "The garden needs tomatoes, a hose and twelve sacks of soil before spring."
    assert used(answer, [other, episode], prompt) == [False, True]


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_what_was_left_alone_is_seen(case: str) -> None:
    """An answer that says what it says without the memory did not use it."""
    episode, prompt, answer = LEFT_ALONE[case]
    assert used(answer, [episode], prompt) == [False]


def test_what_several_say_counts_less_for_each() -> None:
    """A hint that one memory alone holds is enough; one that five of them hold tells too little of any."""
    answer = "It may be proxy buffering again, as it was in spring with those older clients of ours, I guess."
    hint = "Answers came late for some clients: proxy buffering was on."
    assert used(answer, [hint], "Why does it stall?") == [True]
    assert used(answer, [hint] * 5, "Why does it stall?") == [False] * 5


@given(st.text(max_size=400), st.lists(st.text(max_size=400), max_size=5), st.text(max_size=200))
def test_any_text_gets_a_verdict_an_episode(answer: str, episodes: list[str], prompt: str) -> None:
    """Whatever the texts hold, there is one verdict an episode, and the same one each time."""
    verdicts = used(answer, episodes, prompt)
    assert len(verdicts) == len(episodes)
    assert used(answer, episodes, prompt) == verdicts


@given(st.text(max_size=400), st.lists(st.text(max_size=400), max_size=5))
def test_who_repeats_the_prompt_used_nothing(answer: str, episodes: list[str]) -> None:
    """An answer that the prompt holds whole owes nothing to memory."""
    assert not any(used(answer, episodes, answer))


@given(st.text(max_size=400), st.text(max_size=400), st.text(max_size=200))
def test_the_order_of_episodes_changes_nothing(one: str, other: str, answer: str) -> None:
    """Each episode has its verdict wherever it stands."""
    assert used(answer, [one, other], "") == used(answer, [other, one], "")[::-1]


def test_verdicts_do_not_depend_on_the_process() -> None:
    """The same texts get the same verdicts in a process that hashes strings another way."""
    program = (
        "from tests.services.gateway.test_usefulness import LEFT_ALONE, TAKEN_UP\n"
        "from services.gateway.usefulness import used\n"
        "print([used(a, [e, a[::-1], p], p) for e, p, a in [*TAKEN_UP.values(), *LEFT_ALONE.values()]])"
    )

    def run(seed: str) -> bytes:
        path = [one for one in sys.path if one]
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(path)}
        return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True).stdout

    assert run("1") == run("2")


def test_long_texts_are_read_in_bounded_time() -> None:
    """An answer of a million characters costs no more than one at the bound: beyond it only the ends are read."""

    def seconds(size: int) -> float:
        answer = " ".join(f"word{number}" for number in range(size // 8))[:size]
        began = time.process_time()
        used(answer, [PORT] * 5, "")
        return time.process_time() - began

    bound = min(seconds(MAX_ANSWER) for _ in range(3))
    assert min(seconds(50 * MAX_ANSWER) for _ in range(3)) < 10 * bound + 0.1
