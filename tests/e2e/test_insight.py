"""The store as a whole and an evaluation of it, through the front door of real services."""

import time

import httpx
import pytest

from anamnesis.contracts.evaluate import EvaluateRun, EvaluateState
from anamnesis.contracts.insight import Coverage, EpisodeMap, Timeline
from tests.e2e.conftest import Stack

PROJECT = "insight"
SUBJECTS = ("kettle", "anchor", "violin", "compost heap", "wind turbine", "lantern", "saddle", "glacier")
MODEL = "all-MiniLM-L6-v2"


def _episode(number: int) -> dict[str, object]:
    subject = SUBJECTS[number % len(SUBJECTS)]
    return {
        "episode_id": f"ep_insight_{number:02}",
        "timestamp": f"2026-03-{number % 28 + 1:02}T10:00:00Z",
        "instance": "laptop",
        "project": PROJECT,
        "summary": f"Asked: how to look after the {subject}, part {number}. Answer: with patience.",
        "raw_exchange": f"User: how to look after the {subject}?\n\n"
        f"Assistant: Whoever owns a {subject} puts gasket{number} and linseed{number} on it before the winter comes.",
    }


def _evaluated(client: httpx.Client, body: dict[str, object]) -> EvaluateRun:
    started = client.post("/api/evaluate", json=body)
    assert started.status_code == 202, started.text
    run_id = started.json()["run_id"]
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        run = EvaluateRun.model_validate_json(client.get(f"/api/evaluate/{run_id}").content)
        if run.state is not EvaluateState.RUNNING:
            return run
        time.sleep(0.1)
    raise AssertionError("the evaluation did not end")


@pytest.mark.slow
def test_the_whole_of_a_store_and_what_it_is_worth(stack: Stack) -> None:
    """Episodes written through the gateway have a timeline and a map, and are evaluated, also beside a model."""
    with stack.client() as client:
        written = client.post("/api/episodes/batch", json={"episodes": [_episode(number) for number in range(48)]})
        assert written.status_code == 200

        told = client.get("/api/episodes/timeline", params={"bucket": "month", "project": PROJECT})
        assert [point.episodes for point in Timeline.model_validate_json(told.content).points] == [48]
        drawn = client.get("/api/episodes/map", params={"project": PROJECT})
        picture = EpisodeMap.model_validate_json(drawn.content)
        assert (picture.model, picture.total, picture.projects) == (MODEL, 48, (PROJECT,))
        assert Coverage.model_validate_json(client.get("/api/jsonl/coverage").content).files == 0

        questions = [
            {"question": f"how do I look after a {subject}?", "episode_ids": [f"ep_insight_{at:02}"]}
            for at, subject in enumerate(SUBJECTS)
        ]
        questions.append({"question": "What is the capital of Peru?"})
        wide = {"name": "wide", "top_k": 20, "floor": 0}
        own = _evaluated(
            client, {"questions": questions, "configurations": [{"name": "shipped"}, wide], "project": PROJECT}
        )
        assert (own.state, own.error) == (EvaluateState.DONE, None)
        shipped, generous = own.scores
        assert generous.recall == 1.0
        assert (shipped.silence, generous.silence) == (1.0, 0.0)

        made = _evaluated(client, {"made": 10, "configurations": [{"name": "shipped"}], "project": PROJECT})
        assert (made.state, made.error) == (EvaluateState.DONE, None)
        assert made.scores[0].questions > 8

        both = [{"name": "in use", "floor": 0}, {"name": "same by name", "model": MODEL, "floor": 0}]
        compared = _evaluated(
            client, {"questions": questions, "configurations": both, "sample": 20, "project": PROJECT}
        )
        assert (compared.state, compared.error) == (EvaluateState.DONE, None)
        assert compared.scores[0].recall == compared.scores[1].recall
        assert compared.outcomes == ()

        kept = client.get(f"/api/episodes/ep_insight_{0:02}").json()
        assert (kept["retrieval_count"], kept["last_retrieved"]) == (0, None)
