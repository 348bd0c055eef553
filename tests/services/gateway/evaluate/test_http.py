"""Evaluations through the gateway, and what is kept of them in a memory that is a small real server."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from anamnesis.contracts.base import now
from anamnesis.contracts.evaluate import (
    Configuration,
    EvaluateRequest,
    EvaluateRun,
    EvaluateRuns,
    EvaluateState,
    Question,
    QuestionOutcome,
    Scores,
)
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import BadRequest, Conflict, NotFound
from services.gateway.evaluate.memory import KEPT, QUESTIONS, RUNS, MemoryDesk
from services.gateway.evaluate.runs import Runs
from tests.services.gateway.conftest import Behind, caller, gateway, settings_for
from tests.services.gateway.evaluate.test_made import told


class Paper:
    """Settings with versions, a search that finds what the question names, and pages of episodes."""

    def __init__(self, behind: Behind) -> None:
        behind.answer = self.answer
        self.settings: dict[str, tuple[int, object]] = {}
        self.searches: list[dict[str, object]] = []
        self.interrupt = 0
        """So many times somebody else writes a setting between a read and a write."""
        self.episodes = [told(number) for number in range(37)]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/api/episodes/search":
            asked = await request.json()
            self.searches.append(asked)
            hits = [
                {**json.loads(one.model_dump_json()), "score": 1.0, "reasons": None}
                for one in self.episodes
                if one.episode_id in asked["query_text"]
            ]
            return web.json_response({"results": hits, "abstained": not hits, "explanation": None})
        if request.path == "/api/episodes":
            skip, limit = int(request.query["skip"]), int(request.query["limit"])
            page = [json.loads(one.model_dump_json()) for one in self.episodes[skip : skip + limit]]
            return web.json_response({"episodes": page, "total": len(self.episodes)})
        name = request.path.removeprefix("/api/settings/")
        version, value = self.settings.get(name, (0, None))
        if request.method == "GET":
            if not version:
                return web.json_response({"error": {"code": "not_found", "message": "never set"}}, status=404)
            return web.json_response({"name": name, "value": value, "version": version})
        if self.interrupt:
            self.interrupt -= 1
            version += 1
            self.settings[name] = (version, value)
        if int(request.query.get("version", version)) != version:
            return web.json_response({"error": {"code": "conflict", "message": "changed"}}, status=409)
        self.settings[name] = (version + 1, await request.json())
        return web.json_response({"name": name, "value": {}, "version": version + 1})


@pytest.fixture
def paper(behind: Behind) -> Paper:
    return Paper(behind)


@pytest.fixture
async def desk(behind: Behind, paper: Paper) -> AsyncIterator[MemoryDesk]:
    async with ServiceClient(behind.url, None) as client:
        yield MemoryDesk(client)


def run_of(number: int, outcomes: int = 0, length: int = 10) -> EvaluateRun:
    return EvaluateRun(
        run_id=f"{number:032x}",
        state=EvaluateState.DONE,
        started_at=now(),
        scores=(Scores(configuration="one", questions=1, recall=None, mrr=0.5),),
        outcomes=tuple(
            QuestionOutcome(question="q" * length, expected=(), found=(("ep_a",), ())) for _ in range(outcomes)
        ),
    )


async def finished(door: aiohttp.ClientSession, run_id: str) -> EvaluateRun:
    async with asyncio.timeout(20):
        while True:
            async with door.get(f"/api/evaluate/{run_id}") as answer:
                run = EvaluateRun.model_validate_json(await answer.read())
            if run.state is not EvaluateState.RUNNING:
                return run
            await asyncio.sleep(0.01)


async def test_a_run_from_start_to_the_list(door: aiohttp.ClientSession, paper: Paper) -> None:
    """Started, followed, read again from what memory keeps; searches neither count nor explain."""
    body = {
        "questions": [
            {"question": "about ep_003", "episode_ids": ["ep_003"]},
            {"question": "about ep_004", "episode_ids": ["ep_005"]},
            {"question": "about nothing"},
        ],
        "configurations": [{"name": "shipped"}, {"name": "words", "ranking": {"lexical": 1.0}, "floor": 0.2}],
        "project": "shop",
    }
    async with door.post("/api/evaluate", json=body) as answer:
        assert answer.status == 202
        started = EvaluateRun.model_validate_json(await answer.read())
    run = await finished(door, started.run_id)
    assert (run.state, run.total) == (EvaluateState.DONE, 6)
    assert [(one.recall, one.precision, one.silence) for one in run.scores] == [(0.5, 0.5, 1.0)] * 2
    assert len(paper.searches) == 6
    assert all(one["count"] is False and not one.get("explain") for one in paper.searches)
    assert {one["project_filter"] for one in paper.searches} == {"shop"}
    assert [one["ranking"] for one in paper.searches if "ranking" in one] == [{"lexical": 1.0}] * 3
    async with door.get("/api/evaluate") as answer:
        listed = EvaluateRuns.model_validate_json(await answer.read())
    assert [(one.run_id, one.outcomes) for one in listed.runs] == [(run.run_id, ())]
    async with asyncio.timeout(10):
        while RUNS not in paper.settings:  # noqa: ASYNC110 -- kept a moment after the end
            await asyncio.sleep(0.01)


async def test_kept_runs_outlive_the_gateway(behind: Behind, paper: Paper) -> None:
    """Another gateway over the same memory knows the runs of the former."""
    async with gateway(settings_for(behind.url)) as url, caller(url) as door:
        body = {"questions": [{"question": "about ep_003"}], "configurations": [{"name": "one"}]}
        async with door.post("/api/evaluate", json=body) as answer:
            run_id = (await answer.json())["run_id"]
        run = await finished(door, run_id)
        assert len(run.outcomes) == 1  # found where silence was right
    async with gateway(settings_for(behind.url)) as url, caller(url) as door:
        assert await finished(door, run_id) == run


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/evaluate/" + "0" * 32, 404),
        ("DELETE", "/api/evaluate/" + "0" * 32, 404),
        ("GET", "/api/evaluate/..%2Fkeys", 404),
        ("GET", "/api/evaluate/nonsense", 422),
        ("POST", "/api/evaluate", 422),
    ],
)
async def test_what_is_not_there_or_makes_no_sense(
    door: aiohttp.ClientSession, paper: Paper, method: str, path: str, status: int
) -> None:
    """Unknown runs, ids of another shape and empty requests are refused."""
    async with door.request(method, path) as answer:
        assert answer.status == status


async def test_nobody_without_a_key(behind: Behind, paper: Paper) -> None:
    """Every path and method needs one."""
    async with gateway(settings_for(behind.url)) as url, caller(url, None) as stranger:
        for method, path in (("GET", ""), ("POST", ""), ("GET", "/" + "0" * 32), ("DELETE", "/" + "0" * 32)):
            async with stranger.request(method, f"/api/evaluate{path}") as answer:
                assert answer.status == 401


async def test_own_questions_are_read_from_their_setting(desk: MemoryDesk, paper: Paper) -> None:
    """Never set: none; set: those; another shape: an error that says where, without quoting what stands there."""
    assert await desk.questions() == ()
    paper.settings[QUESTIONS] = (1, {"questions": [{"question": "one?", "episode_ids": ["ep_a"]}]})
    assert await desk.questions() == (Question(question="one?", episode_ids=("ep_a",)),)
    paper.settings[QUESTIONS] = (2, {"questions": [{"question": "secret", "episode_ids": "ep_a"}]})
    with pytest.raises(BadRequest, match=r"questions\.0\.episode_ids") as error:
        await desk.questions()
    assert "secret" not in error.value.message


async def test_the_latest_runs_are_kept(desk: MemoryDesk) -> None:
    """Newest first, so many, each once, scores without a value among them."""
    for number in range(KEPT + 3):
        await desk.keep(run_of(number))
    await desk.keep(run_of(KEPT + 2))
    kept = await desk.runs()
    assert [int(one.run_id, 16) for one in kept] == list(range(KEPT + 2, 2, -1))
    assert kept[0].scores[0].recall is None


async def test_large_runs_lose_their_outcomes_before_others_lose_themselves(desk: MemoryDesk, paper: Paper) -> None:
    """What is kept stays below what a setting may hold; the newest keeps what it found question by question."""
    for number in range(6):
        await desk.keep(run_of(number, outcomes=100, length=2_000))
    kept = await desk.runs()
    assert len(kept) == 6
    assert len(kept[0].outcomes) == 100
    assert kept[-1].outcomes == ()
    assert len(str(paper.settings[RUNS][1])) < 1 << 20


async def test_another_writer_in_between_loses_nothing(desk: MemoryDesk, paper: Paper) -> None:
    """A changed setting is read again and written over its new version; after three times it is given up."""
    await desk.keep(run_of(1))
    paper.interrupt = 1
    await desk.keep(run_of(2))
    paper.interrupt = 3
    with pytest.raises(Conflict):
        await desk.keep(run_of(3))
    await desk.keep(run_of(4))
    assert [int(one.run_id, 16) for one in await desk.runs()] == [4, 2, 1]


async def test_runs_of_another_shape_count_as_none(desk: MemoryDesk, paper: Paper) -> None:
    """What an older version wrote does not keep new runs from being kept."""
    paper.settings[RUNS] = (4, {"runs": [{"old": True}]})
    assert await desk.runs() == ()
    await desk.keep(run_of(1))
    assert len(await desk.runs()) == 1


async def test_a_sample_is_spread_and_always_the_same(desk: MemoryDesk, paper: Paper) -> None:
    """As many as asked for from all over the store, without what is superseded, the same ones each time."""
    paper.episodes[5] = paper.episodes[5].model_copy(update={"superseded_by": "ep_001"})
    some = [one.episode_id for one in await desk.sample(15, None)]
    assert len(set(some)) == 15
    assert some == [one.episode_id for one in await desk.sample(15, None)]
    everything = {one.episode_id for one in await desk.sample(100, None)}
    assert len(everything) == 36
    assert "ep_005" not in everything
    paper.episodes = []
    assert await desk.sample(15, None) == []


async def test_made_questions_over_http(desk: MemoryDesk, paper: Paper) -> None:
    """From pages of episodes to questions to scores."""
    runs = Runs(desk)
    started = await runs.start(EvaluateRequest(made=10, configurations=(Configuration(name="one"),)))
    async with asyncio.timeout(20):
        while (run := await runs.get(started.run_id)).state is EvaluateState.RUNNING:  # noqa: ASYNC110 -- as a page
            await asyncio.sleep(0.01)
    assert (run.state, run.total) == (EvaluateState.DONE, 18)
    assert run.scores[0].silence == 1.0
    with pytest.raises(NotFound):
        await runs.get("0" * 32)
    await runs.close()
