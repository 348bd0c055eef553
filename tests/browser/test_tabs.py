"""Every page opens cleanly, for every eye and on every screen."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Request, expect

from tests.browser.conftest import Open, episodes, fill
from tests.e2e.conftest import Stack

PATHS = {
    "overview": "/dashboard",
    "episodes": "/dashboard/episodes",
    "episodes-none": "/dashboard/episodes?project=nowhere",
    "search": "/dashboard/search",
    "results": "/dashboard/search?question=why+does+the+upload+test+fail",
    "compare": "/dashboard/search?question=upload+test&compare=on&b_top_k=3&b_lexical=1",
    "ingest": "/dashboard/ingest",
    "embedding": "/dashboard/embedding",
    "settings": "/dashboard/settings",
    "settings-files": "/dashboard/settings/files",
    "settings-transcripts": "/dashboard/settings/transcripts",
    "settings-night": "/dashboard/settings/night",
    "models": "/dashboard/models",
    "gpus": "/dashboard/gpus",
    "training": "/dashboard/training",
}
paths = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())


def some_episode(house: Stack) -> str:
    fill(house, [{**episodes(1)[0], "episode_id": "ep_tabs", "summary": "an upload test of its own"}])
    return "/dashboard/episodes/ep_tabs"


@paths
def test_a_page_opens_without_a_word_on_the_console(opened: Open, path: str) -> None:
    """No error, no warning, nothing against the policy."""
    visit = opened()
    page = visit.go(path)
    assert page.locator("h1").inner_text()
    assert page.locator("#nav a[aria-current=page]").count() == 1
    visit.check()


def test_an_episode_opens_without_a_word_on_the_console(opened: Open, house: Stack) -> None:
    """Summary and raw exchange stand side by side."""
    visit = opened()
    page = visit.go(some_episode(house))
    assert "upload test" in page.locator(".prose").inner_text()
    assert "The server needs longer" in page.locator(".raw").inner_text()
    visit.check()


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", [*PATHS.values(), "episode"], ids=[*PATHS.keys(), "episode"])
def test_nobody_is_shut_out(opened: Open, house: Stack, path: str, dark: bool) -> None:
    """axe-core finds no serious or critical violation."""
    page = opened(dark=dark).go(some_episode(house) if path == "episode" else path)
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    found = Axe().run(page).response["violations"]
    serious = [
        (one["id"], [node["html"][:160] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize("path", [*PATHS.values(), "episode"], ids=[*PATHS.keys(), "episode"])
def test_a_phone_shows_everything_without_scrolling_sideways(opened: Open, house: Stack, path: str) -> None:
    """At a width of 360 nothing is wider than the screen."""
    page = opened(width=360, height=740).go(some_episode(house) if path == "episode" else path)
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_first_page_is_small(opened: Open) -> None:
    """At most 200 kB over the wire, with everything that it fetches."""
    visit = opened()
    finished: list[Request] = []
    visit.page.on("requestfinished", lambda request: finished.append(request))
    page = visit.go("/dashboard")
    expect(page.locator("#timeline .chart canvas, #timeline .failure, #timeline p")).not_to_have_count(0)
    sizes = {one.url: one.sizes() for one in finished}
    assert any("htmx" in url for url in sizes)
    assert sum(one["responseHeadersSize"] + one["responseBodySize"] for one in sizes.values()) <= 200_000, sizes


def test_an_appearance_is_kept(opened: Open) -> None:
    """The switch changes the page at once, and the next one has it from its first moment on."""
    visit = opened()
    page = visit.go("/dashboard/settings")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Switch between dark and light").click()
    dark = page.evaluate(ground)
    assert dark != light
    visit.go("/dashboard/models")
    assert page.evaluate(ground) == dark
    visit.go("/dashboard/settings")
    page.get_by_label("As the system").check()
    assert page.evaluate(ground) == light
    visit.check()
