"""The chat's page: what is asked and answered, stopped, kept, found again."""

import re
import threading

import pytest
from playwright.sync_api import Page, expect

from anamnesis.contracts.chat import Attempt, BackendState, ChatRequest, TurnState
from anamnesis.contracts.episodes import Trust
from tests.browser.scripted.conftest import OpenScripted
from tests.browser.scripted.house import ANSWER, House, Script, recalled, turn

QUESTION = "How did we fix the flaky upload test?"


def say(page: Page, text: str = QUESTION) -> None:
    page.locator("#message").fill(text)
    page.keyboard.press("Enter")


def over(page: Page, turns: int = 1) -> None:
    """Wait until so many turns stand there and none is being written."""
    expect(page.locator(".turn")).to_have_count(turns)
    expect(page.locator(".turn.growing")).to_have_count(0)


def test_an_answer_is_appended_as_it_comes(shown: OpenScripted, scripted: House) -> None:
    """What stands there already is not touched again when more arrives."""
    more = threading.Event()
    scripted.script = lambda _: Script(pieces=["First **words**", " here.\n\n", more, "Second paragraph."])
    visit = shown()
    page = visit.go("/chat")
    say(page)
    first = page.locator(".answered p").first
    expect(first).to_have_text("First words here.")
    first.evaluate("(one) => (one.dataset.touched = 'no')")
    more.set()
    over(page)
    expect(page.locator(".answered p")).to_have_text(["First words here.", "Second paragraph."])
    assert first.get_attribute("data-touched") == "no"
    visit.check()


def test_what_was_recalled_stands_beside_it_and_why(shown: OpenScripted, scripted: House) -> None:
    """Date, project, source, whose words, the score with its terms, and whether the answer made use of it."""
    found = [recalled(1, "The worker raced the cleanup.", 0.82), recalled(2, "Seen on a page.", 0.5, Trust.WEB)]
    scripted.script = lambda _: Script(recalled=found, used=("ep_1",))
    visit = shown()
    page = visit.go("/chat")
    say(page)
    over(page)
    expect(page.locator(".recalled-button")).to_have_text("2 recalled, 1 used")
    entries = page.locator(".recalled")
    expect(entries).to_have_count(2)
    expect(entries.nth(0)).to_contain_text("The worker raced the cleanup.")
    expect(entries.nth(0)).to_contain_text("used in the answer")
    expect(entries.nth(0)).to_contain_text("uploads")
    expect(entries.nth(0)).to_contain_text("claude-code: session 4f1c")
    expect(entries.nth(0).locator(".reasons li")).to_have_count(4)
    expect(entries.nth(0)).to_contain_text("0.820")
    expect(entries.nth(1)).to_contain_text("from the web")
    expect(entries.nth(1)).to_contain_text("not used")
    visit.check()


def test_feedback_is_said_once_and_shown(shown: OpenScripted, scripted: House) -> None:
    """A thumb tells the gateway which episode, and stays pressed."""
    scripted.script = lambda _: Script(recalled=[recalled(1, "A memory.")])
    visit = shown()
    page = visit.go("/chat")
    say(page)
    over(page)
    page.get_by_role("button", name="This was not helpful").click()
    expect(page.get_by_role("button", name="This was not helpful")).to_have_attribute("aria-pressed", "true")
    assert scripted.feedback == [{"episode_ids": ["ep_1"], "helpful": False}]
    visit.check()


@pytest.mark.parametrize(
    ("script", "button", "words"),
    [
        (Script(abstained=True), "Nothing recalled", "Silence: nothing relevant is remembered"),
        (Script(memory_error="memory did not answer within 3 s"), "Memory was away", "did not answer within 3 s"),
    ],
    ids=["silence", "memory-away"],
)
def test_silence_and_failure_of_memory_are_told_apart(
    shown: OpenScripted, scripted: House, script: Script, button: str, words: str
) -> None:
    """The turn goes on in both cases, and the page says which of them it was."""
    scripted.script = lambda _: script
    visit = shown()
    page = visit.go("/chat")
    say(page)
    over(page)
    expect(page.locator(".recalled-button")).to_have_text(button)
    expect(page.locator(".recall-body")).to_contain_text(words)
    visit.check()


