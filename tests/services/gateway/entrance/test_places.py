"""Where a login leads: to our own pages, whatever an address asks for."""

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.entrance.places import HOME, safe

from .house import House

OURS = ["/", "/dashboard", "/chat", "/dashboard/search?question=a%20b&x=//y", "/chat/ses_1#turn-3", "/dashboard?a=b"]
ELSEWHERE = [
    "https://evil.example",
    "//evil.example",
    "///evil.example",
    "////evil.example/dashboard",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/%09/evil.example",
    "/dashboard\r\nSet-Cookie: a=b",
    "/dashboard\n",
    "/dashboard//evil.example",
    "/dashboard/..//evil.example",
    "/dashboard/../../evil",
    "/dashboard/./x",
    "/dashboard\\..\\..",
    "/dashboard@evil.example",
    "/dashboard.evil.example",
    "/chat:80@evil.example",
    "dashboard",
    ".evil.example",
    "@evil.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,x",
    "http:evil.example",
    "http:/evil.example",
    "/api/episodes",
    "/logout",
    "/login?next=//evil.example",
    "//[::1]",
    "/\u2215evil.example",
    "/dashboard\u2028",
    "/\uff0fevil.example",
    "/dashboard?" + "x" * 3_000,
    "",
    "?",
    "#",
]


@pytest.mark.parametrize("place", OURS)
def test_our_own_pages_are_places_to_go(place: str) -> None:
    """What people wanted to see is where they get."""
    assert safe(place) == place


@pytest.mark.parametrize("place", ELSEWHERE)
def test_all_else_leads_to_the_dashboard(place: str) -> None:
    """No other site, no other scheme, no second header, nothing that is no page."""
    assert safe(place) == HOME


PARTS = [*"/\\.:@?#%-_a\t\r\n\0 \u2215\uff0f", "dashboard", "chat", "evil.example", "..", "//"]
PLACES = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)


@given(PLACES | PLACES.map("/dashboard".__add__))
def test_no_place_leads_out(place: str) -> None:
    """As browsers resolve it, a place is at our origin, in the dashboard or the chat, and fits into a header."""
    base = "http://gateway.example:3010"
    found = safe(place)
    target = urlsplit(urljoin(base + "/login", found))
    assert (target.scheme, target.netloc) == ("http", "gateway.example:3010")
    assert target.path == "/" or target.path.split("/")[1] in ("dashboard", "chat")
    assert found.isascii()
    assert found.isprintable()


@pytest.mark.parametrize("place", ["//evil.example", "https://evil.example", "/dashboard\r\nX: y", "/\\evil.example"])
async def test_no_login_leads_out(door: House, place: str) -> None:
    """Neither by the address of the page, nor by what its form sends."""
    async with door.browser() as browser:
        async with browser.session.get("/login", params={"next": place, "token": await door.link()}) as page:
            assert "evil.example" not in await page.text()
        entered = await browser.log_in(token=await door.link(), next=place)
        assert (entered.status, entered.headers["Location"]) == (303, "/dashboard")
        assert "X" not in entered.headers


async def test_a_login_leads_back(door: House) -> None:
    """Where somebody wanted to go in the first place."""
    async with door.browser() as browser:
        entered = await browser.log_in(token=await door.link(), next="/dashboard/search?question=tea#1")
        assert entered.headers["Location"] == "/dashboard/search?question=tea#1"
