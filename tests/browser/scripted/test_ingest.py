"""The page of what comes in: everything as it goes, files one by one, and documents that are handed in."""

import re
from datetime import timedelta

import pytest
from playwright.sync_api import FilePayload, Page, expect

from anamnesis.contracts.base import now
from anamnesis.contracts.crawler import CrawledFile, CrawlerStatus, CrawlRun, SourceKind, SourceState
from anamnesis.contracts.ingest import IngestRoot, IngestRun, IngestState, IngestStatus, TranscriptFile
from anamnesis.contracts.insight import Coverage, TranscriptAtRisk
from anamnesis.contracts.keys import Scope
from anamnesis.contracts.schedule import Night, NightStep, Schedule, ScheduleStatus
from anamnesis.contracts.summaries import SummaryStatus
from anamnesis.kit.sse import event
from tests.browser.scripted.conftest import OpenScripted
from tests.browser.scripted.house import House
from tests.browser.scripted.intake import Intake, refusal

LONG = "/srv/files/workstation/projects/2024/0_observatory-control/firmware/motor/acceleration_ramp.cpp"


def full(intake: Intake) -> None:
    """Much has been read, something cannot be, a night has half failed, and something is about to be deleted."""
    ago = now() - timedelta(minutes=7)
    intake.coverage = Coverage(
        files=420,
        read=390,
        behind=6,
        unread=24,
        bytes_unread=3_400_000,
        purge_days=30,
        at_risk=(TranscriptAtRisk(path="a/b.jsonl", modified_at=ago, days_left=2.4, bytes_unread=9000),),
        at_risk_total=3,
    )
    run = IngestRun(
        run_id="r0",
        state="done",
        trigger="schedule",
        started_at=ago,
        finished_at=ago,
        files=420,
        files_changed=4,
        files_done=4,
        created=31,
        decisions={"kept": 31, "nod": 12},
        redactions={"aws-key": 2},
    )
    intake.reading = IngestStatus(
        state=IngestState.IDLE,
        instance="laptop",
        poll_seconds=60,
        roots=(
            IngestRoot(path="/home/ada/.claude/projects", exists=True),
            IngestRoot(path="/tmp/a-rather-long-name-of-a-directory/of-old/transcripts", exists=False),
        ),
        last=run,
        last_change=run,
    )
    scan = CrawlRun(
        run_id="c0",
        state="done",
        trigger="watch",
        started_at=ago,
        finished_at=ago,
        files=1843,
        files_changed=5,
        files_done=5,
        created=12,
        superseded=3,
        renamed=1,
        deleted=2,
        redactions={"token": 1},
        left_out={"ignored": 913, "too-large": 14, "binary": 5},
        errors={"permission": 2},
        examples={"permission": ("notes/private.md", "notes/other.md"), "too-large": (LONG,)},
    )
    intake.status = CrawlerStatus(
        state="idle",
        watching=True,
        next_scan=now() + timedelta(minutes=4),
        sources=(
            SourceState(name="claude-notes", kind=SourceKind.NAMED, enabled=True, files=41),
            SourceState(name="firmware", kind=SourceKind.DEEP, enabled=True, files=1604),
            SourceState(name="contracts", kind=SourceKind.DOCUMENTS, enabled=True, files=198),
            SourceState(name="archive", kind=SourceKind.SCRIPTS, enabled=False, files=0, error="root-missing"),
        ),
        last=scan,
        last_change=scan,
    )
    night = Night(
        run_id="n0",
        trigger="schedule",
        day="2026-11-20",
        state="failed",
        started_at=ago,
        finished_at=ago,
        steps=(
            NightStep(name="transcripts", state="done", seconds=4.2, told="31 new episodes"),
            NightStep(name="crawl", state="done", seconds=12.0, told="12 new, 3 superseded"),
            NightStep(name="summaries", state="failed", seconds=61.0, told="ollama does not answer; tried again"),
            NightStep(name="consolidation", state="skipped", told="nothing new to compare"),
        ),
    )
    intake.schedule = ScheduleStatus(
        schedule=Schedule(time_zone="Europe/Berlin"),
        version=2,
        next_run=now() + timedelta(hours=9),
        last_successful_day="2026-11-19",
        last=night,
    )
    intake.summaries = SummaryStatus(
        backend="ollama",
        pending=148,
        running=True,
        written=60,
        cached=8,
        failed=4,
        last_error="ollama does not answer at http://127.0.0.1:11434",
    )
    intake.transcripts = tuple(
        TranscriptFile(
            path=f"/home/ada/.claude/projects/-home-ada-shop/session-{number:04}.jsonl",
            project="shop",
            state=("unread", "behind", "read")[min(number, 2)],
            size=90_000 + number,
            bytes_read=(0, 40_000, 90_000)[min(number, 2)],
            modified_at=ago,
            days_left=2.4 + number,
        )
        for number in range(60)
    )
    intake.files = tuple(
        CrawledFile(
            path=LONG.replace("ramp", f"ramp_{number}"),
            source=("firmware", "claude-notes")[number % 2],
            instance="workstation",
            project="0_observatory-control",
            state="error" if number == 0 else "read",
            size=4100,
            modified_at=ago,
            episodes=7,
            reason="permission denied" if number == 0 else None,
        )
        for number in range(30)
    )


