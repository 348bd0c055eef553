"""Bytes to lines."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from anamnesis.transcripts.lines import lines


@given(
    st.binary(max_size=200).map(lambda data: data.replace(b"\x01", b"\n")), st.lists(st.integers(0, 200), max_size=6)
)
def test_any_blocks_give_the_same_lines(data: bytes, cuts: list[int]) -> None:
    """Where blocks end changes nothing: the same lines at the same places."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    blocks = [data[start:end] for start, end in pairwise(edges)]
    assert list(lines(blocks, 7)) == list(lines([data], 7))


@given(st.binary(max_size=100))
def test_lines_hold_every_byte_in_its_place(data: bytes) -> None:
    """A line's place in the file is where its bytes are."""
    for line in lines([data]):
        assert data[line.position : line.end].rstrip(b"\n" if line.ended else b"") == line.data.rstrip(b"\n")
        assert data[line.end - 1 : line.end] == b"\n" or not line.ended


def test_a_line_beyond_the_bound_is_let_go() -> None:
    """A line that is too long comes without its bytes, and the ones behind it are whole."""
    found = list(lines([b"a" * 5, b"a" * 6, b"\nbcd\n", b"e" * 11], longest=8))
    assert [(line.data, line.end - line.position, line.ended) for line in found] == [
        (b"", 12, True),
        (b"bcd", 4, True),
        (b"", 11, False),
    ]
