"""Settings: what is configured is read, changed, refused beside its field, and never silently written over."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from anamnesis.contracts.consolidate import Consolidation
from anamnesis.contracts.crawler import (
    CrawlerConfig,
    MachineRoot,
    Preview,
    Source,
    SourceKind,
    TagPattern,
    TagPatternsConfigured,
)
from anamnesis.contracts.keys import Scope
from anamnesis.contracts.summaries import JsonlConfig, Significance, Summarising
from tests.browser.scripted.conftest import OpenScripted
from tests.browser.scripted.house import House
from tests.browser.scripted.intake import Intake, refusal


def configured(intake: Intake) -> None:
    """A little of everything."""
    intake.crawler = CrawlerConfig(
        machine_roots=(
            MachineRoot(instance="workstation", path="/srv/files/workstation"),
            MachineRoot(instance="laptop", path="/srv/files/laptop"),
        ),
        sources=(
            Source(name="claude-notes", kind=SourceKind.NAMED, globs=("**/CLAUDE.md",), tags=("claude",)),
            Source(name="firmware", kind=SourceKind.DEEP, globs=("0_*",), project="observatory", max_bytes=128 << 10),
            Source(name="contracts", kind=SourceKind.DOCUMENTS, root="/srv/files/papers", enabled=False),
        ),
        excludes=("**/generated/**",),
    )
    intake.crawler_version = 3
    intake.patterns = TagPatternsConfigured(
        version=1,
        patterns=(
            TagPattern(pattern="invoice", tags=("invoice",)),
            TagPattern(pattern=r"\bISO \d+", syntax="regex", where="content", tags=("standard", "iso")),
        ),
    )
    intake.jsonl = JsonlConfig(
        roots=("/home/ada/.claude/projects",),
        significance=(Significance(project="scratch-*", exclude=True), Significance(project="shop", min_said=40)),
        summaries=Summarising(backend="ollama", model="llama3.2"),
    )
    intake.jsonl_version = 1
    intake.found = ("/home/ada/work/.claude/projects",)
    intake.preview = Preview(
        files=214, bytes=1_830_000, examples=("shop/CLAUDE.md", "ledger/CLAUDE.md"), left_out={"too-large": 3}
    )
    intake.groups = tuple(
        Consolidation(
            episode_id=None,
            members=(f"ep_a{at}", f"ep_b{at}", f"ep_c{at}"),
            kind="session" if at else "sources",
            project="shop",
            similarity=0.963,
            summary="Asked: why does the upload test fail? Outcome: the server needs longer.",
        )
        for at in range(3)
    )


def settings(page: Page, root: str, name: str) -> Page:
    page.goto(f"{root}/dashboard/settings/{name}")
    expect(page.locator("main .skeleton")).to_have_count(0)
    return page


def saved(house: House, path: str) -> list[object]:
    return [body for asked, body in house.intake.asked if asked == path]


def save(form: Locator) -> None:
    """Press the form's button, and wait until what it says has been written and read again."""
    with form.page.expect_response(lambda one: one.request.method == "PUT" and one.ok):
        form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("button", name="Save")).to_be_enabled()


SOURCES = "/api/crawler/config/sources"


def test_a_first_source(shown: OpenScripted, scripted: House) -> None:
    """Nothing is configured: the page says what the crawler is; a preset only fills the form; a preview comes first."""
    scripted.intake.preview = Preview(files=214, bytes=1_830_000, examples=("shop/CLAUDE.md",), left_out={"binary": 3})
    visit = shown()
    page = settings(visit.page, visit.root, "files")
    expect(page.locator("#sources")).to_contain_text("keeps what is remembered as current as the files")
    page.get_by_role("button", name="Claude notes").click()
    dialog = page.locator("#source-dialog")
    expect(dialog.get_by_label("Name", exact=True)).to_have_value("claude-notes")
    expect(dialog.get_by_label("Files", exact=True)).to_have_value("**/CLAUDE.md")
    assert scripted.intake.asked == []
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog.locator("#preview")).to_contain_text("214 files would be read, 1.8 MB in all")
    expect(dialog.locator("#preview")).to_contain_text("shop/CLAUDE.md")
    expect(dialog.locator("#preview")).to_contain_text("Left out: 3 binary")
    assert saved(scripted, SOURCES) == []
    dialog.get_by_role("button", name="Save").click()
    expect(page.locator(".source")).to_contain_text("claude-notes")
    [source] = scripted.intake.crawler.sources
    assert source == Source(name="claude-notes", kind=SourceKind.NAMED, globs=("**/CLAUDE.md",), tags=("claude",))
    visit.check()


