"""Logging in: by a link that works once, by a key, and not by anything else."""

import asyncio
import html

import aiohttp
import pytest
from yarl import URL

from anamnesis.contracts.keys import KeyKind, Scope
from anamnesis.kit.auth import new_key
from anamnesis.kit.errors import StorageFull
from services.gateway.entrance.login import OPENED

from ..conftest import SERVICE_KEY
from .house import House, caller

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def test_a_link_logs_in_once(door: House) -> None:
    """The first browser with the link is in; the second one is not, and reads what to do."""
    token = await door.link()
    async with door.browser() as first, door.browser() as second:
        entered = await first.log_in(token=token)
        assert (entered.status, entered.headers["Location"]) == (303, "/dashboard")
        assert (await first.send("GET", "/api/session")).status == 200
        refused = await second.log_in(token=token)
        assert refused.status == 401
        assert "anamnesis login" in html.unescape(await refused.text())
        assert second.cookie == ""
        assert len(await door.sessions()) == 1


async def test_a_used_link_leads_who_is_in_to_where_it_leads(door: House) -> None:
    """Who clicks on the same line of the terminal again is in already, and no second session begins."""
    token = await door.link()
    async with door.browser() as browser:
        await browser.log_in(token=token)
        again = await browser.log_in(token=token)
        assert (again.status, again.headers["Location"]) == (303, "/dashboard")
        assert len(await door.sessions()) == 1


async def test_looking_at_a_link_does_not_use_it_up(door: House) -> None:
    """Whatever fetches the page beforehand (a preview, a scanner) changes nothing: the link works afterwards."""
    token = await door.link()
    async with door.browser() as preview, door.browser() as person:
        for _ in range(3):
            page = await preview.send("GET", f"/login?token={token}", **HTML)
            assert page.status == 200
            assert "Set-Cookie" not in page.headers
        assert (await preview.send("HEAD", f"/login?token={token}")).status in (200, 405)
        assert (await person.log_in(token=token)).status == 303


async def test_the_page_works_without_a_script(door: House) -> None:
    """The form that the page holds has the token, a button, and the place to go to."""
    token = await door.link()
    async with door.browser() as browser:
        page = await browser.send("GET", f"/login?token={token}&next=%2Fdashboard%2Fsearch%3Fq%3Da%26b")
        text = await page.text()
        assert '<form class="link" method="post" action="/login"' in text
        assert f'name="token" value="{token}"' in text
        assert 'name="next" value="/dashboard/search?q=a&amp;b"' in text
        assert text.count('<button type="submit"') == 2


@pytest.mark.parametrize("hostile", ['"><script>alert(1)</script>', "' onfocus=alert(1) x='", "\u202etxt", "\x00"])
async def test_what_a_link_holds_is_text(door: House, hostile: str) -> None:
    """Whatever stands in the address is shown as text or not at all."""
    async with door.browser() as browser:
        address = URL("/login").with_query(token=hostile, next=hostile)
        async with browser.session.get(address) as page:
            text = await page.text()
            assert page.status == 200
        assert "<script>alert" not in text
        assert "onfocus=alert(1) x='" not in text
        refused = await browser.log_in(key=hostile, next=hostile)
        assert refused.status == 401
        assert hostile not in await refused.text()


@pytest.mark.parametrize("scope", [Scope.READ, Scope.WRITE, Scope.ADMIN])
async def test_a_key_lets_in_as_far_as_it_goes(door: House, scope: Scope) -> None:
    """A session that begins with a key has that key's scope, is named by the browser, and ends with the key."""
    key = await door.key(scope)
    async with door.browser() as browser:
        assert (await browser.log_in(key=f"  {key.key} ")).status == 303
        assert browser.cookie != key.key
        async with browser.session.get("/api/session") as answer:
            session = await answer.json()
        assert session["identity"]["scope"] == scope
        assert session["identity"]["kind"] == "browser"
        assert session["identity"]["name"] == "browser on Firefox, Linux"
        await door.key(Scope.ADMIN)  # so that it is not the last one
        async with caller(door.url, SERVICE_KEY) as admin, admin.delete(f"/api/keys/{key.key_id}") as gone:
            assert gone.status == 200
        assert (await browser.send("GET", "/api/session")).status == 401


async def test_a_session_is_no_longer_than_the_key_it_began_with(door: House) -> None:
    """A key for a day makes a session for a day."""
    key = await door.key(Scope.READ, days=1)
    async with door.browser() as browser:
        await browser.log_in(key=key.key)
    (session,) = [one for one in await door.keys.list() if one.kind is KeyKind.BROWSER]
    assert session.expires_at is not None
    assert key.expires_at is not None
    assert abs((session.expires_at - key.expires_at).total_seconds()) < 60


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"key": new_key()}, 401),
        ({"key": "short"}, 401),
        ({"key": "anm_é" * 8}, 401),
        ({"key": SERVICE_KEY}, 403),
        ({"token": "x" * 43}, 401),
        ({"token": "é"}, 401),
        ({}, 422),
        ({"key": "", "token": " "}, 422),
        ({f"field{number}": "x" for number in range(20)}, 422),
    ],
)
async def test_nobody_comes_in_by_anything_else(door: House, form: dict[str, str], status: int) -> None:
    """Unknown keys and links, the key between services, and nonsense: the page again, with the reason, no cookie."""
    async with door.browser() as browser:
        answer = await browser.log_in(**form)
        assert answer.status == status
        assert answer.content_type == "text/html"
        assert 'role="alert"' in await answer.text()
        assert browser.cookie == ""
    assert await door.sessions() == []


