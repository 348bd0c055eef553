"""The page of evaluations: from a question to a result that can be read."""

import json
from pathlib import Path

from playwright.sync_api import expect

from anamnesis.contracts.evaluate import EvaluateRequest, EvaluateRun, EvaluateState, QuestionOutcome, Scores
from tests.browser.scripted.conftest import OpenScripted
from tests.browser.scripted.house import BEGAN, House


def scores(name: str, recall: float, silence: float | None = None) -> Scores:
    return Scores(
        configuration=name,
        questions=2,
        recall=recall,
        mrr=0.5,
        precision=0.4,
        silence=silence,
        false_silence=0.1,
        p50_ms=10,
        p95_ms=20,
    )


def steps(request: EvaluateRequest, run: EvaluateRun) -> EvaluateRun:
    """Half way at the first look, done at the second."""
    if run.done == 0:
        return run.model_copy(update={"done": 1, "total": 4})
    names = [one.name for one in request.configurations]
    each = tuple(("ep_1",) if at else () for at in range(len(names)))
    found = QuestionOutcome(question="How did we fix it?", expected=("ep_1",), found=each)
    return run.model_copy(
        update={
            "state": EvaluateState.DONE,
            "done": 4,
            "total": 4,
            "finished_at": BEGAN,
            "scores": tuple(scores(name, 0.5 + 0.25 * at) for at, name in enumerate(names)),
            "outcomes": (found,),
        }
    )


def test_from_a_question_to_a_result(shown: OpenScripted, scripted: House) -> None:
    """Two questions are written, one that silence answers; two configurations run; the better values are marked."""
    scripted.episode("ep_1", "Fixed the flaky upload test by waiting for the worker.")
    scripted.episode("ep_2", "Chose a name for the upload service.")
    scripted.outcome = steps
    visit = shown()
    page = visit.go("/dashboard/evaluate")
    expect(page.locator("#run")).to_be_disabled()
    expect(page.locator("#run-hint")).to_contain_text("Add a question first")

    page.get_by_role("button", name="Add a question").click()
    page.locator("#question-text").fill("How did we fix the flaky upload test?")
    page.get_by_role("button", name="Find").click()
    page.get_by_label("Fixed the flaky upload test").check()
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("button", name="Add a question").click()
    page.locator("#question-text").fill("What is the capital of the moon?")
    expect(page.locator("#question-state")).to_contain_text("silence is the right answer")
    page.get_by_role("button", name="Keep").click()
    expect(page.locator("#questions .badge")).to_have_text(["1 episode", "silence is right"])
    assert scripted.settings["evaluation-questions"] == {
        "questions": [
            {"question": "How did we fix the flaky upload test?", "episode_ids": ["ep_1"]},
            {"question": "What is the capital of the moon?", "episode_ids": []},
        ]
    }

    second = page.locator("#configurations .configuration").nth(1)
    second.get_by_label("Name").fill("Words only")
    second.get_by_label("Hits").fill("10")
    second.get_by_label("Embedding model").select_option("bge-small-en-v1.5")
    second.get_by_text("Weights").click()
    second.get_by_label("Dense").fill("0")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#result progress")).to_have_attribute("value", "1")
    expect(page.locator("#result .scores")).to_be_visible()
    [request] = scripted.evaluated
    assert [one.question for one in request.questions][1] == "What is the capital of the moon?"
    assert [one.name for one in request.configurations] == ["As shipped", "Words only"]
    chosen = request.configurations[1]
    assert (chosen.top_k, chosen.model) == (10, "bge-small-en-v1.5")
    assert chosen.ranking is not None
    assert chosen.ranking.model_dump(exclude_none=True) == {"dense": 0.0}

    recall = page.locator(".scores tr", has_text="Recall").locator("td")
    expect(recall).to_have_text(["50.0 %", "75.0 %better"])
    expect(page.locator(".scores .best")).to_have_count(1)
    outcome = page.locator(".outcomes details")
    expect(outcome.locator("summary .badge")).to_have_text(["As shipped: 0 of 1", "Words only: 1 of 1"])
    outcome.locator("summary").click()
    expect(outcome.locator(".outcome")).to_contain_text("Fixed the flaky upload test by waiting")
    expect(page.locator("#past li")).to_have_count(1)
    assert page.url.endswith("?run=run1")
    page.reload()
    expect(page.locator("#result .scores")).to_be_visible()
    visit.check()


def test_questions_can_be_made_and_a_run_stopped(shown: OpenScripted, scripted: House) -> None:
    """Nobody has to write any; what goes on too long is ended by a button."""
    visit = shown()
    page = visit.go("/dashboard/evaluate")
    page.get_by_text("Made from episodes", exact=True).click()
    page.get_by_label("How many").fill("20")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#result .badge")).to_have_text("running")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#result .badge")).to_have_text("stopped")
    assert [(one.made, one.questions) for one in scripted.evaluated] == [(20, ())]
    visit.check()


def test_questions_travel_as_a_file(shown: OpenScripted, scripted: House, tmp_path: Path) -> None:
    """What is exported is what can be imported; known ones are not doubled, and another file is refused in words."""
    scripted.settings["evaluation-questions"] = {"questions": [{"question": "First?", "episode_ids": ["ep_1"]}]}
    visit = shown()
    page = visit.go("/dashboard/evaluate")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export").click()
    file = tmp_path / "questions.json"
    waiting.value.save_as(file)
    kept = json.loads(file.read_text())
    assert kept == scripted.settings["evaluation-questions"]
    kept["questions"].append({"question": "Second?", "episode_ids": []})
    file.write_text(json.dumps(kept))
    page.locator("#file").set_input_files(file)
    expect(page.locator("#questions .question")).to_have_text(["First?", "Second?"])
    file.write_text("no json")
    page.locator("#file").set_input_files(file)
    expect(page.locator("#toasts")).to_contain_text("This is no file of questions")
    expect(page.locator("#questions .question")).to_have_count(2)
    visit.check()


def test_names_must_differ_and_numbers_be_possible(shown: OpenScripted, scripted: House) -> None:
    """A result could not be read otherwise; nothing is sent until that is mended."""
    scripted.settings["evaluation-questions"] = {"questions": [{"question": "First?", "episode_ids": []}]}
    visit = shown()
    page = visit.go("/dashboard/evaluate")
    expect(page.locator("#run")).to_be_enabled()
    page.get_by_label("Name").nth(1).fill("As shipped")
    page.get_by_role("button", name="Run").click()
    page.get_by_label("Name").nth(1).fill("Other")
    page.get_by_label("Floor").first.fill("7")
    page.get_by_role("button", name="Run").click()
    assert scripted.evaluated == []
    page.get_by_label("Floor").first.fill("0.7")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#result")).to_be_visible()
    assert len(scripted.evaluated) == 1
    visit.check()


def test_a_run_that_failed_says_why(shown: OpenScripted, scripted: House) -> None:
    """And what it had found until then is still shown."""
    scripted.settings["evaluation-questions"] = {"questions": [{"question": "First?", "episode_ids": []}]}
    scripted.outcome = lambda _, run: run.model_copy(
        update={"state": EvaluateState.FAILED, "error": "the model bge-small is not on this machine"}
    )
    visit = shown()
    page = visit.go("/dashboard/evaluate")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#result .notice")).to_contain_text("the model bge-small is not on this machine")
    expect(page.locator("#run")).to_be_enabled()
    visit.check()
