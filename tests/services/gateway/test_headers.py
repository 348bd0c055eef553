"""What every answer of the gateway tells a browser, and where the gateway lives under a path of a proxy."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from starlette.types import Message, Receive, Scope, Send

from services.gateway.headers import POLICY, SafeHeaders
from services.gateway.settings import OWN, GatewaySettings

from .entrance.house import House, house


@pytest.fixture
async def answers(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as one:
        yield one


async def test_every_answer_is_kept_from_harm(answers: House) -> None:
    """Pages, errors, refusals, what is passed on and what is open: all carry the headers, and none is kept."""
    async with await answers.logged_in() as browser:
        for method, path, more in (
            ("GET", "/login", {}),
            ("GET", "/api/episodes/x", {}),
            ("GET", "/api/session", {}),
            ("GET", "/health", {}),
            ("GET", "/nowhere", {}),
            ("POST", "/api/episodes/x", {}),
            ("GET", "/health", {"Host": "evil.example"}),
            ("GET", "/api/session", {"Cookie": "x"}),
            ("POST", "/login", {}),
        ):
            answer = await browser.send(method, path, **more)
            headers = answer.headers
            assert headers["X-Content-Type-Options"] == "nosniff", path
            assert headers["X-Frame-Options"] == "DENY"
            assert headers["Referrer-Policy"] == "same-origin"
            assert headers["Cache-Control"] == "no-store"
            page = answer.content_type == "text/html"
            assert headers.get("Content-Security-Policy") == (POLICY if page else None)
        assert (await browser.send("GET", "/static/login.css")).headers["Cache-Control"] == "no-cache"


async def test_an_answers_own_headers_stay_but_for_those_that_open_it() -> None:
    """What knows better keeps its word; a header that lets other origins read is taken away."""
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        own = [
            (b"Cache-Control", b"max-age=60"),
            (b"Access-Control-Allow-Origin", b"*"),
            (b"content-type", b"text/css"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": own})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    await SafeHeaders(app)({"type": "http"}, receive, send)
    names = [name.lower() for name, _ in sent[0]["headers"]]
    assert names.count(b"cache-control") == 1
    assert b"access-control-allow-origin" not in names
    assert b"x-frame-options" in names


@pytest.mark.parametrize("cut", [True, False])
async def test_it_lives_under_a_path(tmp_path: Path, cut: bool) -> None:
    """Whether a proxy cuts the path off or not, everything is found, and every address begins with it."""
    root = "/tools/anamnesis"
    before = "" if cut else root
    async with house(tmp_path, path=root) as door:
        token = await door.link()
        async with door.browser() as browser:
            page = await (await browser.send("GET", f"{before}/login?token={token}")).text()
            assert f'action="{root}/login"' in page
            assert f'href="{root}/static/login.css"' in page
            assert (await browser.send("GET", f"{before}/static/login.css")).status == 200
            stranger = await browser.send("GET", f"{before}/dashboard/x?y=z", Accept="text/html")
            assert stranger.headers["Location"] == f"{root}/login?next=%2Fdashboard%2Fx%3Fy%3Dz"
            entered = await browser.session.post(
                f"{before}/login",
                data={"token": token, "next": "/chat"},
                headers={"Origin": door.url},
                allow_redirects=False,
            )
            assert (entered.status, entered.headers["Location"]) == (303, f"{root}/chat")
            assert f"Path={root}" in entered.headers["Set-Cookie"]
            cookie = entered.headers["Set-Cookie"].split(";")[0]
            passed = await browser.send("GET", f"{before}/api/episodes/a%2Fb?c=d", Cookie=cookie)
            assert passed.status == 200
            assert door.memory.seen[-1][1] == "/api/episodes/a/b"
            home = await browser.send("GET", f"{before}/", Cookie=cookie)
            assert home.headers["Location"] == f"{root}/dashboard"
            assert (await browser.send("GET", f"{before}/health")).status == 200


async def test_a_path_that_anybody_claims_counts_for_nothing(answers: House) -> None:
    """A header cannot make the pages load from elsewhere."""
    async with answers.browser() as browser:
        claimed = {"X-Forwarded-Prefix": "//evil.example", "X-Script-Name": "/evil", "X-Forwarded-Host": "evil.example"}
        page = await (await browser.send("GET", "/login", **claimed)).text()
        assert "evil" not in page


@pytest.mark.parametrize(
    "path", [*(f"/{own}" for own in OWN), "/api/x", "anamnesis", "/", "/a/", "//a", "/a b", "/%61"]
)
def test_a_path_that_cannot_be_told_apart_is_refused(path: str) -> None:
    """Neither one of our own, nor what is no path."""
    with pytest.raises(ValidationError):
        GatewaySettings(gateway_path=path)
