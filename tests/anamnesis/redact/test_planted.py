"""Redaction against formats that others publish: what is found, and what is taken for a secret and is none."""

from collections import Counter

from anamnesis.redact import redact
from tests.anamnesis.redact.planted import BY_FORMAT, NAMED, friends, planted

EACH = 8


def survives(value: str, text: str) -> bool:
    """Whether a secret, or its telling half, is still in a text; a name before it may stay."""
    own = value.rpartition("=")[2] if value.endswith(value.rpartition("=")[2]) and "_" in value else value
    own = own or value
    return own in text or value[-12:] in text


def test_nearly_all_of_what_is_planted_is_found() -> None:
    """At least 99 of 100 planted secrets are gone, and of no format more than one in eight is missed."""
    missed: Counter[str] = Counter()
    total = 0
    for one in planted(each=EACH):
        total += 1
        missed[one.rule] += survives(one.value, redact(one.text).text)
    assert total == EACH * (len(BY_FORMAT) + len(NAMED))
    assert missed.total() <= total // 100, missed.most_common(10)
    assert max(missed.values()) <= 1, missed.most_common(10)


def test_false_friends_are_left_alone() -> None:
    """Of what only looks like a secret less than one line in a hundred is touched."""
    lines = list(friends())
    touched = [line for line in lines if redact(line).text != line]
    assert len(touched) <= len(lines) // 100, touched[:10]


def test_what_is_planted_in_a_long_text_is_found_wherever_it_stands() -> None:
    """Among prose, code and other secrets a secret is found as it is alone."""
    some = [one for one in planted(seed=3, each=2) if not survives(one.value, redact(one.text).text)]
    filler = list(friends(seed=4, each=2))
    text = "\n".join(line for pair in zip(some, filler * 9, strict=False) for line in (pair[0].text, pair[1]))
    out = redact(text).text
    assert [one.rule for one in some if survives(one.value, out)] == []