def ingest(page: Page, root: str) -> Page:
    page.goto(f"{root}/dashboard/ingest")
    expect(page.locator("main .skeleton")).to_have_count(0)
    return page


def test_everything_stands_beside_one_another(shown: OpenScripted, scripted: House) -> None:
    """Transcripts, files, the night and the summaries: how far each is, what changed, and why not, with examples."""
    full(scripted.intake)
    visit = shown()
    page = ingest(visit.page, visit.root)
    expect(page.locator("#progress")).to_contain_text("31 new episodes")
    expect(page.locator("#crawl")).to_contain_text("watching: changes are read at once")
    expect(page.locator("#crawl")).to_contain_text("in 4 minutes")
    expect(page.locator("#crawl .badge", has_text="12 new")).to_be_visible()
    page.locator("#crawl summary", has_text="no permission to read").click()
    expect(page.locator("#crawl")).to_contain_text("notes/private.md")
    expect(page.locator("#night .station.failed")).to_contain_text("ollama does not answer; tried again")
    expect(page.locator("#night .station.skipped")).to_contain_text("nothing new to compare")
    expect(page.locator("#summaries")).to_contain_text("148 wait for Ollama, which is writing")
    visit.check()


def test_what_is_about_to_be_lost_stands_on_top(shown: OpenScripted, scripted: House) -> None:
    """On this page and on the first one, with the button that saves it."""
    full(scripted.intake)
    visit = shown()
    for path in ("/dashboard/ingest", "/dashboard"):
        page = visit.page
        page.goto(visit.root + path)
        warning = page.locator("#risk").get_by_role("alert")
        expect(warning).to_contain_text("3 transcripts with something unread will soon be deleted, the first in 2 days")
        assert warning.evaluate("(one) => one.getBoundingClientRect().bottom < innerHeight / 2")
        warning.get_by_role("button", name="Read now").click()
        expect(page.locator(".toast")).to_contain_text("Reading has begun")
    assert [path for path, _ in scripted.intake.asked] == ["/api/jsonl/ingest"] * 2
    scripted.intake.coverage = scripted.intake.coverage.model_copy(update={"at_risk_total": 0, "at_risk": ()})
    ingest(visit.page, visit.root)
    expect(visit.page.locator("#risk")).to_be_empty()


@pytest.mark.parametrize(
    ("panel", "button", "path"),
    [
        ("crawl", "Scan now", "/api/crawler/scan"),
        ("night", "Run now", "/api/schedule/run"),
        ("summaries", "Write now", "/api/jsonl/summaries/run"),
    ],
)
def test_each_can_be_begun(shown: OpenScripted, scripted: House, panel: str, button: str, path: str) -> None:
    """By the button beside it; what is refused is said in the service's words."""
    full(scripted.intake)
    visit = shown()
    page = ingest(visit.page, visit.root)
    page.get_by_role("button", name=button).click()
    expect(page.locator(".toast.good")).to_contain_text("has begun")
    scripted.intake.refuse = lambda _: refusal(409, "conflict", "another instance runs it; wait for it")
    page.get_by_role("button", name=button).click()
    expect(page.locator(".toast.bad")).to_contain_text("Another instance runs it; wait for it")
    assert [one for one, _ in scripted.intake.asked] == [path] * 2


def test_it_moves_by_itself(shown: OpenScripted, scripted: House) -> None:
    """A scan that begins and ends elsewhere is seen without a hand being lifted."""
    full(scripted.intake)
    visit = shown()
    idle = scripted.intake.status
    scripted.told.put(event("crawler", idle))
    page = ingest(visit.page, visit.root)
    expect(page.locator("#crawl")).to_contain_text("Up to date")
    assert idle.last is not None
    run = idle.last.model_copy(update={"state": "running", "files_changed": 40, "files_done": 10, "eta_seconds": 31})
    scripted.intake.status = idle.model_copy(update={"state": "running", "current": run})
    scripted.told.put(event("crawler", scripted.intake.status))
    expect(page.locator("#crawl")).to_contain_text("10 of 40 changed files")
    expect(page.locator("#crawl .ring")).to_have_text("25 %")
    scripted.intake.status = idle
    scripted.told.put(event("crawler", idle))
    expect(page.locator("#crawl")).to_contain_text("Up to date")
    visit.check()


def test_files_are_looked_through(shown: OpenScripted, scripted: House) -> None:
    """Page by page, by state and source; another choice begins with its first page, and the name is always seen."""
    full(scripted.intake)
    visit = shown()
    page = ingest(visit.page, visit.root)
    rows = page.locator("#files tbody tr")
    expect(rows.first).to_contain_text("deleted in 2 days")
    page.get_by_role("button", name="More").click()
    expect(page.locator("#files .pager")).to_contain_text("16–30 of 60")
    page.locator("#files-state").select_option("behind")
    expect(rows).to_have_count(1)
    page.get_by_role("radio", name="Files").check()
    expect(rows).to_have_count(15)
    expect(rows.first).to_contain_text("permission denied")
    page.locator("#files-source").select_option("claude-notes")
    expect(page.locator("#files .list-head")).to_contain_text("15 files")
    tail = rows.nth(1).locator(".path-tail")
    assert tail.evaluate("(one) => one.scrollWidth <= one.clientWidth")
    assert rows.nth(1).locator(".path-head").evaluate("(one) => one.scrollWidth > one.clientWidth")
    visit.check()


