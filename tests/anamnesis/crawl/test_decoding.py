"""Bytes become text, or are found to be none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamnesis.crawl.decoding import decode

TEXT = "Grüße, naïve café — “quoted” €5\r\n日本語\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ""),
        (b"plain\r\n", "plain\r\n"),
        (TEXT.encode(), TEXT),
        (TEXT.encode("utf-8-sig"), TEXT),
        (b"\xff\xfe" + TEXT.encode("utf-16-le"), TEXT),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), TEXT),
        ("Grüße für alle aus Köln, naïve café".encode("latin-1"), "Grüße für alle aus Köln, naïve café"),
        ("He said “no” — it costs €5 today".encode("cp1252"), "He said “no” — it costs €5 today"),
        (b"\x1b[31mred\x1b[0m text of a log\n", "\x1b[31mred\x1b[0m text of a log\n"),
        (b"page one\fpage two\n", "page one\fpage two\n"),
    ],
)
def test_text(data: bytes, expected: str) -> None:
    """UTF-8, UTF-16 with its mark, and the Western encodings of older files; line ends stay."""
    assert decode(data) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF\x02\x01\x01\0\0\0",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"text with a \0 in it",
        b"\xff\xfe\0\0a\0\0\0",
        b"\xff\xfea",
        b"\xff\xfe\0\xd8a\0",
        b"\xff\xfea\0\0\0",
        bytes(range(1, 256)) * 4,
        bytes(range(128, 256)) * 8,
        b"\x01\x02\x03\x04" * 10,
        "Привет, мир, это старая кодировка".encode("cp1251"),
    ],
)
def test_binary(data: bytes) -> None:
    """A NUL, many control characters, mostly high bytes or a broken UTF-16 are no text that could be told."""
    assert decode(data) is None


@given(st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufeff")))
def test_what_is_unicode_comes_back(text: str) -> None:
    """Whatever is written as UTF-8 or as marked UTF-16 is read as it was."""
    assert decode(text.encode()) == text
    assert decode(b"\xff\xfe" + text.encode("utf-16-le")) == text


@given(st.binary(max_size=200))
def test_anything_is_answered(data: bytes) -> None:
    """Any bytes are text that can be stored, or none."""
    text = decode(data)
    if text is not None:
        assert "\0" not in text
        text.encode()
