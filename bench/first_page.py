"""The dashboard's first page: bytes over the wire and time until it can be used, in a real Chromium with a cold cache.

    python -m bench.first_page [--visits 5] [--episodes 10000] [--json OUT] [--markdown OUT]

Real services with seeded episodes; a new browser profile for each visit, logged in by a link as a person is. Bytes are
those that the browser counts on its network, headers included. Beside it, the login page in the same run.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser import chromium
from tests.e2e.conftest import KEY, running

TARGETS = "Targets: <= 200 kB over the wire, interactive <= 1 s on 2 cores."
BUSY = "document.querySelectorAll('main .skeleton').length"


class Visit(NamedTuple):
    kilobytes: float
    requests: int
    interactive_ms: float
    """`domInteractive`: the page can be used."""
    whole_ms: float
    """Every panel has its content."""


def visit(browser: Browser, root: str, path: str, session: str | None) -> Visit:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    if session is not None:
        page = context.new_page()
        page.goto(session)
        page.wait_for_url("**/dashboard")
        page.close()
    page = context.new_page()
    client = context.new_cdp_session(page)
    client.send("Network.enable")
    client.send("Network.setCacheDisabled", {"cacheDisabled": True})
    counted = {"bytes": 0, "requests": 0}

    def on_finished(event: dict[str, float]) -> None:
        counted["bytes"] += int(event["encodedDataLength"])
        counted["requests"] += 1

    client.on("Network.loadingFinished", on_finished)
    started = time.perf_counter()
    page.goto(root + path)
    while page.evaluate(BUSY):
        time.sleep(0.005)
    whole = (time.perf_counter() - started) * 1000
    interactive = float(page.evaluate("performance.getEntriesByType('navigation')[0].domInteractive"))
    settle(page)
    context.close()
    return Visit(counted["bytes"] / 1000, counted["requests"], interactive, whole)


def settle(page: Page) -> None:
    """What comes a little later counts too; the stream of events stays open and has no end."""
    page.wait_for_timeout(500)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    found: dict[str, list[Visit]] = {"login": [], "dashboard": []}
    with tempfile.TemporaryDirectory() as scratch:
        command = ["bench.search_http", "--fill", f"{scratch}/anamnesis.db", "--episodes", str(options.episodes)]
        subprocess.run([sys.executable, "-m", *command], check=True)
        with running(Path(scratch)) as stack, sync_playwright() as playwright, stack.client() as client:
            browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.arguments())
            for number in range(options.visits + 1):
                link = client.post("/api/login-links", headers={"X-API-Key": KEY}).json()["path"]
                first = visit(browser, stack.url(), "/login", None)
                second = visit(browser, stack.url(), "/dashboard", stack.url() + link)
                if number:  # the very first warms the services up
                    found["login"].append(first)
                    found["dashboard"].append(second)
            browser.close()
    figures = {
        name: {field: round(statistics.median(getattr(one, field) for one in visits), 1) for field in Visit._fields}
        for name, visits in found.items()
    }
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    lines = ["| page | kB | requests | interactive ms | every panel there ms |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {' | '.join(f'{one:g}' for one in each.values())} |" for name, each in figures.items()]
    text = (
        f"# The first page\n\n`python -m bench.first_page` on {machine}, {options.episodes:,} episodes, medians of "
        f"{options.visits} visits with a cold cache. {TARGETS}\n\n" + "\n".join(lines) + "\n"
    )
    print(text)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, **figures}, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