def test_a_document_is_handed_in(shown: OpenScripted, scripted: House) -> None:
    """By choosing or dropping it, with project and tags; what came of it links to its episodes."""
    visit = shown()
    page = ingest(visit.page, visit.root)
    page.get_by_label("Project", exact=True).fill("shop")
    page.get_by_label("Tags", exact=True).fill("contract, #2026, contract")
    terms = FilePayload(name="terms.pdf", mimeType="application/pdf", buffer=b"%PDF-1.7 made up")
    page.locator("#file").set_input_files(terms)
    line = page.locator("#handed > li").first
    expect(line).to_contain_text("remembered")
    expect(line).to_contain_text("9 episodes, 7 new, 2 known already, 1 secret taken out, 4 pages, 12,345 characters")
    expect(line.get_by_role("link").first).to_have_attribute("href", "/dashboard/episodes/ep_doc_0")
    line.locator("summary").click()
    expect(line.get_by_role("link")).to_have_count(9)
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["# Notes"], "notes.md"));
          const drop = document.getElementById("drop");
          for (const kind of ["dragenter", "dragover", "drop"])
            drop.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
        }"""
    )
    expect(page.locator("#handed > li").first).to_contain_text("notes.md")
    expect(page.locator("#handed .badge.good")).to_have_count(2)
    bodies = [body for path, body in scripted.intake.asked if path == "/api/episodes/upload"]
    assert bodies == [
        {"name": "terms.pdf", "bytes": 16, "project": "shop", "tags": ["contract", "2026"]},
        {"name": "notes.md", "bytes": 7, "project": "shop", "tags": ["contract", "2026"]},
    ]
    visit.check()


def test_a_document_that_is_refused_stops_no_other(shown: OpenScripted, scripted: House) -> None:
    """Its line says why in the service's words, and tries again; the next one is handed in all the same."""
    answers = [refusal(422, "invalid", "the document is encrypted; hand in one without a password"), None, None]
    scripted.intake.refuse = lambda _: answers.pop(0)
    visit = shown()
    page = ingest(visit.page, visit.root)
    files = [FilePayload(name=f"{name}.docx", mimeType="x/y", buffer=b"made up") for name in ("locked", "open")]
    page.locator("#file").set_input_files(files)
    locked = page.locator("#handed > li", has_text="locked.docx")
    expect(locked.get_by_role("alert")).to_have_text("The document is encrypted; hand in one without a password")
    expect(page.locator("#handed > li", has_text="open.docx")).to_contain_text("remembered")
    locked.get_by_role("button", name="Try again").click()
    expect(locked).to_contain_text("remembered")


def test_an_address_is_fetched(shown: OpenScripted, scripted: House) -> None:
    """Its line is like a document's, also where it is refused."""
    scripted.intake.refuse = lambda _: refusal(403, "forbidden", "example.org is none of ANAMNESIS_URL_HOSTS")
    visit = shown()
    page = ingest(visit.page, visit.root)
    page.get_by_label("Or fetch an address").fill("https://example.org/paper.pdf")
    page.keyboard.press("Enter")
    line = page.locator("#handed > li").first
    expect(line.get_by_role("alert")).to_have_text("Example.org is none of ANAMNESIS_URL_HOSTS")
    assert scripted.intake.asked == [
        ("/api/ingest-url", {"url": "https://example.org/paper.pdf", "project": "documents", "tags": []})
    ]


def test_who_may_only_look_is_told_so(shown: OpenScripted, scripted: House) -> None:
    """Everything is shown, and nothing that would be refused is offered."""
    full(scripted.intake)
    scripted.scope = Scope.READ
    visit = shown()
    page = ingest(visit.page, visit.root)
    expect(page.locator("main")).to_contain_text("that needs the scope “write”")
    expect(page.locator("#drop, main .panel [data-run]")).to_have_count(0)
    expect(page.locator("#night .station")).to_have_count(4)
    visit.check()


def test_one_that_is_away_leaves_the_others_alone(shown: OpenScripted, scripted: House) -> None:
    """Before anything is configured each says what it is; a panel that fails says so in its own place."""
    visit = shown()
    page = visit.page
    page.route(re.compile("parts/ingest/night"), lambda route: route.fulfill(status=503, body="{}"))
    ingest(page, visit.root)
    expect(page.locator("#night")).to_contain_text("This could not be loaded")
    expect(page.locator("#crawl").get_by_role("link", name="Add a source")).to_have_attribute(
        "href", "/dashboard/settings/files"
    )
    expect(page.locator("#summaries")).to_contain_text("no model, no cost")
