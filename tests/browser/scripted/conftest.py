"""Pages over a scripted gateway, in the common Chromium."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import Visit, context_for
from tests.browser.scripted.house import House, serving

OpenScripted = Callable[..., Visit]
LOST = ("net::ERR_INCOMPLETE_CHUNKED_ENCODING", "net::ERR_ABORTED")
"""What Chromium itself says of a connection that a test cut on purpose."""


@pytest.fixture
def scripted() -> House:
    """What the gateway is going to say; fill it before a page is opened."""
    return House()


@pytest.fixture
def shown(browser: Browser, scripted: House) -> Iterator[OpenScripted]:
    """Opens pages; `root_path` puts the gateway under a path."""
    with contextlib.ExitStack() as closing:
        addresses: dict[str, str] = {}

        def open_(*, dark: bool = False, width: int = 1440, height: int = 900, root_path: str = "") -> Visit:
            if root_path not in addresses:
                addresses[root_path] = closing.enter_context(serving(scripted, root_path))
            context = context_for(browser, dark=dark, width=width, height=height, key=None)
            closing.callback(context.close)
            page = context.new_page()
            visit = Visit(page, addresses[root_path])
            page.on(
                "console",
                lambda said: (
                    visit.problems.append(f"{said.type}: {said.text}")
                    if said.type in ("error", "warning") and not any(one in said.text for one in LOST)
                    else None
                ),
            )
            page.on("pageerror", lambda error: visit.problems.append(f"thrown: {error}"))
            return visit

        yield open_