def test_a_source_is_changed_switched_and_removed(shown: OpenScripted, scripted: House) -> None:
    """What the form does not touch stays; a removal is confirmed first."""
    configured(scripted.intake)
    visit = shown()
    page = settings(visit.page, visit.root, "files")
    page.get_by_role("button", name="Edit firmware").click()
    dialog = page.locator("#source-dialog")
    expect(dialog.get_by_label("Names of the directories")).to_have_value("0_*")
    expect(dialog.get_by_label("Largest file")).to_have_value("128")
    dialog.get_by_label("Names of the directories").fill("0_*\n1_*")
    dialog.get_by_label("Extensions").fill(".cpp .h")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()
    expect(page.locator(".source", has_text="firmware")).to_contain_text("0_*, 1_*")
    changed = scripted.intake.crawler.sources[1]
    assert (changed.globs, changed.extensions, changed.max_bytes) == (("0_*", "1_*"), (".cpp", ".h"), 128 << 10)
    page.get_by_role("switch", name="Read claude-notes").click()
    expect(page.locator(".toast").last).to_contain_text("claude-notes is not read any more")
    assert not scripted.intake.crawler.sources[0].enabled
    page.get_by_role("button", name="Remove contracts").click()
    page.get_by_role("button", name="Keep it").click()
    assert len(scripted.intake.crawler.sources) == 3
    page.get_by_role("button", name="Remove contracts").click()
    page.locator("#delete-source").get_by_role("button", name="Remove").click()
    expect(page.locator(".source")).to_have_count(2)
    assert [one.name for one in scripted.intake.crawler.sources] == ["claude-notes", "firmware"]
    visit.check()


def test_a_path_that_is_forbidden_is_said_at_its_field(shown: OpenScripted, scripted: House) -> None:
    """The form stays as it was written; names that are taken and fields that are empty are said as well."""
    configured(scripted.intake)
    visit = shown()
    page = settings(visit.page, visit.root, "files")
    page.get_by_role("button", name="Add a source").click()
    dialog = page.locator("#source-dialog")
    name, root = dialog.get_by_label("Name", exact=True), dialog.get_by_label("Directory", exact=True)
    dialog.get_by_role("button", name="Save").click()
    expect(name).to_have_attribute("aria-invalid", "true")
    name.fill("firmware")
    root.fill("/etc")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_have_text("There is a source of this name already")
    name.fill("system")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.locator(".field:has(#s-root)").get_by_role("alert")).to_have_text("/etc may not be read")
    expect(root).to_be_focused()
    expect(root).to_have_value("/etc")
    scripted.intake.refuse = lambda _: refusal(400, "bad_request", "/etc lies outside ANAMNESIS_SOURCES")
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog.locator(".field:has(#s-root)").get_by_role("alert")).to_have_text(
        "/etc lies outside ANAMNESIS_SOURCES"
    )


def test_nothing_is_written_over_somebody_else(shown: OpenScripted, scripted: House) -> None:
    """In a form the newer settings are loaded around what was written; a panel takes the newer ones."""
    configured(scripted.intake)
    visit = shown()
    page = settings(visit.page, visit.root, "files")
    intake = scripted.intake

    def meanwhile(name: str) -> None:
        more = (*intake.crawler.sources, Source(name=name, kind=SourceKind.SCRIPTS))
        intake.crawler = intake.crawler.model_copy(update={"sources": more, "scan_seconds": 600.0})
        intake.crawler_version += 1

    page.get_by_role("button", name="Add a source").click()
    dialog = page.locator("#source-dialog")
    dialog.get_by_label("Name", exact=True).fill("mine")
    meanwhile("theirs")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Somebody else changed the sources meanwhile")
    dialog.get_by_role("button", name="Load the newer settings").click()
    dialog.get_by_role("button", name="Save").click()
    expect(page.locator(".source")).to_have_count(5)
    assert [one.name for one in intake.crawler.sources][-2:] == ["theirs", "mine"]
    meanwhile("more")
    limits = page.locator("#limits")
    limits.get_by_label("Scan every").fill("7")
    limits.get_by_role("button", name="Save").click()
    expect(limits.get_by_role("alert")).to_contain_text("Somebody else changed this meanwhile")
    assert intake.crawler.scan_seconds == 600
    limits.get_by_role("button", name="Load the newer settings").click()
    expect(limits.get_by_label("Scan every")).to_have_value("10")
    limits.get_by_label("Scan every").fill("7")
    save(limits)
    assert intake.crawler.scan_seconds == 420
    assert len(intake.crawler.sources) == 6


