"""The login page in a real Chromium: by link, by key, without scripts, by keyboard, on a phone, dark and light."""

import os
import shutil
from collections.abc import AsyncIterator

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from .house import House

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PATIENCE = 60_000  # ms for anything that a page does, on a loaded machine
FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    named = os.environ.get("ANAMNESIS_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not named:
        pytest.skip("there is no Chromium on this machine: install one, or name one by ANAMNESIS_TEST_CHROMIUM")
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=named, args=flags, timeout=PATIENCE)
        try:
            yield browser
        finally:
            await browser.close()


async def _page(context: BrowserContext) -> Page:
    context.set_default_timeout(PATIENCE)
    await context.add_init_script(WATCH)
    return await context.new_page()


async def _logged_in(context: BrowserContext) -> bool:
    """Whether a session's cookie is there, out of reach of scripts."""
    return any(one["name"] == "anamnesis_session" and one["httpOnly"] for one in await context.cookies())


async def test_a_link_logs_in_by_itself(door: House, chromium: Browser) -> None:
    """Opening the printed link is all: the script sends the form, and the dashboard is next."""
    context = await chromium.new_context()
    page = await _page(context)
    await page.goto(f"{door.url}/login?token={await door.link()}")
    await page.wait_for_url(f"{door.url}/dashboard")
    assert await _logged_in(context)
    assert await page.evaluate("document.cookie") == ""


async def test_without_scripts_the_button_logs_in(door: House, chromium: Browser) -> None:
    """The form works as forms always did; reached by keyboard alone."""
    context = await chromium.new_context(java_script_enabled=False)
    page = await _page(context)
    await page.goto(f"{door.url}/login?token={await door.link()}&next=/chat")
    button = page.get_by_role("button", name="Log in", exact=True)
    await expect(button).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(button).to_be_focused()
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"{door.url}/chat")
    assert await _logged_in(context)


async def test_a_key_is_pasted_and_wrong_ones_are_told(door: House, chromium: Browser) -> None:
    """The field has the focus; a wrong key is said aloud to who cannot see; the right one leads to the dashboard."""
    key = (await door.key()).key
    context = await chromium.new_context()
    page = await _page(context)
    await page.goto(f"{door.url}/login")
    await expect(page.get_by_label("API key")).to_be_focused()
    await page.keyboard.type("anm_" + "x" * 40)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("no key that is known")
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Log in with the key").click()
    await page.wait_for_url(f"{door.url}/dashboard")
    assert await _logged_in(context)


@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_the_page_is_sound(door: House, chromium: Browser, scheme: str) -> None:
    """Nothing breaks the policy or speaks on the console, nothing that some cannot use, no sideways scrolling."""
    context = await chromium.new_context(color_scheme=scheme, viewport={"width": 320, "height": 700})  # type: ignore[arg-type]
    page = await _page(context)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    await page.goto(f"{door.url}/login?next=/dashboard")
    await expect(page.get_by_role("heading", name="Log in to Anamnesis")).to_be_visible()
    found = await Axe().run(page)
    assert [one["id"] for one in found.response["violations"]] == []
    assert await page.evaluate("window.violations") == []
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    assert said == []
