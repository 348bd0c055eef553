"""One-time links: random, once, for a day, and never more than a few."""

import re
from datetime import timedelta

from services.gateway.entrance.links import Links


def test_a_token_is_random_and_works_once() -> None:
    """256 bits as text for an address; taken, it is gone."""
    links = Links()
    token, _ = links.make()
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", token)
    assert links.make()[0] != token
    assert links.take(token + "x") is None
    assert links.take("") is None
    assert links.take(token) is not None
    assert links.take(token) is None


def test_a_token_gets_old() -> None:
    """Past its time it is worth nothing."""
    links = Links(lifetime=timedelta(seconds=-1))
    assert links.take(links.make()[0]) is None


def test_what_was_taken_in_vain_can_be_put_back() -> None:
    """It then works once more, and no longer than it would have."""
    links = Links()
    token, until = links.make()
    ticket = links.take(token)
    assert ticket is not None
    assert ticket.expires_at == until
    links.put_back(ticket)
    assert links.take(token) == ticket
    assert links.take(token) is None


def test_the_number_of_open_links_is_bounded() -> None:
    """One more, and the oldest is worth nothing."""
    links = Links(most=3)
    tokens = [links.make()[0] for _ in range(4)]
    assert [links.take(token) is not None for token in tokens] == [False, True, True, True]
