"""Answers and memories are text that others wrote: whatever stands in them, however cut, nothing comes alive."""

import itertools
import random
from collections.abc import Sequence

import pytest
from playwright.sync_api import Page, expect

from anamnesis.contracts.episodes import Trust
from tests.browser.conftest import Visit
from tests.browser.scripted.conftest import OpenScripted
from tests.browser.scripted.house import House, Script, recalled, turn

CORPUS = (
    "<script>window.hit.push(1)</script>",
    "<img src=x onerror=window.hit.push(2)>",
    '"><svg onload=window.hit.push(3)><a xlink:href="javascript:window.hit.push(3)">x</a></svg>',
    "<iframe srcdoc='<script>parent.hit.push(4)</script>'></iframe>",
    "[click](javascript:window.hit.push(5))",
    "[click](JaVaScRiPt:window.hit.push(5))",
    "[click](java\tscript:window.hit.push(5))",
    "[click](\x01javascript:window.hit.push(5))",
    "[click](data:text/html,<script>window.hit.push(6)</script>)",
    "[click](vbscript:msgbox(6))",
    "[click](//evil.example/x)",
    "[click](/api/chat/sessions)",
    "[click](https://good.example@evil.example/)",
    '[click](https://evil.example/"onmouseover="window.hit.push(7))',
    "![picture](https://evil.example/pixel.png)",
    "![picture](data:image/svg+xml,<svg onload=window.hit.push(8)>)",
    '![picture](x" onerror="window.hit.push(8))',
    "<https://evil.example/<script>window.hit.push(9)</script>>",
    "https://evil.example/<script>window.hit.push(9)</script>",
    "```html\n<script>window.hit.push(10)</script>\n```",
    '```"><img src=x onerror=window.hit.push(11)>\ncode\n```',
    "`<img src=x onerror=window.hit.push(12)>`",
    "| <b>a</b> | <img src=x onerror=window.hit.push(13)> |\n|---|---|\n| [x](javascript:window.hit.push(13)) | y |",
    "- [x] <input autofocus onfocus=window.hit.push(14)>",
    "<style>*{display:none}</style><meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example><form action=//evil.example><button>x</button></form>",
    '<div hx-get="/api/episodes" hx-trigger="load" data-retry data-copy="x">x</div>',
    "[a](https://evil.example/" + "x" * 5000,
    "![" * 300,
    "> " * 300 + "deep",
    "**_~~`$$\\[[(" * 50,
    "{{ 7 * 7 }}${7*7}",
    "\u202egnp.exe <b>bidi</b>",
    "word" * 5000,
)
ALIVE = (
    ".talk script, .talk iframe, .talk img, .talk svg:not(.icon), .talk style, .talk form:not(#composer, #options), "
    ".talk meta, .talk base, .talk object, .talk [hx-get], .talk [style]:not(#message), "
    "#recall script, #recall img, #recall iframe, #recall [hx-get]"
)


def calm(visit: Visit) -> None:
    """Nothing ran, nothing foreign stands there, and every link leads where a link may lead."""
    page = visit.page
    assert page.evaluate("window.hit") == []
    assert page.locator(ALIVE).count() == 0
    links = page.locator(".answered a").evaluate_all("(all) => all.map((one) => [one.protocol, one.rel, one.target])")
    assert all(
        protocol in ("http:", "https:", "mailto:") and "noopener" in rel and target == "_blank"
        for protocol, rel, target in links
    ), links
    attributes = page.locator(".answered *").evaluate_all(
        "(all) => [...new Set(all.flatMap((one) => one.getAttributeNames()))].filter((name) => name.startsWith('on'))"
    )
    assert attributes == []
    visit.check()


def guard(visit: Visit) -> list[str]:
    """Addresses beside our own that the page asks for."""
    foreign: list[str] = []
    visit.page.on("request", lambda one: None if one.url.startswith(visit.root) else foreign.append(one.url))
    visit.page.on("dialog", lambda dialog: visit.problems.append(dialog.message))
    return foreign


