"""What others wrote stays text, wherever it is shown."""

import pytest

from tests.browser.conftest import Episode, Open, fill
from tests.e2e.conftest import Stack

CORPUS = (
    "<script>window.hit.push(1)</script>",
    "<img src=x onerror=window.hit.push(2)>",
    '"><svg onload=window.hit.push(3)>',
    "'\"--><iframe srcdoc='<script>parent.hit.push(4)</script>'></iframe>",
    "javascript:window.hit.push(5)",
    "{{ 7 * 7 }}{% for x in () %}<b>",
    '<a href="javascript:window.hit.push(6)" hx-get="/api/episodes" hx-trigger="load">x</a>',
    '<div hx-on:load="window.hit.push(7)" data-hx-get="/dashboard" hx-trigger="load">x</div>',
    "</pre></dialog></main><style>*{display:none}</style>",
    "<template><script>window.hit.push(8)</script></template><meta http-equiv=refresh content=0;url=//evil.example>",
)


@pytest.fixture(scope="module")
def hostile(house: Stack) -> list[str]:
    """The corpus in every field of an episode that is text; gives the ids."""
    records: list[Episode] = [
        {
            "episode_id": f"ep_hostile_{number}",
            "instance": text[:180],
            "project": text[:180],
            "summary": f"hostile {text} end",
            "raw_exchange": f"raw {text} end",
            "tags": [text[:100]],
            "source": {"kind": text[:180], "path": text, "url": text, "session": text[:180], "uuid": text[:180]},
        }
        for number, text in enumerate(CORPUS)
    ]
    fill(house, records)
    return [f"ep_hostile_{number}" for number in range(len(CORPUS))]


def test_an_episode_shows_what_was_written_and_does_nothing(opened: Open, hostile: list[str]) -> None:
    """Each text is readable as it was written; no script ran, no dialog opened, nobody was asked."""
    visit = opened()
    visit.page.on("dialog", lambda dialog: visit.problems.append(dialog.message))
    foreign: list[str] = []
    visit.page.on("request", lambda one: None if one.url.startswith((visit.root, "data:")) else foreign.append(one.url))
    for name, text in zip(hostile, CORPUS, strict=True):
        page = visit.go(f"/dashboard/episodes/{name}?question=hostile")
        assert page.locator(".prose").text_content() == f"hostile {text} end"
        assert page.locator(".raw").text_content() == f"raw {text} end"
        assert page.evaluate("window.hit") == []
        assert page.locator("main script, main iframe, main style, main img, main [hx-on\\:load]").count() == 0
    assert foreign == []
    visit.check()


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard",
        "/dashboard/episodes",
        "/dashboard/search?question=hostile&a_floor=0&a_top_k=50",
        "/dashboard/episodes?project=%3Cscript%3Ewindow.hit.push(9)%3C/script%3E&tag=%22%3E%3Cimg%20src=x%20onerror=window.hit.push(9)%3E",
        "/dashboard/search?question=%22%3E%3Cscript%3Ewindow.hit.push(9)%3C/script%3E&a_top_k=%22%3E%3Cscript%3E",
        "/dashboard/episodes/ep_hostile_0?question=%22%3E%3Cscript%3Ewindow.hit.push(9)%3C/script%3E",
    ],
)
def test_pages_that_list_them_do_nothing_either(opened: Open, hostile: list[str], path: str) -> None:
    """Names of projects and tags, and what stands in the address, are text too."""
    visit = opened()
    page = visit.go(path)
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert page.evaluate("window.hit") == []
    assert page.locator("main script, main iframe, main style, main img").count() == 0
    visit.check()
