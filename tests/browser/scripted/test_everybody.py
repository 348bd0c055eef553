"""Chat, map, evaluation, ingest and settings for every eye and on every screen."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from anamnesis.contracts.chat import Attempt, BackendState
from anamnesis.contracts.episodes import Trust
from anamnesis.contracts.evaluate import EvaluateRun, EvaluateState
from tests.browser.scripted.conftest import OpenScripted
from tests.browser.scripted.house import ANSWER, BEGAN, House, Script, recalled, turn
from tests.browser.scripted.test_evaluate import scores
from tests.browser.scripted.test_ingest import full, ingest
from tests.browser.scripted.test_map import picture
from tests.browser.scripted.test_settings import configured, settings

RICH = (
    f"# Heading\n\n{ANSWER}\n\n| a | b |\n|---|---|\n| {'long ' * 30} | 2 |\n\n- [ ] to do\n- [x] done\n\n> quoted\n\n"
    f"```\n{'x' * 400}\n```\n\n![picture](https://example.org/p.png) {'word' * 200}"
)
Prepare = Callable[[House, Page, str], None]


def chat_empty(house: House, page: Page, root: str) -> None:
    page.goto(f"{root}/chat")
    expect(page.locator("#welcome")).to_be_visible()


def chat_full(house: House, page: Page, root: str) -> None:
    house.session("old", "A conversation with a rather long title that says what it is about", [turn(1, "Q", RICH)])
    tried = (Attempt(backend="ollama", endpoint="http://127.0.0.1:11434", error="connection refused"),)
    found = [recalled(1, "A memory. " * 60), recalled(2, "Another.", trust=Trust.WEB)]
    house.script = lambda _: Script(
        recalled=found, used=("ep_1",), attempts=tried, thinking="Hm.", pieces=[RICH], error="it broke"
    )
    page.goto(f"{root}/chat?session=old")
    expect(page.locator(".turn")).to_have_count(1)
    page.locator("#message").fill("A question " * 200)
    page.keyboard.press("Enter")
    expect(page.locator(".problem.failed")).to_be_visible()
    page.locator("#toasts").evaluate("(one) => one.replaceChildren()")


def chat_options(house: House, page: Page, root: str) -> None:
    page.goto(f"{root}/chat")
    page.locator("#options-box > summary").click()
    page.get_by_label("Chosen here, asked in this order").check()


def chat_setup(house: House, page: Page, root: str) -> None:
    names = ("ollama", "openai", "claude", "claude-cli", "anamnesis-gpt")
    house.backends = tuple(BackendState(name=one, configured=False, reason=f"set {one.upper()}") for one in names)
    page.goto(f"{root}/chat")
    expect(page.locator("#setup")).to_be_visible()


def map_(house: House, page: Page, root: str) -> None:
    house.map = picture(house, 90)
    page.goto(f"{root}/dashboard/map")
    expect(page.locator("#list .summary").first).to_contain_text("What happened")


def evaluation(house: House, page: Page, root: str) -> None:
    house.settings["evaluation-questions"] = {
        "questions": [{"question": "First? " * 20, "episode_ids": ["ep_1"]}, {"question": "Second?", "episode_ids": []}]
    }
    found = (scores("As shipped", 0.5, 1.0), scores("Changed", 0.75, 0.5))
    house.runs.append(EvaluateRun(run_id="run1", state=EvaluateState.DONE, started_at=BEGAN, scores=found))
    page.goto(f"{root}/dashboard/evaluate?run=run1")
    expect(page.locator(".scores")).to_be_visible()
    expect(page.locator("#questions .question")).to_have_count(2)


def evaluation_dialog(house: House, page: Page, root: str) -> None:
    house.episode("ep_1", "Fixed the flaky upload test.")
    page.goto(f"{root}/dashboard/evaluate")
    page.get_by_role("button", name="Add a question").click()
    page.locator("#question-text").fill("upload")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("#question-hits input")).to_have_count(1)


def ingest_full(house: House, page: Page, root: str) -> None:
    full(house.intake)
    ingest(page, root)
    page.get_by_role("radio", name="Files").check()
    expect(page.locator("#files-source")).to_be_visible()
    page.locator("#file").set_input_files({"name": f"{'long' * 60}.pdf", "mimeType": "x/y", "buffer": b"made up"})
    expect(page.locator("#handed .badge.good")).to_be_visible()
    page.locator("#toasts").evaluate("(one) => one.replaceChildren()")


def ingest_empty(house: House, page: Page, root: str) -> None:
    ingest(page, root)


def settings_files(house: House, page: Page, root: str) -> None:
    configured(house.intake)
    settings(page, root, "files")


def settings_first(house: House, page: Page, root: str) -> None:
    settings(page, root, "files")


def settings_source(house: House, page: Page, root: str) -> None:
    configured(house.intake)
    settings(page, root, "files")
    page.get_by_role("button", name="Edit firmware").click()
    page.locator("#source-dialog summary").click()
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview")).to_contain_text("would be read")


def settings_transcripts(house: House, page: Page, root: str) -> None:
    configured(house.intake)
    settings(page, root, "transcripts")


def settings_night(house: House, page: Page, root: str) -> None:
    configured(house.intake)
    settings(page, root, "night")
    page.get_by_role("button", name="Show what would be done").click()
    expect(page.locator(".group")).to_have_count(3)


PAGES = (
    chat_empty,
    chat_full,
    chat_options,
    chat_setup,
    map_,
    evaluation,
    evaluation_dialog,
    ingest_full,
    ingest_empty,
    settings_files,
    settings_first,
    settings_source,
    settings_transcripts,
    settings_night,
)
pages = pytest.mark.parametrize("prepare", PAGES, ids=[one.__name__.strip("_") for one in PAGES])


@pytest.mark.slow
@pages
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nobody_is_shut_out(shown: OpenScripted, scripted: House, prepare: Prepare, dark: bool) -> None:
    """axe-core finds no serious or critical violation, and nothing was said on the console."""
    visit = shown(dark=dark)
    prepare(scripted, visit.page, visit.root)
    found = Axe().run(visit.page).response["violations"]
    serious = [
        (one["id"], [node["html"][:200] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
    visit.check()


@pages
def test_a_phone_shows_everything_without_scrolling_sideways(
    shown: OpenScripted, scripted: House, prepare: Prepare
) -> None:
    """At a width of 360 nothing is wider than the screen."""
    visit = shown(width=360, height=740)
    prepare(scripted, visit.page, visit.root)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    columns = visit.page.locator("#log, .side-scroll")
    assert columns.evaluate_all("(all) => all.filter((one) => one.scrollWidth > one.clientWidth).length") == 0
    visit.check()


def test_a_phone_has_its_side_columns_behind_buttons(shown: OpenScripted, scripted: House) -> None:
    """What was recalled, and the conversations, come over the talk and go again; Escape closes them too."""
    scripted.session("old", "An old one", [turn(1, "Asked", "Answered")])
    scripted.script = lambda _: Script(recalled=[recalled(1, "A memory.")])
    visit = shown(width=360, height=740)
    page = visit.go("/chat")
    page.locator("#message").fill("A question")
    page.keyboard.press("Enter")
    page.locator(".recalled-button").click()
    expect(page.locator("#recall")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#recall")).to_be_hidden()
    page.get_by_role("button", name="Conversations", exact=True).click()
    page.get_by_role("link", name="An old one").click()
    expect(page.locator("#sessions")).to_be_hidden()
    expect(page.locator(".answered")).to_have_text("Answered")
    visit.check()
