"""What a page does when something behind it fails, and when something changes."""

import re

from playwright.sync_api import Route, expect

from tests.browser.conftest import Open, episodes, fill
from tests.e2e.conftest import Stack

ERROR = '{"error": {"code": "unavailable", "message": "the memory service is away", "detail": null}}'


def test_a_panel_that_fails_leaves_the_others_alone(opened: Open) -> None:
    """It says what is wrong, and works again once asked to; nothing else on the page notices."""
    page = opened().page
    away = True

    def answer(route: Route) -> None:
        route.fulfill(status=503, body=ERROR, content_type="application/json") if away else route.continue_()

    page.route("**/parts/overview/makeup*", answer)
    visit = opened()
    page.goto(f"{visit.root}/dashboard")
    panel = page.locator("#makeup")
    expect(panel.get_by_role("alert")).to_contain_text("The memory service is away")
    expect(page.locator("#tiles .tile").first).to_contain_text("Episodes")
    away = False
    panel.get_by_role("button", name="Try again").click()
    expect(panel).to_contain_text("By project")


def test_a_missing_key_leads_to_the_login(opened: Open) -> None:
    """Never a page that silently shows nothing: it goes to the login and knows the way back."""
    visit = opened()
    page = visit.page
    page.route("**/parts/episodes/list*", lambda route: route.fulfill(status=401, body=ERROR))
    page.route("**/login*", lambda route: route.fulfill(status=200, body="log in", content_type="text/html"))
    page.goto(f"{visit.root}/dashboard/episodes?project=shop")
    page.wait_for_url(re.compile(r"/login\?next=%2Fdashboard%2Fepisodes%3Fproject%3Dshop$"))


def test_what_happens_is_seen_without_reloading(opened: Open, house: Stack) -> None:
    """An episode that is written appears in the count."""
    visit = opened()
    page = visit.go("/dashboard")
    expect(page.locator("#live")).to_have_attribute("data-state", "on")
    count = page.locator("#tiles .tile").first.locator("dd")
    before = count.inner_text()
    fill(house, [{**episodes(1)[0], "summary": "something that happened while somebody looked"}])
    expect(count).not_to_have_text(before)
    visit.check()


def test_one_stream_a_page(opened: Open) -> None:
    """All that is live on a page comes over one connection."""
    visit = opened()
    streams: list[str] = []
    visit.page.on("request", lambda one: streams.append(one.url) if "/api/events" in one.url else None)
    visit.go("/dashboard")
    visit.page.wait_for_timeout(1500)
    assert len(streams) == 1


def test_looking_writes_nothing(opened: Open) -> None:
    """A page is opened by GETs alone."""
    visit = opened()
    methods: set[str] = set()
    visit.page.on("request", lambda one: methods.add(one.method))
    for path in ("/dashboard", "/dashboard/settings", "/dashboard/embedding", "/dashboard/search?question=upload"):
        visit.go(path)
    assert methods == {"GET"}