def test_stop_keeps_what_was_said(shown: OpenScripted, scripted: House) -> None:
    """The gateway sees that nobody reads any more; the turn says that it was stopped, also after a reload."""
    scripted.script = lambda _: Script(pieces=["Half an answer", threading.Event()])
    visit = shown()
    page = visit.go("/chat")
    say(page)
    expect(page.locator(".answered")).to_have_text("Half an answer")
    page.get_by_role("button", name="Stop the answer").click()
    assert scripted.stopped.wait(20)
    expect(page.locator(".problem.stopped")).to_contain_text("What had been said is kept")
    page.reload()
    expect(page.locator(".answered")).to_have_text("Half an answer")
    expect(page.locator(".turn .badge")).to_have_text("stopped")
    visit.check()


def test_a_failure_tells_who_was_tried_and_asks_again(shown: OpenScripted, scripted: House) -> None:
    """The same message is sent again, in the same session."""
    tried = (Attempt(backend="anamnesis-gpt", endpoint="http://gpu1:3011", error="connection refused"),)
    scripts = iter([Script(pieces=["It is "], error="the answer broke off: reset", attempts=tried), Script(["Whole."])])
    scripted.script = lambda _: next(scripts)
    visit = shown()
    page = visit.go("/chat")
    say(page)
    expect(page.locator(".problem.failed")).to_contain_text("The answer broke off: reset.")
    expect(page.locator(".problem.failed")).to_contain_text("anamnesis-gpt, http://gpu1:3011: connection refused")
    expect(page.locator(".answered")).to_have_text("It is")
    page.get_by_role("button", name="Ask again").click()
    over(page, 2)
    expect(page.locator(".answered").nth(1)).to_have_text("Whole.")
    assert [one.message for one in scripted.asked] == [QUESTION, QUESTION]
    assert [one.session_id for one in scripted.asked] == [None, "s1"]
    visit.check()


def test_a_connection_that_breaks_is_no_answer(shown: OpenScripted, scripted: House) -> None:
    """Without its last event an answer is not shown as whole."""
    scripted.script = lambda _: Script(pieces=["It was "], cut=True)
    visit = shown()
    page = visit.go("/chat")
    say(page)
    expect(page.locator(".problem.failed")).to_be_visible()
    expect(page.locator(".turn .badge")).to_have_text("failed")
    expect(page.locator(".answered")).to_have_text("It was")
    visit.check()


def test_what_was_never_kept_comes_back_into_the_field(shown: OpenScripted, scripted: House) -> None:
    """A gateway that is away loses nobody's words."""
    visit = shown()
    page = visit.go("/chat")
    page.route("**/api/chat/stream", lambda route: route.abort())
    say(page)
    expect(page.locator(".problem.failed")).to_contain_text("cannot be reached")
    expect(page.locator("#message")).to_have_value(QUESTION)
    page.unroute("**/api/chat/stream")
    page.locator("#message").press("Enter")
    over(page, 2)
    expect(page.locator("#message")).to_have_value("")


def test_a_reload_keeps_the_session_and_the_draft(shown: OpenScripted, scripted: House) -> None:
    """The address names the session; what was typed and not sent is still there."""
    visit = shown()
    page = visit.go("/chat")
    say(page)
    over(page)
    assert page.url.endswith("/chat?session=s1")
    page.locator("#message").fill("Half a thought")
    page.reload()
    expect(page.locator(".asked-text")).to_have_text(QUESTION)
    expect(page.locator("h1")).to_contain_text(QUESTION)
    expect(page.locator("#message")).to_have_value("Half a thought")
    visit.check()


def test_both_ways_to_write_an_address_lead_there(shown: OpenScripted, scripted: House) -> None:
    """`/chat/ID` and the tab of the dashboard are the same page, under a path too."""
    scripted.session("old", "An old one", [turn(1, "Asked", "Answered")])
    visit = shown(root_path="/anamnesis")
    page = visit.go("/chat/old")
    assert page.url == f"{visit.root}/chat?session=old"
    expect(page.locator(".answered")).to_have_text("Answered")
    visit.go("/dashboard/chat")
    assert page.url == f"{visit.root}/chat"
    say(page)
    over(page)
    expect(page.locator(".answered pre")).to_contain_text("worker.done.wait()")
    visit.check()


