"""`python -m tests.browser.pictures`: the README's pictures of the pages, from real services and made-up episodes."""

import asyncio
import json
import random
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.anamnesis.transcripts.writing import Script
from tests.browser import chromium
from tests.browser.conftest import Episode, Visit, context_for, fill, visit_in
from tests.e2e.conftest import running
from tests.e2e.crawling import code, config_of, configure, eventually, scan
from tests.services.gateway.upstreams import Upstream, sse, stream

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
QUESTION = "The upload test is flaky again. What was the cause the last time, and how did we fix it?"
ANSWER = """It is the cause of **2 October** again, most likely:

1. The storage server in `tests/test_upload.py` needs up to four seconds on a loaded build machine.
2. The test waited a fixed two seconds for it. We replaced the pause by a wait for port **9417**:

```python
await wait_for_port(9417, within=30)
```

The retries that we added in September hid it. They are gone since then, so look first whether they came back.
"""
TOLD = (
    ("shop", "Why does the upload test fail once in ten runs? Outcome: The storage server opens port 9417 after up to "
     "four seconds on a loaded build machine; tests/test_upload.py now waits for the port instead of two seconds."),
    ("shop", "Add retries to the upload test until we know more. Outcome: Three retries; it hides the cause, to be "
     "removed once it is found."),
    ("shop", "Remove the retries of the upload test. Outcome: Removed; 200 runs went well on the build machines."),
    ("shop", "Which payment provider do we use in tests? Outcome: A small scripted server, no sandbox account."),
    ("ledger", "How are exchange rates rounded? Outcome: Half to even at six digits, only when a posting is written."),
    ("ledger", "Move the nightly report to 03:30. Outcome: Moved, since the backup holds the tables until 03:10."),
    ("ledger", "Why is the year-end report slow? Outcome: An index on postings was missing; 48 s became 0.9 s."),
    ("atlas", "Draw the tiles of the harbour at zoom 17. Outcome: Drawn; the old ones had the pier of 2019."),
    ("atlas", "Which projection do the sea charts use? Outcome: Mercator, true to scale at 54 degrees north."),
    ("garden", "How often are the tomatoes watered? Outcome: Every second evening from the valve on port 3."),
)  # fmt: skip


def remembered() -> list[Episode]:
    """A few telling episodes, and many that fill the weeks before."""
    chance = random.Random(7)
    moment = datetime(2026, 11, 20, 17, tzinfo=UTC)
    told: list[Episode] = [
        {
            "timestamp": (datetime(2026, 10, 2, 9, 12, tzinfo=UTC) + timedelta(days=3 * number)).isoformat(),
            "instance": "laptop",
            "project": project,
            "summary": f"Asked: {text}",
            "source": {"kind": "claude-code", "session": f"{number:04x}-{project}"},
            "trust": "assistant",
        }
        for number, (project, text) in enumerate(TOLD)
    ]
    for number in range(240):
        project, _ = TOLD[chance.randrange(len(TOLD))]
        told.append(
            {
                "timestamp": (moment - timedelta(hours=chance.expovariate(1 / 500))).isoformat(),
                "instance": chance.choice(["laptop", "workstation"]),
                "project": project,
                "summary": f"Asked: Read page {chance.randrange(900)} of the {project} handbook aloud. Outcome: Read.",
                "source": {"kind": "claude-code", "session": f"{number // 4:04x}-{project}"},
                "trust": "assistant",
            }
        )
    return told


@contextmanager
def backend() -> Iterator[str]:
    """An OpenAI-compatible server that gives the answer, on a thread of its own."""

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return sse(json.loads(json.dumps({"id": "c", "model": "qwen2.5", "choices": [choice]})))

    frames = [chunk({"content": word + " "}) for word in ANSWER.split(" ")]
    upstream = Upstream(stream([*frames, chunk({}, "stop"), b"data: [DONE]\n\n"]))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(upstream.start(), loop).result(10)
    try:
        yield upstream.url
    finally:
        asyncio.run_coroutine_threadsafe(upstream.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


FILES = {
    "shop/README.md": "# Shop\n\n## Deploying\n\nThe build machines need port 9417 free.\n",
    "shop/upload.py": 'def wait_for_port(port: int) -> None:\n    """The storage server opens its port late."""\n',
    "shop/CLAUDE.md": "# Rules\n\nTests never wait for a fixed time.\n",
    "shop/.env": "DB_PASSWORD=swordfish\n",
    "ledger/rates.py": 'def rounded(rate: float) -> float:\n    """Half to even, at six digits."""\n    return rate\n',
    "ledger/deploy.sh": "#!/bin/sh\n# Moves the nightly report to 03:30.\n",
}
"""What the crawler finds."""


def write(root: Path) -> None:
    for name, text in FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    script = Script(session="s1", prefix="01")
    script.exchange("Why does the nightly report lock the ledger?", "The backup holds its tables until 03:10.")
    (root / "transcripts").mkdir()
    (root / "transcripts" / "s1.jsonl").write_bytes(script.data)


def take(page: Page, name: str) -> None:
    page.screenshot(path=PICTURES / name)
    print(f"docs/pictures/{name}")


def main() -> None:
    with tempfile.TemporaryDirectory() as data, tempfile.TemporaryDirectory(prefix="home-") as home, backend() as url:
        root = Path(home)
        write(root)
        extra = {
            "ANAMNESIS_OPENAI_URLS": f"{url}/v1",
            "ANAMNESIS_OPENAI_MODEL": "qwen2.5",
            "ANAMNESIS_INGEST_INSTANCE": "laptop",
            "ANAMNESIS_SOURCES": home,
            "ANAMNESIS_TRANSCRIPT_ROOTS": str(root / "transcripts"),
        }
        with running(Path(data), extra=extra) as stack, sync_playwright() as playwright:
            fill(stack, remembered())
            configure(stack, config_of(root, code("projects"), scan=300, watch=True))
            scan(stack)
            with stack.client() as client:
                client.post("/api/schedule/run", json={}).raise_for_status()
                eventually(lambda: client.get("/api/schedule").json()["last_successful_day"] is not None)
            browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.arguments())
            visit: Visit = visit_in(context_for(browser, width=1280, height=820), stack)
            page = visit.go("/chat")
            page.locator("textarea").first.fill(QUESTION)
            page.keyboard.press("Enter")
            page.get_by_text("whether they came back").wait_for()
            page.wait_for_timeout(1500)
            take(page, "chat.png")
            visit.go("/dashboard")
            page.wait_for_timeout(2500)
            take(page, "overview.png")
            visit.go("/dashboard/ingest")
            page.wait_for_timeout(2500)
            take(page, "ingest.png")
            browser.close()


if __name__ == "__main__":
    main()