def say(page: Page, text: str, turns: int) -> None:
    page.locator("#message").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator(".turn")).to_have_count(turns)
    expect(page.locator(".turn.growing")).to_have_count(0)


def pieces(text: str, chance: random.Random) -> Sequence[str]:
    cuts = sorted({0, len(text), *(chance.randrange(len(text)) for _ in range(20))})
    return [text[start:end] for start, end in itertools.pairwise(cuts)]


@pytest.mark.slow
def test_answers_stay_inert_while_they_stream(shown: OpenScripted, scripted: House) -> None:
    """The corpus as answers, cut at random places; as questions, too, and as what was recalled."""
    chance = random.Random(11)
    answers = iter(CORPUS)

    def script(_: object) -> Script:
        text = next(answers)
        memories = [recalled(1, text[:2000] or "x", trust=Trust.WEB)]
        return Script(pieces=pieces(text, chance), recalled=memories, thinking=text[:500])

    scripted.script = script
    visit = shown()
    foreign = guard(visit)
    page = visit.go("/chat")
    for number, text in enumerate(CORPUS, 1):
        say(page, text.replace("\x01", " ")[:3000], number)
        assert page.evaluate("window.hit") == [], text
    for link in page.locator(".answered a").all():
        link.hover()
    calm(visit)
    assert foreign == []


def test_answers_stay_inert_when_they_are_loaded(shown: OpenScripted, scripted: House) -> None:
    """The same from a session that was kept, with titles and names that are as bad."""
    scripted.session("bad", CORPUS[1], [turn(at, text[:5000], text) for at, text in enumerate(CORPUS, 1)])
    visit = shown()
    foreign = guard(visit)
    page = visit.go("/chat?session=bad")
    expect(page.locator(f"#turn-{len(CORPUS)}")).to_have_count(1)
    page.locator("#earlier").click()
    expect(page.locator(".turn")).to_have_count(len(CORPUS))
    assert page.locator("#title-words").text_content() == CORPUS[1]
    assert page.title() == f"{CORPUS[1]} · Anamnesis"
    calm(visit)
    assert foreign == []


@pytest.mark.slow
def test_cut_anywhere_it_is_the_same_and_inert(shown: OpenScripted, scripted: House) -> None:
    """Every text of the corpus, ended after each of its characters: no error, nothing alive, and no word is lost.

    And in two pieces, cut at each place: the same elements as in one.
    """
    visit = shown()
    page = visit.go("/chat")
    texts = [text for text in CORPUS if len(text) < 400]
    problems = page.evaluate(
        """async (texts) => {
          const from = document.querySelector('script[src*="js/app.js"]').src.replace("app.js", "chat/markdown.js");
          const { Markdown, render } = await import(from);
          const box = () => document.createElement("div");
          const html = (root) => { root.normalize(); return root.innerHTML; };
          const found = [];
          for (const text of texts) {
            const whole = box();
            render(whole, text);
            for (let at = 0; at <= text.length; at += 1) {
              const cut = box();
              render(cut, text.slice(0, at));
              const alive = cut.querySelector("script, iframe, img, svg, style, form, meta, base");
              if (alive) found.push(["alive", text, at]);
              for (const link of cut.querySelectorAll("a")) {
                if (!["http:", "https:", "mailto:"].includes(link.protocol)) found.push(["link", text, at]);
              }
              const halves = new Markdown(box());
              halves.write(text.slice(0, at));
              halves.write(text.slice(at));
              halves.end();
              if (html(halves.root) !== html(whole)) found.push(["differs", text, at, html(halves.root), html(whole)]);
            }
          }
          return found.slice(0, 5);
        }""",
        texts,
    )
    assert problems == []
    assert page.evaluate("window.hit") == []
    visit.check()


