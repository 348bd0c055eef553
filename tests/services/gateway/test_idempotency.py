"""The same request sent twice: done once, answered twice, within bounds."""

import gc

import pytest
from starlette.requests import Request

from anamnesis.contracts.keys import Identity, Scope
from anamnesis.kit.errors import AnamnesisError, BadRequest, Busy, Conflict, Invalid
from services.gateway.idempotency import MAX_ANSWER, Claim, Idempotency, Kept

HEADERS = ((b"content-type", b"text/event-stream"),)


def store(*, ttl: float = 100.0, answers: int = 3, size: int = 1 << 20) -> tuple[Idempotency, list[float]]:
    now = [0.0]
    return Idempotency(clock=lambda: now[0], ttl=ttl, answers=answers, size=size), now


def do(idempotency: Idempotency, key: str, *frames: bytes, body: bytes = b"ask") -> None:
    claim = claimed(idempotency, key, body)
    for frame in frames:
        claim.add(frame)
    claim.keep(200, HEADERS)


def claimed(idempotency: Idempotency, key: str, body: bytes = b"ask") -> Claim:
    claim = idempotency.claim(("k1", "/path", key), body)
    assert isinstance(claim, Claim)
    return claim


def kept(idempotency: Idempotency, key: str, body: bytes = b"ask") -> tuple[bytes, ...] | None:
    found = idempotency.claim(("k1", "/path", key), body)
    return found.frames if isinstance(found, Kept) else None


def test_an_answer_is_given_again() -> None:
    """What was kept comes back as the frames that were sent, with its headers and the mark."""
    idempotency, _ = store()
    do(idempotency, "a", b"one", b"two")
    found = idempotency.claim(("k1", "/path", "a"), b"ask")
    assert found == Kept(200, HEADERS, (b"one", b"two"))
    response = found.response()
    assert response.body == b"onetwo"
    assert dict(response.raw_headers) == {
        b"content-type": b"text/event-stream",
        b"content-length": b"6",
        b"idempotency-replayed": b"true",
    }


def test_a_key_stands_for_one_request() -> None:
    """Another body is refused, before and after the end; while it is under way the same body is a conflict."""
    idempotency, _ = store()
    claim = claimed(idempotency, "a")
    with pytest.raises(Conflict):
        kept(idempotency, "a")
    with pytest.raises(Invalid):
        kept(idempotency, "a", b"other")
    claim.keep(200, HEADERS)
    with pytest.raises(Invalid):
        kept(idempotency, "a", b"other")
    assert kept(idempotency, "a") == ()


@pytest.mark.parametrize("id", [("k2", "/path", "a"), ("k1", "/other", "a"), ("k1", "/path", "b")])
def test_keys_of_others_are_others(id: tuple[str, str, str]) -> None:
    """The same key of somebody else, or for another path, is another key."""
    idempotency, _ = store()
    do(idempotency, "a", b"one")
    assert isinstance(idempotency.claim(id, b"ask"), Claim)


def test_what_failed_is_done_again() -> None:
    """A request that was dropped, or whose claim was lost, is the first again; a kept one stays kept."""
    idempotency, _ = store()
    claim = claimed(idempotency, "a")
    claim.add(b"half")
    claim.drop()
    claim = claimed(idempotency, "a")
    del claim
    gc.collect()
    claim = claimed(idempotency, "a")
    claim.keep(200, HEADERS)
    claim.drop()
    assert kept(idempotency, "a") == ()


def test_answers_are_forgotten_by_age_number_and_size() -> None:
    """The oldest answers go first: after their time, and where room is needed; what is under way stays."""
    idempotency, now = store(size=1_300)
    for key in "abc":
        do(idempotency, key, b"x" * 10)
        now[0] += 30
    running = claimed(idempotency, "d")
    assert kept(idempotency, "b") is not None
    do(idempotency, "a", b"x" * 1_000)
    assert kept(idempotency, "c") is None
    now[0] += 100
    assert kept(idempotency, "a") is None
    with pytest.raises(Conflict):
        kept(idempotency, "d")
    running.drop()


def test_too_many_under_way_are_refused() -> None:
    """What is under way is bounded too: more is refused, and nothing is forgotten for it."""
    idempotency, _ = store()
    held = [claimed(idempotency, key) for key in "abc"]
    with pytest.raises(Busy):
        claimed(idempotency, "d")
    held[0].drop()
    claimed(idempotency, "d").drop()


def test_an_answer_too_large_to_keep_is_forgotten() -> None:
    """An answer over the bound is not kept, nor any part of it; the next is done anew."""
    idempotency, _ = store(size=1 << 30)
    do(idempotency, "a", b"x" * MAX_ANSWER, b"y")
    assert kept(idempotency, "a") is None


def asked(*keys: bytes) -> Request:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/path",
        "server": ("localhost", 80),
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"idempotency-key", key) for key in keys],
        "state": {"identity": Identity(key_id="k1", name="tests", scope=Scope.WRITE)},
    }
    return Request(scope)


@pytest.mark.parametrize("keys", [(b"",), (b"x" * 256,), (b"a b",), ("é".encode(),), (b"a", b"a"), (b"\x7f",)])
def test_a_header_that_is_no_key_is_refused(keys: tuple[bytes, ...]) -> None:
    """Length and characters are checked, and that there is one."""
    idempotency, _ = store()
    with pytest.raises(BadRequest):
        idempotency.begin(asked(*keys), b"ask")


def test_without_the_header_nothing_is_kept() -> None:
    """No key, no claim; with one it is the caller's own, for this path."""
    idempotency, _ = store()
    assert idempotency.begin(asked(), b"ask") is None
    claim = idempotency.begin(asked(b"x" * 255), b"ask")
    assert isinstance(claim, Claim)
    with pytest.raises(AnamnesisError):
        idempotency.claim(("k1", "/path", "x" * 255), b"ask")
