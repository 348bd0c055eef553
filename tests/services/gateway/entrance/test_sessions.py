"""Sessions of browsers: what the cookie is, where it goes, when it ends, and who cannot use it."""

import asyncio
from http.cookies import Morsel, SimpleCookie
from pathlib import Path

import pytest
from yarl import URL

from anamnesis.contracts.keys import KeyKind, Scope
from anamnesis.kit.auth import new_key
from services.gateway.entrance import browsers

from .house import House, caller, house


def _cookie(header: str) -> "Morsel[str]":
    return SimpleCookie(header)["anamnesis_session"]


async def test_the_cookie_is_kept_from_scripts_and_other_sites(door: House) -> None:
    """HttpOnly, SameSite=Lax, for our paths, as long as the session; not Secure over plain HTTP."""
    async with door.browser() as browser:
        entered = await browser.log_in(token=await door.link())
        cookie = _cookie(entered.headers["Set-Cookie"])
    assert cookie["httponly"] is True
    assert cookie["samesite"].lower() == "lax"
    assert cookie["path"] == "/"
    assert cookie["domain"] == ""
    assert cookie["secure"] == ""
    assert 29.9 * 86_400 < int(cookie["max-age"]) <= 30 * 86_400


async def test_over_tls_the_cookie_is_secure(door: House) -> None:
    """Where the request came over TLS, the cookie never travels without."""
    headers = {"X-Forwarded-Proto": "https"}  # from loopback, where a proxy that ends TLS stands
    async with door.browser(**headers) as browser:
        host = URL(door.url).authority
        entered = await browser.log_in(origin=f"https://{host}", token=await door.link())
        assert entered.status == 303
        assert _cookie(entered.headers["Set-Cookie"])["secure"] is True


async def test_services_behind_see_the_callers_key_and_no_cookie(door: House) -> None:
    """What is passed on carries the session's key as any key, and neither this cookie nor others."""
    async with await door.logged_in() as browser:
        browser.session.cookie_jar.update_cookies({"other": "secret-of-another-program"}, URL(door.url))
        cookie = browser.cookie
        assert (await browser.send("GET", "/api/episodes/x")).status == 200
        _, _, headers, identity = door.memory.seen[-1]
        assert headers["authorization"] == f"Bearer {cookie}"
        assert "cookie" not in headers
        assert identity.kind is KeyKind.BROWSER


async def test_a_key_that_is_shown_wins_over_the_cookie(door: House) -> None:
    """A program in a browser that sends a key acts by it, and needs no token; a cookie never adds to it."""
    reader = await door.key(Scope.READ)
    async with await door.logged_in() as browser:
        shown = {"Authorization": f"Bearer {reader.key}"}
        assert (await browser.send("GET", "/api/episodes/x", **shown)).status == 200
        assert door.memory.seen[-1][3].key_id == reader.key_id
        assert (await browser.send("POST", "/api/episodes/x", **shown)).status == 403
        wrong = {"X-API-Key": new_key()}
        assert (await browser.send("GET", "/api/episodes/x", **wrong)).status == 401


async def test_another_scheme_of_authorization_is_not_passed_on(door: House) -> None:
    """Where a browser adds what it knows of a proxy's password, the session counts, and the password stays here."""
    async with await door.logged_in() as browser:
        assert (await browser.send("GET", "/api/episodes/x", Authorization="Basic YTpi")).status == 200
        assert door.memory.seen[-1][2]["authorization"] == f"Bearer {browser.cookie}"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_only_our_own_pages_change_something(door: House, method: str) -> None:
    """With the cookie alone nothing is changed: it takes our origin and the session's own token."""
    async with await door.logged_in() as browser, await door.logged_in() as other:
        ours, token = door.url, await browser.csrf()
        port = URL(door.url).port
        refused: list[dict[str, str]] = [
            {},
            {"Origin": ours},
            {"X-CSRF-Token": token},
            {"Origin": ours, "X-CSRF-Token": ""},
            {"Origin": ours, "X-CSRF-Token": "0" * 64},
            {"Origin": ours, "X-CSRF-Token": token[:-1]},
            {"Origin": ours, "X-CSRF-Token": token.upper()},
            {"Origin": ours, "X-CSRF-Token": "é"},
            {"Origin": ours, "X-CSRF-Token": await other.csrf()},
            *(
                {"Origin": origin, "X-CSRF-Token": token}
                for origin in (
                    "https://evil.example",
                    "null",
                    "",
                    f"http://127.0.0.1:{port}.evil.example",
                    f"http://evil.example:{port}",
                    f"http://user@127.0.0.1:{port}",
                    "http://127.0.0.1",
                    f"http://localhost:{port}",
                    "chrome-extension://abc",
                )
            ),
            {"Sec-Fetch-Site": "cross-site", "X-CSRF-Token": token},
            {"Sec-Fetch-Site": "same-site", "Origin": ours, "X-CSRF-Token": token},
            {"Sec-Fetch-Site": "none", "X-CSRF-Token": token},
        ]
        for headers in refused:
            answer = await browser.send(method, "/api/episodes/x", **headers)
            assert answer.status == 403, headers
            assert (await answer.json())["error"]["code"] == "forbidden"
        assert door.memory.seen == []
        for headers in (
            {"Origin": ours},
            {"Sec-Fetch-Site": "same-origin"},
            {"Origin": ours, "Sec-Fetch-Site": "none"},
        ):
            if method in ("POST", "DELETE"):  # those that the service behind takes
                answer = await browser.send(method, "/api/episodes/x", **headers, **{"X-CSRF-Token": token})
                assert answer.status == 200, headers