def test_machines_limits_and_patterns(shown: OpenScripted, scripted: House) -> None:
    """Each is saved by itself; what is wrong is said beside its field, and nothing of it was kept."""
    configured(scripted.intake)
    scripted.intake.warnings = ("source 'papers': its root does not exist",)
    visit = shown()
    page = settings(visit.page, visit.root, "files")
    expect(page.locator("#warnings")).to_contain_text("Source 'papers': its root does not exist")
    machines = page.locator("#machines")
    machines.get_by_role("button", name="Add a machine").click()
    page.keyboard.type("gpu-host")
    page.keyboard.press("Tab")
    page.keyboard.type("/mnt/gpu")
    machines.get_by_role("button", name="Save").click()
    expect(machines.get_by_role("alert")).to_have_text("it may not be read")
    machines.get_by_label("Directory").last.fill("/srv/files/gpu")
    save(machines)
    assert scripted.intake.crawler.machine_roots[2] == MachineRoot(instance="gpu-host", path="/srv/files/gpu")
    limits = page.locator("#limits")
    limits.get_by_label("Largest text file").fill("128")
    limits.get_by_label("Never read").fill("**/generated/**\n*.{a,b}")
    limits.get_by_label("Watch").uncheck()
    save(limits)
    config = scripted.intake.crawler
    assert (config.max_bytes, config.excludes, config.watch) == (128 << 10, ("**/generated/**", "*.{a,b}"), False)
    assert len(config.machine_roots) == 3
    patterns = page.locator("#patterns")
    patterns.get_by_label("Pattern", exact=True).nth(1).fill("(unfinished")
    patterns.get_by_role("button", name="Save").click()
    expect(patterns.get_by_role("alert")).to_have_text("missing ), unterminated group")
    expect(patterns.get_by_label("Pattern", exact=True).nth(1)).to_be_focused()
    assert scripted.intake.patterns.patterns[1].pattern == r"\bISO \d+"
    patterns.get_by_label("Pattern", exact=True).nth(1).fill("(finished)")
    patterns.get_by_role("button", name="Remove this pattern").first.click()
    save(patterns)
    [left] = scripted.intake.patterns.patterns
    assert left == TagPattern(pattern="(finished)", syntax="regex", where="content", tags=("standard", "iso"))


def test_transcripts(shown: OpenScripted, scripted: House) -> None:
    """What was found is read by one click; directories, the poll, and rules for projects are saved."""
    configured(scripted.intake)
    visit = shown()
    page = settings(visit.page, visit.root, "transcripts")
    page.get_by_role("button", name="Read it").click()
    expect(page.locator(".suggestion")).to_have_count(0)
    expect(page.locator("#roots [data-key]")).to_have_count(2)
    page.get_by_label("Look every").fill("120")
    save(page.locator("#roots"))
    assert scripted.intake.jsonl.roots == ("/home/ada/.claude/projects", "/home/ada/work/.claude/projects")
    assert scripted.intake.jsonl.poll_seconds == 120
    scripted.intake.refuse = lambda _: refusal(
        400, "bad_request", "'/etc' lies outside of what may be read: /srv/files"
    )
    page.get_by_label("Directory", exact=True).last.fill("/etc")
    page.locator("#roots").get_by_role("button", name="Save").click()
    expect(page.locator("#roots .edit-row").last.get_by_role("alert")).to_contain_text("'/etc' lies outside")
    scripted.intake.refuse = lambda _: None
    rules = page.locator("#significance")
    rules.get_by_role("button", name="Add a rule").click()
    page.keyboard.type("ledger")
    rules.get_by_label("Bare commands").last.select_option("keep")
    rules.get_by_label("Read nothing of them").first.uncheck()
    save(rules)
    assert scripted.intake.jsonl.significance == (
        Significance(project="scratch-*"),
        Significance(project="shop", min_said=40),
        Significance(project="ledger", commands=True),
    )
    assert scripted.intake.jsonl.summaries.model == "llama3.2"


