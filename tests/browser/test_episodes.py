"""What can be done with an episode, and leafing through many."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Open, context_for, episodes, fill, visit_in
from tests.e2e.conftest import Stack, running


def write(house: Stack, number: int) -> str:
    name = f"ep_browser_{number}"
    fill(house, [{**episodes(1)[0], "episode_id": name, "summary": f"a summary of its own, {number}"}])
    return name


def test_superseding_and_back(opened: Open, house: Stack) -> None:
    """One episode replaces another, which says so, until it is made current again."""
    old, new = write(house, 1), write(house, 2)
    visit = opened()
    page = visit.go(f"/dashboard/episodes/{old}")
    page.get_by_role("button", name="Supersede").click()
    page.get_by_label("Id of the episode that replaces it").fill(new)
    page.get_by_role("button", name="Mark", exact=True).click()
    expect(page.locator(".notice.warn")).to_contain_text(new)
    with house.client() as client:
        assert client.get(f"/api/episodes/{old}").json()["superseded_by"] == new
    page.get_by_role("button", name="Make current again").click()
    expect(page.get_by_role("button", name="Supersede")).to_be_visible()
    visit.check()


def test_a_mistake_is_said_and_nothing_happens(opened: Open, house: Stack) -> None:
    """A successor that is not there: the page says what is wrong and stays."""
    old = write(house, 3)
    page = opened().go(f"/dashboard/episodes/{old}")
    page.get_by_role("button", name="Supersede").click()
    page.get_by_label("Id of the episode that replaces it").fill("ep_nowhere")
    page.get_by_role("button", name="Mark", exact=True).click()
    expect(page.locator(".toast.bad")).to_contain_text("There is no episode ep_nowhere")


def test_deleting_asks_first(opened: Open, house: Stack) -> None:
    """Cancelled, it stays; confirmed, it is gone."""
    name = write(house, 4)
    visit = opened()
    page = visit.go(f"/dashboard/episodes/{name}")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    with house.client() as client:
        assert client.get(f"/api/episodes/{name}").status_code == 200
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.get_by_role("heading", name="Deleted")).to_be_visible()
        assert client.get(f"/api/episodes/{name}").status_code == 404
    visit.check()


def test_forgetting_shows_its_receipt(opened: Open, house: Stack) -> None:
    """What was removed, and the counts that prove that nothing is left."""
    name = write(house, 5)
    visit = opened()
    page = visit.go(f"/dashboard/episodes/{name}")
    page.get_by_role("button", name="Forget").click()
    page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    expect(page.get_by_role("heading", name="Forgotten")).to_be_visible()
    expect(page.locator(".notice.good")).to_contain_text("nothing is left")
    expect(page.locator("#episode .facts")).to_contain_text(name)
    visit.check()


def test_an_episode_that_is_not_there_says_so(opened: Open) -> None:
    """With a way to try again."""
    page = opened().go("/dashboard/episodes/ep_nowhere")
    expect(page.get_by_role("alert")).to_contain_text("There is no episode ep_nowhere")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    data: Path = tmp_path_factory.mktemp("many")
    with running(data) as stack:
        fill(stack, episodes(10_000))
        yield stack


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_are_leafed_through_smoothly(browser: Browser, many: Stack) -> None:
    """The first, a middle and the last page come quickly, hold fifty each, and no task blocks the page for long."""
    context = context_for(browser)
    try:
        visit = visit_in(context, many)
        page = visit.page
        page.add_init_script(
            "window.blocked = 0; new PerformanceObserver((list) => list.getEntries().forEach((one) =>"
            " (window.blocked = Math.max(window.blocked, one.duration)))).observe({type: 'longtask', buffered: true})"
        )
        for number, count in ((1, 50), (100, 50), (200, 50)):
            visit.go(f"/dashboard/episodes?page={number}")
            assert page.locator(".episode").count() == count
            assert "10,000" in page.locator(".list-head").inner_text()
            assert page.evaluate("document.querySelectorAll('*').length") < 1500
            page.mouse.wheel(0, 4000)
            page.wait_for_timeout(200)
            assert page.evaluate("window.blocked") < 2000
        page.get_by_role("link", name="Newer").click()
        page.wait_for_url("**page=199")
        visit.settle()
        visit.check()
    finally:
        context.close()


def test_what_happened_long_ago_has_its_date_beside(opened: Open, house: Stack) -> None:
    """“Last year” alone says little; what is recent needs no more."""
    long_ago = {"timestamp": "2019-03-12T12:00:00Z", "project": "long-ago"}
    fill(house, [{**episodes(1)[0], **long_ago, "summary": "something of 2019"}])
    page = opened().go("/dashboard/episodes?project=long-ago")
    expect(page.locator(".episode .when")).to_have_text(re.compile(r"^\d+ years ago, Mar 12, 2019$"))
    page = opened().go("/dashboard/episodes?project=shop")
    expect(page.locator(".episode .when").first).not_to_contain_text(",")
