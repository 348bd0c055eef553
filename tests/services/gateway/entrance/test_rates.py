"""How often one may ask: by key, with an end, and never the services themselves."""

from pathlib import Path

import pytest
from starlette.requests import Request

from anamnesis.contracts.keys import Scope
from services.gateway.entrance.rates import Rates, address

from ..conftest import SERVICE_KEY
from .house import House, caller, house


async def _until_refused(door: House, key: str, most: int = 20) -> tuple[int, dict[str, str]]:
    """How many requests a key could make, and the headers of the refusal."""
    async with caller(door.url, key) as session:
        for number in range(most):
            async with session.get("/api/session") as answer:
                if answer.status != 200:
                    assert answer.status == 429
                    body = await answer.json()
                    assert body["error"]["code"] == "busy"
                    assert "ANAMNESIS_GATEWAY_RATE" in body["error"]["message"]
                    return number, dict(answer.headers)
    return most, {}


async def test_each_key_has_its_own_count(tmp_path: Path) -> None:
    """A key that asks too often gets 429 and the time to wait; another key goes on."""
    async with house(tmp_path, rate="5/hour") as door:
        busy, calm = await door.key(Scope.READ), await door.key(Scope.WRITE)
        made, headers = await _until_refused(door, busy.key)
        assert made in (5, 6)  # a window may end in between
        assert 1 <= int(headers["Retry-After"]) <= 7_200
        assert (await _until_refused(door, calm.key, most=3))[0] == 3


async def test_services_and_what_is_open_do_not_count(tmp_path: Path) -> None:
    """The key between services is exempt; health, the login page and files of pages answer whoever is refused."""
    async with house(tmp_path, rate="2/hour") as door:
        assert (await _until_refused(door, SERVICE_KEY))[0] == 20
        key = await door.key(Scope.READ)
        await _until_refused(door, key.key)
        async with caller(door.url, key.key) as session:
            for path in ("/health", "/ready", "/login", "/static/login.css"):
                async with session.get(path) as answer:
                    assert answer.status == 200, path
            async with session.get("/dashboard/static/none.js") as answer:
                assert answer.status == 404
            async with session.get("/dashboard") as answer:
                assert answer.status == 429


async def test_what_is_kept_is_bounded() -> None:
    """Of more than can be counted, whoever was quiet for the longest begins anew; those who ask are still counted."""
    rates = Rates("2/hour", most=100)
    for number in range(1_000):
        assert await rates.count(f"address {number}") is None
        await rates.count("busy")
    assert len(rates._seen) == 100
    assert len(rates._limiter.storage.storage) <= 200  # type: ignore[attr-defined] # two windows each
    assert await rates.count("busy") is not None


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "unknown"),
        ("", "unknown"),
    ],
)
def test_an_address_stands_for_one_person(host: str, counted: str) -> None:
    """In IPv6 one person has a whole network of addresses, and is counted once."""
    client = (host, 1) if host else None
    assert address(Request({"type": "http", "headers": [], "client": client})) == counted
