"""All services filled with some episodes, and a Chromium that looks at them and notes whatever goes wrong."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.browser import chromium
from tests.e2e.conftest import KEY, Stack, running

PATIENCE = 30_000  # ms for anything that a page does, on a loaded machine
REPORT = """
window.violations = [];
window.hit = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""
Episode = dict[str, object]


def episodes(count: int, projects: tuple[str, ...] = ("shop", "ledger", "atlas")) -> list[Episode]:
    """Episodes of several projects over the last weeks."""
    moment = datetime.now(UTC)
    return [
        {
            "timestamp": (moment - timedelta(hours=7 * number)).isoformat(),
            "instance": ("laptop", "workstation")[number % 2],
            "project": projects[number % len(projects)],
            "summary": f"Asked: why does the upload test fail? Outcome: the server needs longer, case {number}.",
            "raw_exchange": f"User: case {number}?\n\nAssistant: The server needs longer.",
            "tags": ["bug", f"n{number % 5}"],
            "source": {"kind": "claude-code", "path": f"/home/ada/{number}.jsonl", "session": f"s{number // 4}"},
        }
        for number in range(count)
    ]


def fill(stack: Stack, records: list[Episode]) -> None:
    with stack.client(timeout=600) as client:
        answer = client.post("/api/episodes/import", content="\n".join(map(json.dumps, records)))
        assert answer.json()["refused"] == 0, answer.text


@dataclass
class Visit:
    """A page that is open, and what went wrong on it."""

    page: Page
    root: str
    problems: list[str] = field(default_factory=list)

    def go(self, path: str) -> Page:
        """Open a path and wait until every panel has its content."""
        self.page.goto(self.root + path)
        self.settle()
        return self.page

    def settle(self) -> None:
        expect(self.page.locator("main .skeleton")).to_have_count(0, timeout=PATIENCE)

    def check(self) -> None:
        """Nothing was said on the console, no script failed, and the policy was not touched."""
        assert self.page.evaluate("window.violations") == []
        assert self.problems == []


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One for all tests of the pages, gone after them: while it lives, its event loop is this thread's."""
    try:
        binary = chromium.find()
    except chromium.Missing as missing:
        pytest.skip(str(missing))
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=binary, args=chromium.arguments(), timeout=120_000)
        try:
            yield one
        finally:
            one.close()


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All services with some episodes, for tests that leave them as they are or add their own."""
    with running(tmp_path_factory.mktemp("house")) as stack:
        fill(stack, episodes(60))
        yield stack


Open = Callable[..., Visit]


def context_for(
    browser: Browser, *, dark: bool = False, width: int = 1280, height: int = 800, key: str | None = KEY
) -> BrowserContext:
    headers: Mapping[str, str] = {"X-API-Key": key} if key else {}
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        extra_http_headers=dict(headers),
    )
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    context.add_init_script(REPORT)
    return context


def visit_in(context: BrowserContext, stack: Stack) -> Visit:
    page = context.new_page()
    visit = Visit(page, stack.url())

    def said(message: ConsoleMessage) -> None:
        place = urlsplit(message.location.get("url", "")).path
        if message.type in ("error", "warning"):
            visit.problems.append(f"{message.type}: {message.text} ({place})")

    page.on("console", said)
    page.on("pageerror", lambda error: visit.problems.append(f"thrown: {error}"))
    return visit


@pytest.fixture
def opened(browser: Browser, house: Stack) -> Iterator[Open]:
    """Opens pages over the common house; `dark`, `width`, `height` and `key` as wanted."""
    with contextlib.ExitStack() as closing:

        def open_(*, dark: bool = False, width: int = 1280, height: int = 800, key: str | None = KEY) -> Visit:
            context = context_for(browser, dark=dark, width=width, height=height, key=key)
            closing.callback(context.close)
            return visit_in(context, house)

        yield open_