@pytest.mark.slow
def test_no_word_is_lost_whatever_is_around_it(shown: OpenScripted) -> None:
    """Marks in any order, cut anywhere, end as something that can be read; long ones in a time that grows with them."""
    marks = (
        "[", "](", "](http://a.b)", ")", "`", "```", "```js\n", "\n", "\n\n", "> ", "- ", "1. ", "**", "*", "_", "__",
        "~~", "$", "$$", "\\", "\\[", "|", "|a|b|\n|-|-|\n", "<", "<br>", "![", "http://x", "    ", "\t", " ", "# ",
        "- [ ] ", "---\n", "é", "😀",
    )  # fmt: skip
    chance = random.Random(5)
    texts = ["".join(chance.choice((*marks, " word ")) for _ in range(chance.randrange(1, 40))) for _ in range(1500)]
    long = [mark * (60_000 // len(mark)) for mark in (*marks, "[a](", "a](b ", "*a_")]
    visit = shown()
    page = visit.go("/chat")
    lost = page.evaluate(
        """async ([texts, long]) => {
          const from = document.querySelector('script[src*="js/app.js"]').src.replace("app.js", "chat/markdown.js");
          const { Markdown, render } = await import(from);
          const count = (text) => text.split("word").length - 1;
          const lost = [];
          for (const text of texts) {
            const markdown = new Markdown(document.createElement("div"));
            for (let at = 0; at < text.length; at += 3) markdown.write(text.slice(at, at + 3));
            markdown.end();
            const hidden = [...markdown.root.querySelectorAll("a")].map((one) => decodeURI(one.href)).join();
            const kept = count(markdown.root.textContent) + count(hidden);
            if (kept < count(text)) lost.push([text, markdown.root.innerHTML]);
          }
          for (const text of long) {
            const began = performance.now();
            render(document.createElement("div"), text);
            if (performance.now() - began > 15000) lost.push(["slow", text.slice(0, 20)]);
          }
          return lost.slice(0, 5);
        }""",
        [texts, long],
    )
    assert lost == []
    visit.check()


def test_ordinary_brackets_and_dollars_stay(shown: OpenScripted, scripted: House) -> None:
    """What only looks like a mark is shown as it was written."""
    said = "Use array[0] and $HOME/bin:$PATH; see [1], [todo] and [docs](docs/a.md), a < b > c, 5*3*2."
    scripted.script = lambda _: Script(pieces=[said])
    visit = shown()
    page = visit.go("/chat")
    say(page, "How?", 1)
    # Waited for: what is off the screen has no inner text, and only the next frame knows that an answer is on it.
    for words in ("array[0]", "$HOME/bin:$PATH", "[1]", "[todo]", "[docs](docs/a.md)", "a < b > c"):
        expect(page.locator(".answered")).to_contain_text(words, use_inner_text=True)
    expect(page.locator(".answered a")).to_have_count(0)
    visit.check()


def test_underscores_within_words_are_letters(shown: OpenScripted, scripted: House) -> None:
    """Names in snake case stay whole, wherever a stream cuts them; emphasis, code and addresses are as they were."""
    said = "See my_file_name.py, test_upload.py and __init__; _really_ `a_b_c` https://a.example/x_y_z [t_u](https://b.example/v_w)."
    scripted.script = lambda _: Script(pieces=list(said))
    visit = shown()
    page = visit.go("/chat")
    say(page, "Which?", 1)
    answered = page.locator(".answered")
    for words in ("my_file_name.py", "test_upload.py", "a_b_c", "https://a.example/x_y_z", "t_u"):
        expect(answered).to_contain_text(words, use_inner_text=True)
    expect(answered.locator("em")).to_have_text(["really"], use_inner_text=True)
    assert [link.get_attribute("href") for link in answered.locator("a").all()] == [
        "https://a.example/x_y_z",
        "https://b.example/v_w",
    ]
    visit.check()