async def test_reading_needs_no_token(door: House) -> None:
    """A link from elsewhere may be followed; what it reads, only the person sees: no other origin is let in."""
    async with await door.logged_in() as browser:
        answer = await browser.send(
            "GET", "/api/episodes/x", **{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        )
        assert answer.status == 200
        assert [name for name in answer.headers if name.lower().startswith("access-control")] == []
        preflight = await browser.send(
            "OPTIONS",
            "/api/episodes/x",
            **{"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"},
        )
        assert preflight.status in (401, 403)
        assert [name for name in preflight.headers if name.lower().startswith("access-control")] == []


async def test_a_readers_session_changes_nothing(door: House) -> None:
    """A session goes as far as the key that it began with, also from our own pages."""
    reader = await door.key(Scope.READ)
    async with door.browser() as browser:
        await browser.log_in(key=reader.key)
        assert (await browser.own("GET", "/api/episodes/x")).status == 200
        assert (await browser.own("POST", "/api/episodes/x")).status == 403
        assert (await browser.own("POST", "/api/login-links")).status == 403
        assert (await browser.own("GET", "/api/keys")).status == 403


async def test_a_revoked_session_is_over_at_once(door: House) -> None:
    """Revoked through the gateway, a session opens nothing from the next request on, though it was just known."""
    admin = await door.key()
    async with await door.logged_in() as browser:
        assert (await browser.send("GET", "/api/session")).status == 200
        (session,) = await door.sessions()
        async with caller(door.url, admin.key) as one, one.delete(f"/api/keys/{session}") as gone:
            assert gone.status == 200
        assert (await browser.send("GET", "/api/session")).status == 401


async def test_an_expired_session_is_over(tmp_path: Path) -> None:
    """Past its end the cookie opens nothing, also where its answer had been kept, and leads to the login page."""
    async with house(tmp_path, days=4.0 / 86_400) as door, await door.logged_in() as browser:
        shown = {"Cookie": f"anamnesis_session={browser.cookie}", "Accept": "text/html"}
        async with asyncio.timeout(60):
            answer = await browser.send("GET", "/", **shown)
            while answer.headers["Location"] == "/dashboard":
                await asyncio.sleep(0.1)
                answer = await browser.send("GET", "/", **shown)
        assert (answer.status, answer.headers["Location"]) == (303, "/login?next=%2F")
        assert (await browser.send("GET", "/api/session", **shown)).status == 401


@pytest.mark.parametrize("value", ["", "x", "x" * 5_000, "anm_%C3%A9" * 4, '"quoted value of sixteen"', new_key()])
async def test_a_cookie_that_is_none_opens_nothing(door: House, value: str) -> None:
    """Whatever stands in the cookie, it is at most an unknown key."""
    async with door.browser() as browser:
        assert (await browser.send("GET", "/api/session", Cookie=f"anamnesis_session={value}")).status == 401
        refused = await browser.send("POST", "/api/episodes/x", Cookie=f"anamnesis_session={value}")
        assert refused.status in (401, 403)


async def test_a_session_is_an_api_key_as_any(door: House) -> None:
    """It stands in the list of keys with its kind and its end, and may be shown as a key."""
    async with await door.logged_in() as browser:
        async with caller(door.url, browser.cookie) as program, program.get("/api/keys") as answer:
            listed = (await answer.json())["keys"]
        (session,) = [one for one in listed if one["kind"] == "browser"]
        assert session["name"] == "browser on Firefox, Linux"
        assert session["expires_at"] is not None


WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (f"Mozilla/5.0 (Windows NT 10.0) {WEBKIT} Chrome/140 Safari/537.36 Edg/140", "Edge, Windows"),
        (f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Chrome/140 Safari/537.36", "Chrome, Linux"),
        (f"Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) {WEBKIT} Version/19 Safari/604", "Safari, iPhone"),
        (f"Mozilla/5.0 (Linux; Android 16) {WEBKIT} Chrome/140 Mobile Safari/537.36", "Chrome, Android"),
        ("curl/8", "an unknown program"),
        ("<script>alert(1)</script>", "an unknown program"),
        ("", "an unknown program"),
    ],
)
def test_browsers_have_names_that_people_know(agent: str, name: str) -> None:
    """The name is made of words of ours, whatever a program calls itself."""
    assert browsers.name(agent) == f"browser on {name}"