def test_an_answer_goes_on_while_another_conversation_is_read(shown: OpenScripted, scripted: House) -> None:
    """Looking elsewhere does not stop it; coming back shows it growing, and stoppable."""
    more = threading.Event()
    scripted.session("old", "An old one", [turn(1, "Asked", "Answered")])
    scripted.script = lambda _: Script(pieces=["Slow ", more, "words."])
    visit = shown()
    page = visit.go("/chat")
    say(page)
    expect(page.locator(".answered")).to_have_text("Slow")
    page.get_by_role("link", name=re.compile("An old one")).click()
    expect(page.locator(".answered")).to_have_text("Answered")
    page.get_by_role("link", name=re.compile("How did we fix")).click()
    expect(page.get_by_role("button", name="Stop the answer")).to_be_visible()
    more.set()
    over(page)
    expect(page.locator(".answered")).to_have_text("Slow words.")
    visit.check()


def test_a_turn_that_somebody_else_writes_is_watched(shown: OpenScripted, scripted: House) -> None:
    """It says that it is still being written, and is shown whole once it is."""
    scripted.session("old", "An old one", [turn(1, "Asked", "Half", TurnState.RUNNING)])
    visit = shown()
    page = visit.go("/chat?session=old")
    expect(page.locator(".waiting")).to_contain_text("Still being written")
    scripted.turns["old"][0] = turn(1, "Asked", "Half and **whole**")
    expect(page.locator(".answered strong")).to_have_text("whole")
    expect(page.locator(".waiting")).to_be_hidden()
    visit.check()


def test_a_title_is_changed_in_place_and_its_history_shown(shown: OpenScripted, scripted: House) -> None:
    """Enter keeps it, Escape does not; the one before is found in the menu."""
    scripted.session("old", "First title", [turn(1, "Asked", "Answered")])
    visit = shown()
    page = visit.go("/chat?session=old")
    page.get_by_role("button", name="Rename this conversation").click()
    page.get_by_label("Title of this conversation").fill("Never kept")
    page.keyboard.press("Escape")
    expect(page.locator("#title-words")).to_have_text("First title")
    page.get_by_role("button", name="Rename this conversation").click()
    page.get_by_label("Title of this conversation").fill("Second title")
    page.keyboard.press("Enter")
    expect(page.locator("#title-words")).to_have_text("Second title")
    expect(page.locator(".session-title")).to_have_text("Second title")
    page.get_by_label("More about this conversation").click()
    expect(page.locator(".earlier-titles li span")).to_have_text("First title")
    assert page.locator("[data-export=markdown]").get_attribute("href") == (
        "/api/chat/sessions/old/export?format=markdown"
    )
    visit.check()


def test_a_conversation_is_deleted_only_when_confirmed(shown: OpenScripted, scripted: House) -> None:
    """Keeping it changes nothing; deleting it leads to a new one."""
    scripted.session("old", "Unwanted", [turn(1, "Asked", "Answered")])
    visit = shown()
    page = visit.go("/chat?session=old")
    for choice in ("Keep it", "Delete"):
        page.get_by_label("More about this conversation").click()
        page.locator("[data-delete]").click()
        page.locator("#delete-session").get_by_role("button", name=choice).click()
        assert ("old" in scripted.sessions) is (choice == "Keep it") or choice == "Delete"
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.locator(".session-list a")).to_have_count(0)
    assert page.url.endswith("/chat")
    assert scripted.sessions == {}
    visit.check()


def test_a_search_leads_to_the_turn(shown: OpenScripted, scripted: House) -> None:
    """Found in the middle of a long conversation, it is opened there, and both ways lead on."""
    turns = [turn(number, f"Question {number}", "zebra" if number == 40 else "horse") for number in range(1, 101)]
    scripted.session("old", "Animals", turns)
    visit = shown()
    page = visit.go("/chat")
    page.get_by_label("Search in all conversations").fill("zebra")
    found = page.locator(".session-list a")
    expect(found).to_have_count(1)
    expect(found).to_contain_text("Turn 40")
    found.click()
    expect(page.locator("#turn-40")).to_be_in_viewport()
    expect(page.locator("#later")).to_be_visible()
    page.locator("#later").click()
    expect(page.locator("#turn-84")).to_have_count(1)
    visit.check()