async def test_only_a_form_logs_in(door: House) -> None:
    """JSON, files and no body at all are refused; a form that is too large is not even read."""
    key = (await door.key()).key
    async with door.browser(Origin=door.url) as browser:
        async with browser.session.post("/login", json={"key": key}) as answer:
            assert answer.status == 422
        with aiohttp.MultipartWriter("form-data") as parts:
            parts.append(key).set_content_disposition("form-data", name="key")
        async with browser.session.post("/login", data=parts) as answer:
            assert answer.status == 422
        async with browser.session.post("/login") as answer:
            assert answer.status == 422
        async with browser.session.post("/login", data={"key": "x" * 20_000}) as answer:
            assert answer.status == 413


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "", "http://[", "file://"])
async def test_another_site_logs_nobody_in(door: House, origin: str) -> None:
    """A form on a page of somebody else's, who would have people work in a session of theirs, is refused."""
    token = await door.link()
    async with door.browser() as browser:
        assert (await browser.log_in(origin=origin, token=token)).status == 403
        assert (await browser.log_in(token=token)).status == 303, "the refused attempt must not use the link up"


async def test_attempts_are_limited(door: House) -> None:
    """After ten attempts in a minute comes 429 with the time to wait, even with the right key."""
    key = (await door.key()).key
    async with door.browser() as browser:
        statuses = [(await browser.log_in(key=new_key())).status for _ in range(13)]  # a window may end in between
        assert statuses[:10] == [401] * 10
        assert statuses[-1] == 429
        refused = await browser.log_in(key=key)
        assert refused.status == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 120
        assert "Too many attempts" in await refused.text()
        assert (await browser.send("GET", "/login")).status == 200


async def test_a_link_outlives_a_memory_that_is_away(door: House) -> None:
    """When the session cannot be made, the page says so and the same link works later."""
    token = await door.link()
    real = door.keys.create

    async def away(*_: object) -> None:
        raise StorageFull("the disk is full")

    door.keys.create = away  # type: ignore[method-assign, assignment]
    async with door.browser() as browser:
        refused = await browser.log_in(token=token)
        assert refused.status == 507
        assert "the disk is full" in await refused.text()
        door.keys.create = real  # type: ignore[method-assign]
        assert (await browser.log_in(token=token)).status == 303


async def test_two_at_once_with_one_link(door: House) -> None:
    """Of many attempts at the same moment one succeeds."""
    token = await door.link()
    browsers = [door.browser() for _ in range(5)]
    try:
        answers = await asyncio.gather(*(browser.log_in(token=token) for browser in browsers))
    finally:
        for browser in browsers:
            await browser.session.close()
    assert sorted(answer.status for answer in answers) == [303, 401, 401, 401, 401]


@pytest.mark.parametrize("scope", [Scope.READ, Scope.WRITE])
async def test_links_are_made_by_admins(door: House, scope: Scope) -> None:
    """A key that may do less makes no link that may do more; an admin's may, and so may an admin's browser."""
    key = await door.key(scope)
    async with caller(door.url, key.key) as session, session.post("/api/login-links") as answer:
        assert answer.status == 403
    admin = await door.key()
    async with caller(door.url, admin.key) as session, session.post("/api/login-links") as answer:
        assert answer.status == 201
    async with await door.logged_in() as browser:
        assert (await browser.own("POST", "/api/login-links")).status == 201


async def test_a_link_goes_with_the_key_that_made_it(door: House) -> None:
    """A key that is revoked leaves no way in behind: neither links nobody has used yet, nor those who came by one, nor
    links that such a browser has made. A browser that came in otherwise, and its links, stay."""
    leaked = await door.key(Scope.ADMIN, days=1)
    async with door.browser() as by_link, door.browser() as by_link_of_it, door.browser() as late:
        async with caller(door.url, leaked.key) as session:
            paths = [await (await session.post("/api/login-links")).json() for _ in range(2)]
        used, open_ = (one["path"].partition("token=")[2] for one in paths)
        assert (await by_link.log_in(token=used)).status == 303
        made = await (await by_link.own("POST", "/api/login-links")).json()
        second = made["path"].partition("token=")[2]
        third = (await (await by_link.own("POST", "/api/login-links")).json())["path"].partition("token=")[2]
        assert (await by_link_of_it.log_in(token=second)).status == 303
        ends = {one.expires_at for one in await door.keys.list() if one.kind is KeyKind.BROWSER}
        assert ends == {leaked.expires_at}
        async with await door.logged_in() as person:
            unaffected = (await (await person.own("POST", "/api/login-links")).json())["path"].partition("token=")[2]
            assert (await person.own("DELETE", f"/api/keys/{leaked.key_id}")).status == 200
            for browser in (by_link, by_link_of_it):
                assert (await browser.send("GET", "/api/session")).status == 401
            for token in (open_, third):
                assert (await late.log_in(token=token)).status == 404
            assert late.cookie == ""
            assert (await late.log_in(token=unaffected)).status == 303
            await person.own("POST", "/logout")
            assert (await late.send("GET", "/api/session")).status == 200


