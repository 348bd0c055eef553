"""Server-sent events: what is written is what is read."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamnesis.kit.sse import MAX_EVENT, Event, parse, respond

LINE = st.text(st.characters(exclude_characters="\r\n\x00", exclude_categories=["Cs"]), max_size=40)


async def _lines(text: str) -> AsyncIterator[str]:
    for line in text.split("\n"):
        yield line.removesuffix("\r")


async def _events(events: list[Event]) -> AsyncIterator[Event]:
    for one in events:
        yield one


@given(
    st.lists(st.builds(Event, st.from_regex(r"[a-z]{1,8}", fullmatch=True), LINE.filter(bool), st.none()), max_size=5)
)
async def test_events_survive_the_wire(events: list[Event]) -> None:
    """Every name and text arrives as it was sent, in order."""
    body = ""
    async for frame in respond(_events(events)).body_iterator:
        encoded = frame.encode() if hasattr(frame, "encode") else frame
        body += encoded.decode() if isinstance(encoded, bytes) else str(encoded)
    assert [one async for one in parse(_lines(body))] == events


async def test_a_cut_event_is_not_delivered() -> None:
    """What the end of the stream cuts off is left out, comments too."""
    text = ": ping\n\nevent: a\nid: 7\ndata: one\ndata: two\n\nevent: b\ndata: cut"
    assert [one async for one in parse(_lines(text))] == [Event("a", "one\ntwo", "7")]


async def test_an_endless_event_is_refused() -> None:
    """A reader's memory is bounded whatever the server sends."""

    async def endless() -> AsyncIterator[str]:
        while True:
            yield "data: " + "x" * 10_000

    with pytest.raises(ValueError, match=str(MAX_EVENT)):
        [one async for one in parse(endless())]