def test_who_answers_can_be_chosen(shown: OpenScripted, scripted: House) -> None:
    """An order of one's own, one of several, with a model; kept for the next visit."""
    visit = shown()
    page = visit.go("/chat")
    page.locator("#options-box > summary").click()
    page.get_by_label("Chosen here, asked in this order").check()
    page.get_by_role("button", name="Ask earlier: ollama").click()
    page.get_by_label("Model of openai").select_option("scripted-2")
    page.get_by_label("Project").fill("uploads")
    page.get_by_label("Floor").fill("0.4")
    page.keyboard.press("Escape")
    page.reload()
    expect(page.locator("#options-words")).to_have_text("Memory of uploads · ollama")
    say(page)
    over(page)
    asked = scripted.asked[0]
    assert (asked.backends, asked.project, asked.floor) == (("ollama", "openai:scripted-2"), "uploads", 0.4)
    visit.check()


def test_memory_can_be_left_out(shown: OpenScripted, scripted: House) -> None:
    """Nothing is recalled and nothing remembered, and the turn says so."""
    visit = shown()
    page = visit.go("/chat")
    page.locator("#options-box > summary").click()
    page.get_by_label("Recall before the turn").uncheck()
    page.keyboard.press("Escape")
    say(page)
    over(page)
    assert scripted.asked[0].memory is False
    expect(page.locator(".recalled-button")).to_have_text("Without memory")
    visit.check()


def test_without_a_model_the_page_says_how_to_get_one(shown: OpenScripted, scripted: House) -> None:
    """Each backend's own reason and the lines to set; nothing can be sent until one is there."""
    configured = scripted.backends
    reason = "set ANAMNESIS_OLLAMA_URL to where Ollama answers"
    scripted.backends = (BackendState(name="ollama", configured=False, reason=reason),)
    visit = shown()
    page = visit.go("/chat")
    setup = page.locator("#setup")
    expect(setup).to_be_visible()
    expect(setup.locator("[data-backend=ollama]")).to_contain_text(reason)
    expect(setup.locator("[data-backend=ollama] code")).to_have_text("ANAMNESIS_OLLAMA_URL=http://127.0.0.1:11434")
    expect(page.locator("#message")).to_be_disabled()
    scripted.backends = configured
    setup.get_by_role("button", name="Look again").click()
    expect(page.locator("#message")).to_be_enabled()
    expect(setup).to_be_hidden()
    visit.check()


def test_the_end_is_followed_only_from_the_end(shown: OpenScripted, scripted: House) -> None:
    """Whoever has scrolled up stays where they are, and a button leads back."""
    go_on = threading.Event()
    long = "\n\n".join(f"Paragraph {number} of a long answer." for number in range(60))
    scripted.script = lambda _: Script(pieces=[long, go_on, *["\n\nAnd more."] * 30])
    visit = shown(height=600)
    page = visit.go("/chat")
    say(page)
    expect(page.locator(".answered p").last).to_be_in_viewport()
    page.locator("#log").hover()
    page.mouse.wheel(0, -900)
    expect(page.locator("#jump")).to_be_visible()
    before = page.locator("#log").evaluate("(one) => one.scrollTop")
    go_on.set()
    over(page)
    assert page.locator("#log").evaluate("(one) => one.scrollTop") == before
    page.locator("#jump").click()
    expect(page.locator(".turn-foot")).to_be_in_viewport()
    expect(page.locator("#jump")).to_be_hidden()
    visit.check()