def test_the_night(shown: OpenScripted, scripted: House) -> None:
    """Time and zone are saved, the next one is said in the reader's time; summaries say what they come to."""
    configured(scripted.intake)
    visit = shown()
    page = settings(visit.page, visit.root, "night")
    assert page.locator("#zones option").count() > 100
    page.get_by_label("Time zone").fill("Europe/Berlin")
    page.locator("#n-at").fill("03:30")
    save(page.locator("#schedule"))
    expect(page.locator("#n-next")).to_contain_text("The next one begins")
    kept = scripted.intake.schedule.schedule
    assert (kept.at, kept.time_zone, kept.enabled) == ("03:30", "Europe/Berlin", True)
    page.get_by_label("Time zone").fill("Europe/Atlantis")
    page.locator("#schedule").get_by_role("button", name="Save").click()
    expect(page.locator("#schedule").get_by_role("alert")).to_contain_text(
        re.compile("^there is no time zone 'Europe/Atlantis'")
    )
    expect(page.locator("#u-sum")).to_contain_text("At most 125 requests a pass, over 13 minutes")
    page.get_by_label("Claude API").check()
    page.get_by_label("Episodes a pass").fill("40")
    expect(page.locator("#u-sum")).to_contain_text("At most 10 requests a pass, over 1 minute.")
    save(page.locator("#summaries"))
    assert scripted.intake.jsonl.summaries == Summarising(backend="claude", model="llama3.2", per_night=40)
    page.get_by_label("Cut out of the text").check()
    expect(page.locator("#by-model")).to_be_hidden()


def test_consolidation_is_tried_dry_and_undone(shown: OpenScripted, scripted: House) -> None:
    """First what would be done, then a confirmation, then each group with the way back."""
    configured(scripted.intake)
    visit = shown()
    page = settings(visit.page, visit.root, "night")
    page.get_by_label("Across sources").fill("0.9")
    page.get_by_role("button", name="Show what would be done").click()
    expect(page.locator("#groups")).to_contain_text("9 episodes in 3 groups would become one each")
    expect(page.locator(".group").first).to_contain_text("96.3 % alike")
    page.locator(".group summary").first.click()
    expect(page.locator(".group").first.get_by_role("link").first).to_have_attribute(
        "href", "/dashboard/episodes/ep_a0"
    )
    page.get_by_role("button", name="Consolidate 3 groups").click()
    page.locator("#consolidate").get_by_role("button", name="Consolidate").click()
    expect(page.locator("#groups")).to_contain_text("became one each")
    page.get_by_role("button", name="Undo").first.click()
    expect(page.locator(".group").first).to_contain_text("undone")
    path = "/api/episodes/consolidate"
    assert [body["dry_run"] for body in saved(scripted, path) if isinstance(body, dict)] == [True, False]
    assert saved(scripted, path + "/undo") == [{"episode_ids": ["ep_made_0"]}]
    page.get_by_label("Across sources").fill("0.93")
    expect(page.locator("#groups")).to_be_empty()
    visit.check()


@pytest.mark.parametrize("name", ["files", "transcripts", "night"])
def test_who_may_not_change_sees_everything(shown: OpenScripted, scripted: House, name: str) -> None:
    """With the reason why, and without anything that would be refused."""
    configured(scripted.intake)
    scripted.scope = Scope.WRITE
    visit = shown()
    page = settings(visit.page, visit.root, name)
    expect(page.locator("main")).to_contain_text("that needs the scope “admin”")
    expect(page.locator("main button:visible:not(:disabled)")).to_have_count(0)
    expect(page.locator("main :is(input, textarea, select):visible:not(:disabled)")).to_have_count(0)
    expect(page.locator("main")).to_contain_text(
        {"files": "firmware", "transcripts": "Read nothing", "night": "Ollama"}[name]
    )
    visit.check()
