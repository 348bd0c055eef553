"""A person chats over all services: what is remembered comes along, and the talk is found again."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Visit, context_for, episodes, fill, visit_in
from tests.e2e.conftest import KEY, Stack, running

QUESTION = "Why does the upload test fail?"
WORDS = ("The upload test fails because ", "the **server needs longer**", ", as we saw in an earlier case.")


class Model(ThreadingHTTPServer):
    """A small OpenAI-compatible endpoint; after its first words it waits for `go`, and tells when its reader leaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.go = threading.Event()
        self.go.set()
        self.left = threading.Event()
        self.prompts: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Answers(BaseHTTPRequestHandler):
    server: Model

    def do_GET(self) -> None:
        self._send(200, "application/json", json.dumps({"object": "list", "data": [{"id": "small-1"}]}).encode())

    def do_POST(self) -> None:
        self.server.prompts.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for number, words in enumerate(WORDS):
                self._chunk({"role": "assistant", "content": words})
                while number == 0 and not self.server.go.wait(0.05):
                    self.wfile.write(b": still here\n\n")
            self._chunk({}, "stop")
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.server.left.set()

    def _chunk(self, delta: dict[str, str], reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "small-1", "choices": [choice]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    one = Model()
    yield one
    one.shutdown()


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("talking"), extra={"ANAMNESIS_OPENAI_URLS": model.url}) as stack:
        fill(stack, episodes(60))
        yield stack


@pytest.fixture
def visit(browser: Browser, talking: Stack) -> Iterator[Visit]:
    context = context_for(browser)
    yield visit_in(context, talking)
    context.close()


@pytest.mark.slow
def test_a_talk_from_its_first_question_to_its_file(visit: Visit, model: Model, talking: Stack) -> None:
    """Recalled, streamed, used, said to be helpful, kept over a reload, renamed, found by a search, exported."""
    page = visit.go("/chat")
    page.locator("#message").fill(QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator(".answered strong")).to_have_text("server needs longer")
    expect(page.locator(".turn.growing")).to_have_count(0)
    expect(page.locator(".turn .who")).to_have_text("openai · small-1")
    expect(page.locator(".recalled-button")).to_have_text(re.compile(r"\d recalled"))
    assert "the server needs longer, case" in model.prompts[-1]
    recalled = page.locator(".recalled")
    expect(recalled.first).to_contain_text("why does the upload test fail?")
    expect(recalled.first.locator(".reasons li").first).to_be_visible()
    recalled.first.get_by_role("button", name="This was helpful").click()
    expect(page.locator("#toasts")).to_contain_text("it was helpful")

    page.reload()
    expect(page.locator(".asked-text")).to_have_text(QUESTION)
    expect(page.locator(".answered strong")).to_have_text("server needs longer")
    expect(page.locator(".recalled-button")).to_have_text(re.compile(r"\d recalled"))
    page.get_by_role("button", name="Rename this conversation").click()
    page.get_by_label("Title of this conversation").fill("Slow uploads")
    page.keyboard.press("Enter")
    expect(page.locator(".session-title")).to_have_text("Slow uploads")
    page.get_by_label("Search in all conversations").fill("needs longer")
    expect(page.locator(".session-excerpt").first).to_contain_text("needs longer")
    page.get_by_label("More about this conversation").click()
    expect(page.locator(".earlier-titles li span")).to_have_text(QUESTION)
    address = page.get_by_role("link", name="Export as Markdown").get_attribute("href")
    assert address is not None
    with talking.client() as client:
        assert "server needs longer" in client.get(address).text
    visit.check()


@pytest.mark.slow
def test_stop_reaches_the_model(visit: Visit, model: Model) -> None:
    """The model's reader leaves, and what had been said is kept."""
    model.go.clear()
    model.left.clear()
    page = visit.go("/chat")
    page.locator("#message").fill("And once more?")
    page.keyboard.press("Enter")
    expect(page.locator(".answered")).to_contain_text("The upload test fails because")
    page.get_by_role("button", name="Stop the answer").click()
    assert model.left.wait(30)
    model.go.set()
    page.reload()
    expect(page.locator(".turn .badge")).to_have_text("stopped")
    expect(page.locator(".answered")).to_contain_text("The upload test fails because")
    visit.check()


@pytest.mark.slow
def test_the_map_of_a_real_store(visit: Visit) -> None:
    """Every episode is a point, and the list says what it is."""
    page = visit.go("/dashboard/map")
    expect(page.locator("#map-about")).to_contain_text(re.compile(r"\d+ episodes"))
    expect(page.locator("#legend [aria-pressed]").first).to_be_visible()
    expect(page.locator("#list .summary").first).to_contain_text(re.compile("upload test"))
    visit.check()


@pytest.mark.slow
def test_an_evaluation_of_a_real_store(visit: Visit) -> None:
    """A question of one's own, its right episode ticked, asked under two configurations, and kept."""
    page = visit.go("/dashboard/evaluate")
    expect(page.locator("#questions")).to_contain_text("No questions yet")
    page.get_by_role("button", name="Add a question").click()
    page.locator("#question-text").fill(QUESTION)
    page.get_by_role("button", name="Find").click()
    page.locator("#question-hits input").first.check()
    page.get_by_role("button", name="Keep").click()
    expect(page.locator("#questions .badge")).to_have_text("1 episode")
    page.get_by_label("Hits").nth(1).fill("20")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#result .badge").first).to_have_text("done", timeout=90_000)
    expect(page.locator(".scores th[scope=col]")).to_have_text(["As shipped", "Changed"])
    page.reload()
    expect(page.locator("#questions .question")).to_have_text(QUESTION)
    expect(page.locator("#past li")).to_have_count(1)
    expect(page.locator("#result .scores")).to_be_visible()
    visit.check()


@pytest.mark.slow
def test_a_browser_that_logged_in_may_chat_and_take_the_file(browser: Browser, talking: Stack) -> None:
    """Over its cookie and the page's token, without a key in any header."""
    context = context_for(browser, key=None)
    visit = visit_in(context, talking)
    page = visit.page
    page.goto(visit.root + "/chat?session=none-yet")
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Log in with the key").click()
    page.wait_for_url(re.compile(r"/chat\?session=none-yet$"))
    visit.problems.clear()  # Chromium says on its console that this session is not there
    page.locator("#message").fill(QUESTION)
    expect(page.locator("#turns .notice")).to_contain_text("This conversation is not there any more")
    page.keyboard.press("Enter")
    expect(page.locator(".answered strong")).to_have_text("server needs longer")
    page.get_by_label("More about this conversation").click()
    with page.expect_download() as file:
        page.get_by_role("link", name="Export as JSON").click()
    assert "server needs longer" in file.value.path().read_text()
    context.close()