async def test_logging_in_again_ends_the_former_session(door: House) -> None:
    """A browser leaves no session behind that nobody would ever end."""
    async with await door.logged_in() as browser:
        former = browser.cookie
        assert (await browser.log_in(token=await door.link())).status == 303
        assert browser.cookie not in ("", former)
        assert len(await door.sessions()) == 1


async def test_logging_out_ends_the_session_at_once(door: House) -> None:
    """The key is revoked, here and in memory, and the browser forgets it."""
    async with await door.logged_in() as browser:
        cookie = browser.cookie
        gone = await browser.own("POST", "/logout")
        assert gone.status == 204
        assert browser.cookie == ""
        assert await door.sessions() == []
        again = await browser.send("GET", "/api/session", Cookie=f"anamnesis_session={cookie}")
        assert again.status == 401


async def test_logging_out_from_a_page_leads_to_the_login(door: House) -> None:
    """Also for who may only read; a key of the caller's own is not ended by it."""
    key = await door.key(Scope.READ)
    async with door.browser() as browser:
        await browser.log_in(key=key.key)
        gone = await browser.own("POST", "/logout", **HTML)
        assert (gone.status, gone.headers["Location"]) == (303, "/login")
    async with caller(door.url, key.key) as session:
        async with session.post("/logout") as answer:
            assert answer.status == 400
        async with session.get("/api/session") as answer:
            assert (await answer.json())["csrf_token"] is None
    async with door.browser() as browser:  # a key that somebody has put into the cookie is no session either
        browser.session.cookie_jar.update_cookies({"anamnesis_session": key.key}, URL(door.url))
        assert (await browser.own("POST", "/logout")).status == 400
    assert key.key_id in [one.key_id for one in await door.keys.list()]


async def test_strangers_are_led_to_the_login_page(door: House) -> None:
    """A page asked for in a browser leads to the login and back; an API path and a script's request get 401."""
    async with door.browser() as browser:
        for path, place in (
            ("/", "%2F"),
            ("/dashboard", "%2Fdashboard"),
            ("/dashboard/search?q=a%20b", "%2Fdashboard%2Fsearch%3Fq%3Da%2520b"),
            ("/chat", "%2Fchat"),
        ):
            async with browser.session.get(URL(path, encoded=True), headers=HTML, allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (303, f"/login?next={place}"), path
        for path in ("/api/episodes", "/v1/models", "/metrics", "/openapi.json", "/nowhere", "/dashboardx", "/mcp"):
            refused = await browser.send("GET", path, **HTML)
            assert (refused.status, refused.content_type) == (401, "application/json"), path
        for headers in ({}, {"Accept": "application/json"}, {**HTML, "HX-Request": "true"}):
            assert (await browser.send("GET", "/dashboard", **headers)).status == 401
        assert (await browser.send("POST", "/dashboard", **HTML)).status == 401


async def test_the_root_leads_to_the_dashboard(door: House) -> None:
    """Who is in and opens the bare address gets the dashboard."""
    async with await door.logged_in() as browser:
        answer = await browser.send("GET", "/")
        assert (answer.status, answer.headers["Location"]) == (303, "/dashboard")


async def test_what_the_login_page_needs_is_open(door: House) -> None:
    """The page's files are there for strangers, of the right kind, and no other file of the pages is."""
    async with door.browser() as browser:
        for way in OPENED:
            if way.method == "GET":
                assert (await browser.send("GET", way.path)).status == 200, way.path
        assert (await browser.send("GET", "/static/login.js")).content_type == "text/javascript"
        assert (await browser.send("GET", "/static/login.css")).content_type == "text/css"
        for path in ("/static/", "/static/app.css", "/static/login.html", "/static/../app.py", "/dashboard/static/x"):
            assert (await browser.send("GET", path)).status == 401, path


async def test_no_name_that_is_rebound_sees_the_page(door: House) -> None:
    """A page that points a name of its own at this address gets 400 from every way, also those that are open."""
    async with await door.logged_in() as browser:
        for path in ("/login", "/static/login.js", "/health", "/dashboard", "/api/session"):
            for host in ("evil.example", f"evil.example:{URL(door.url).port}", "127.0.0.1.evil.example"):
                assert (await browser.send("GET", path, Host=host)).status == 400
        refused = await browser.send("POST", "/login", Host="evil.example", Origin="http://evil.example")
        assert refused.status == 400
