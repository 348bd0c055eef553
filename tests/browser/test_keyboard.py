"""Everything can be reached and done without a mouse."""

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Open


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText"))


def test_the_first_stop_skips_to_the_content(opened: Open) -> None:
    """A link that is seen once it has the focus, and leads past the navigation."""
    page = opened().go("/dashboard/models")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    assert page.locator(".skip").bounding_box()["y"] >= 0  # type: ignore[index]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_slash_goes_to_the_search(opened: Open) -> None:
    """From anywhere but a field that is being written in; Enter searches."""
    visit = opened()
    page = visit.go("/dashboard/ingest")
    page.keyboard.press("/")
    page.keyboard.type("upload/test")
    assert page.locator("#quick").input_value() == "upload/test"
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard/search?question=upload%2Ftest")
    visit.settle()
    assert page.locator("#question").input_value() == "upload/test"
    visit.check()


def test_arrows_walk_the_navigation(opened: Open) -> None:
    """Down, up, to the end and around."""
    page = opened().go("/dashboard")
    page.locator("#nav a").first.focus()
    seen = []
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "End", "ArrowDown"):
        page.keyboard.press(key)
        seen.append(focused(page).strip())
    assert seen == ["Chat", "Episodes", "Chat", "Settings", "Overview"]


def test_arrows_walk_a_list_of_episodes(opened: Open) -> None:
    """And Enter opens one."""
    visit = opened()
    page = visit.go("/dashboard/episodes")
    page.locator(".episode").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    page.keyboard.press("k")
    target = page.locator(".episode").nth(1).get_attribute("href")
    assert page.evaluate("document.activeElement.getAttribute('href')") == target
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{target}")
    visit.settle()
    visit.check()


def test_a_dialog_takes_the_focus_and_gives_it_back(opened: Open) -> None:
    """Escape does nothing but close it."""
    visit = opened()
    page = visit.go("/dashboard/ingest")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.method))
    page.locator("#anew").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('dialog[open]').contains(document.activeElement)")
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("document.activeElement.id") == "anew"
    assert "POST" not in asked


def test_the_navigation_of_a_phone_opens_and_closes(opened: Open) -> None:
    """It says whether it is open; Escape closes it and gives the focus back."""
    page = opened(width=360, height=740).go("/dashboard")
    menu = page.get_by_role("button", name="Navigation")
    assert not page.locator("#nav").is_visible()
    menu.press("Enter")
    assert menu.get_attribute("aria-expanded") == "true"
    assert focused(page).strip() == "Overview"
    page.keyboard.press("Escape")
    assert not page.locator("#nav").is_visible()
    assert page.evaluate("document.activeElement.classList.contains('menu')")


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/search?question=upload", "/dashboard/embedding"])
def test_whatever_has_the_focus_shows_it(opened: Open, path: str) -> None:
    """A walk by Tab through the page: each stop is seen, has a name, and has an outline."""
    page = opened().go(path)
    stops = 0
    for _ in range(120):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => {
                const one = document.activeElement;
                if (one === document.body) return null;
                const look = getComputedStyle(one.closest("label:has(:focus-visible)") ?? one);
                return {
                    name: one.getAttribute("aria-label") ?? one.labels?.[0]?.innerText ?? one.innerText,
                    outline: look.outlineStyle !== "none" && parseFloat(look.outlineWidth) >= 1,
                    place: one.outerHTML.slice(0, 120),
                };
            }"""
        )
        if stop is None:
            break
        stops += 1
        assert stop["name"].strip(), stop
        assert stop["outline"], stop
    assert stops > 15