def test_five_hundred_turns_stay_quick(shown: OpenScripted, scripted: House) -> None:
    """All of them can be reached by going up; at the end, typing and an answer do not wait for them."""
    scripted.session("old", "Long", [turn(number, f"Question {number}", ANSWER) for number in range(1, 501)])
    visit = shown()
    page = visit.go("/chat?session=old")
    expect(page.locator("#turn-500 .turn-foot")).to_be_in_viewport()
    assert page.locator(".turn").count() < 100
    for _ in range(60):
        if page.locator("#turn-1").count():
            break
        count = page.locator(".turn").count()
        page.locator("#log").evaluate("(one) => one.scrollTo(0, 0)")
        page.wait_for_function("(count) => document.querySelectorAll('.turn').length > count", arg=count)
    expect(page.locator(".turn")).to_have_count(500)
    assert page.locator(".turn").evaluate_all("(all) => all.every((one, at) => one.id === `turn-${at + 1}`)")
    page.locator("#log").evaluate("(one) => one.scrollTo(0, one.scrollHeight)")
    frames = page.evaluate(
        """async () => {
          const field = document.getElementById("message");
          const times = [];
          for (let at = 0; at < 30; at += 1) {
            const began = performance.now();
            field.value += "a";
            field.dispatchEvent(new Event("input"));
            document.body.offsetHeight;
            times.push(performance.now() - began);
            await new Promise(requestAnimationFrame);
          }
          return times.sort((a, b) => a - b)[15];
        }"""
    )
    assert frames < 1000  # a page that lays out every turn anew takes seconds
    say(page)
    over(page, 501)
    visit.check()


def test_a_composed_word_is_not_sent(shown: OpenScripted, scripted: House) -> None:
    """Enter ends a word that an input method composes; Shift and Enter begin a line."""
    visit = shown()
    page = visit.go("/chat")
    page.locator("#message").fill("日本")
    page.locator("#message").dispatch_event("keydown", {"key": "Enter", "isComposing": True})
    page.locator("#message").press("Shift+Enter")
    assert scripted.asked == []
    expect(page.locator("#message")).to_have_value("日本\n")
    visit.check()


def test_code_and_answers_are_copied_without_a_clipboard(shown: OpenScripted, scripted: House) -> None:
    """On plain HTTP browsers offer none; the text is taken all the same, as it was written."""
    visit = shown()
    page = visit.go("/chat")
    page.evaluate(
        """() => {
          Object.defineProperty(navigator, "clipboard", { value: undefined });
          window.copied = [];
          document.addEventListener("copy", () => window.copied.push(document.activeElement.value));
        }"""
    )
    say(page)
    over(page)
    page.locator(".code").get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copy the answer of turn 1").click()
    assert page.evaluate("window.copied") == ["await worker.done.wait()\nshutil.rmtree(directory)", ANSWER]
    visit.check()


def test_all_of_it_by_keys_alone(shown: OpenScripted, scripted: House) -> None:
    """Ask, look at what was recalled, say that it helped, choose another conversation, and never be caught."""
    scripted.session("old", "An old one", [turn(1, "Asked", "Answered")])
    scripted.script = lambda _: Script(recalled=[recalled(1, "A memory.")])
    visit = shown()
    page = visit.go("/chat")
    seen: list[str] = []
    reached = "(document.activeElement.id || document.activeElement.className || document.activeElement.tagName)"
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(str(page.evaluate(reached)))
        if seen[-1] == "message":
            break
    assert seen[-1] == "message", seen
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    over(page)
    for _ in range(60):
        page.keyboard.press("Tab")
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        if label == "This was helpful":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="This was helpful", exact=True)).to_have_attribute("aria-pressed", "true")
    for _ in range(80):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.dataset.session") == "old":
            break
    page.keyboard.press("Enter")
    expect(page.locator(".answered")).to_have_text("Answered")
    visit.check()


def test_each_ask_is_what_the_page_shows(shown: OpenScripted, scripted: House) -> None:
    """Nothing is sent but what the options say: the contract's own defaults hold for the rest."""
    visit = shown()
    page = visit.go("/chat")
    say(page)
    over(page)
    assert scripted.asked == [ChatRequest(message=QUESTION)]
    visit.check()


def test_what_is_announced_lies_over_no_button_of_the_composer(shown: OpenScripted, scripted: House) -> None:
    """A failure that stays until it is dismissed lets the next question be sent."""
    for width in (1440, 360):
        page = shown(width=width, height=740).go("/chat")
        page.route("**/api/chat/stream", lambda route: route.fulfill(status=503, body="{}"))
        page.evaluate(
            """() => Array.from({ length: 3 }, () => {
              const toast = document.createElement("div");
              toast.className = "toast bad";
              toast.textContent = "It broke, and this says so in a long line of words ".repeat(3);
              document.getElementById("toasts").append(toast);
            })"""
        )
        page.locator("#message").fill("Once more?")
        page.locator("#send").click(trial=True, timeout=5000)
