"""Evaluations in the background, over a memory that answers as it is told."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from anamnesis.contracts.episodes import Episode, RankingWeights
from anamnesis.contracts.evaluate import (
    Compared,
    CompareRequest,
    CompareResponse,
    Configuration,
    EvaluateRequest,
    EvaluateRun,
    EvaluateState,
    Question,
)
from anamnesis.kit.errors import BadRequest, Conflict, NotFound, Unavailable
from services.gateway.evaluate.runs import AT_ONCE, LOOKED_AT, NONE_MADE, NOTHING, Runs
from services.gateway.evaluate.scores import Answer
from tests.services.gateway.evaluate.test_made import told

QUESTIONS = tuple(Question(question=f"question {number}", episode_ids=(f"ep_{number:03}",)) for number in range(12))
PLAIN = Configuration(name="plain")
LEXICAL = Configuration(name="words", ranking=RankingWeights(lexical=1.0))


class Scripted:
    """A memory that finds the episode of a question's number, unless the configuration is called `words`."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.under_way = self.most = 0
        self.searched: list[tuple[str, str]] = []
        self.compared: list[CompareRequest] = []
        self.own: tuple[Question, ...] = ()
        self.kept: list[EvaluateRun] = []
        self.fault: Exception | None = None
        self.keeps = True
        self.episodes = [told(number) for number in range(40)]

    async def search(self, question: str, by: Configuration, project: str | None) -> Answer:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.go_on.wait()
            await asyncio.sleep(0)
            if self.fault is not None:
                raise self.fault
        finally:
            self.under_way -= 1
        self.searched.append((question, by.name))
        number = question.removeprefix("question ")
        found = (f"ep_{int(number):03}",) if number.isdecimal() and by.name != "words" else ()
        return Answer(found, 2.0)

    async def compare(self, request: CompareRequest) -> CompareResponse:
        await self.go_on.wait()
        before = sum(one.model == request.model for one in self.compared)
        self.compared.append(request)
        whole = before >= 2
        total = len(request.episode_ids)
        found = tuple(Compared(episode_ids=request.episode_ids[:1], milliseconds=3.0) for _ in request.questions)
        return CompareResponse(
            model=request.model or "active",
            embedded=total if whole else total // 2,
            total=total,
            results=found if whole else None,
        )

    async def sample(self, count: int, project: str | None) -> list[Episode]:
        return self.episodes[:count]

    async def questions(self) -> tuple[Question, ...]:
        return self.own

    async def runs(self) -> tuple[EvaluateRun, ...]:
        return tuple(self.kept)

    async def keep(self, run: EvaluateRun) -> None:
        if not self.keeps:
            raise Unavailable("memory is away")
        self.kept.insert(0, run)


@pytest.fixture
def desk() -> Scripted:
    return Scripted()


@pytest.fixture
async def runs(desk: Scripted) -> AsyncIterator[Runs]:
    made = Runs(desk)
    yield made
    await made.close()


def request(*by: Configuration, **more: object) -> EvaluateRequest:
    return EvaluateRequest.model_validate({"configurations": by or (PLAIN,), "questions": QUESTIONS, **more})


async def finished(runs: Runs, run: EvaluateRun) -> EvaluateRun:
    async with asyncio.timeout(20):
        while (told := await runs.get(run.run_id)).state is EvaluateState.RUNNING:  # noqa: ASYNC110 -- as a page
            await asyncio.sleep(0.005)
    return told


async def test_every_question_is_put_to_every_configuration(runs: Runs, desk: Scripted) -> None:
    """Each once, at most four at a time; the scores tell the configurations apart, and the run is kept."""
    run = await finished(runs, await runs.start(request(PLAIN, LEXICAL)))
    assert (run.state, run.done, run.total, run.error) == (EvaluateState.DONE, 24, 24, None)
    assert sorted(desk.searched) == sorted((q.question, name) for q in QUESTIONS for name in ("plain", "words"))
    assert 1 < desk.most <= AT_ONCE
    assert [(one.configuration, one.recall, one.false_silence) for one in run.scores] == [
        ("plain", 1.0, 0.0),
        ("words", 0.0, 1.0),
    ]
    assert len(run.outcomes) == 12
    assert desk.kept == [run]


async def test_configurations_take_turns_at_being_first(runs: Runs, desk: Scripted) -> None:
    """The first to ask a question pays for its embedding: no configuration is always the first."""
    await finished(runs, await runs.start(request(PLAIN, LEXICAL)))
    firsts: dict[str, str] = {}
    for question, name in desk.searched:
        firsts.setdefault(question, name)
    assert sorted(firsts.values()) == ["plain"] * 6 + ["words"] * 6


async def test_one_run_at_a_time(runs: Runs, desk: Scripted) -> None:
    """While one is running another is refused with its id; how far it is can be seen; then the next may begin."""
    desk.go_on.clear()
    first = await runs.start(request())
    with pytest.raises(Conflict) as refused:
        await runs.start(request())
    assert refused.value.detail == {"run_id": first.run_id}
    await asyncio.sleep(0.01)
    assert [one.state for one in await runs.all()] == [EvaluateState.RUNNING]
    assert (await runs.get(first.run_id)).total == 12
    desk.go_on.set()
    await finished(runs, first)
    await finished(runs, await runs.start(request()))
    assert len(await runs.all()) == 2


async def test_a_run_can_be_stopped(runs: Runs, desk: Scripted) -> None:
    """Its searches end at once, it says so, and what was known until then is kept."""
    desk.go_on.clear()
    run = await runs.start(request())
    await asyncio.sleep(0.01)
    stopped = await runs.stop(run.run_id)
    assert (stopped.state, stopped.done) == (EvaluateState.STOPPED, 0)
    assert stopped.finished_at is not None
    assert desk.under_way == 0
    assert (await runs.stop(run.run_id)) == stopped
    with pytest.raises(NotFound):
        await runs.stop("0" * 32)


async def test_a_memory_that_is_away_fails_the_run(runs: Runs, desk: Scripted) -> None:
    """The run ends with the reason, no search goes on, and another run may begin."""
    desk.fault = Unavailable("memory is away")
    run = await finished(runs, await runs.start(request()))
    assert (run.state, run.error) == (EvaluateState.FAILED, "memory is away")
    assert desk.under_way == 0
    desk.fault = None
    assert (await finished(runs, await runs.start(request()))).state is EvaluateState.DONE


async def test_an_unforeseen_error_tells_no_text(runs: Runs, desk: Scripted) -> None:
    """What nobody expected ends the run with a pointer to the log, not with what it was about."""
    desk.fault = ValueError("question 3: secret")
    run = await finished(runs, await runs.start(request()))
    assert run.state is EvaluateState.FAILED
    assert "secret" not in (run.error or "")


async def test_a_run_that_memory_does_not_keep_can_still_be_read(runs: Runs, desk: Scripted) -> None:
    """The last one is told from here."""
    desk.keeps = False
    run = await finished(runs, await runs.start(request()))
    assert [one.run_id for one in await runs.all()] == [run.run_id]
    assert await runs.get(run.run_id) == run


async def test_own_questions_come_from_the_setting(runs: Runs, desk: Scripted) -> None:
    """Without questions in the request the kept ones are asked; without any there is an error that says what to do."""
    with pytest.raises(BadRequest) as error:
        await runs.start(request(questions=()))
    assert error.value.message == NOTHING
    desk.own = QUESTIONS[:3]
    run = await finished(runs, await runs.start(request(questions=())))
    assert (run.state, run.total) == (EvaluateState.DONE, 3)


async def test_made_questions_and_unanswerable_ones(runs: Runs, desk: Scripted) -> None:
    """So many are made, with some beside them that nothing answers: silence can be measured."""
    run = await finished(runs, await runs.start(request(questions=(), made=10)))
    assert (run.state, run.total) == (EvaluateState.DONE, 18)
    assert run.scores[0].silence == 1.0
    assert len({question for question, _ in desk.searched}) == 18
    desk.episodes = []
    failed = await finished(runs, await runs.start(request(questions=(), made=10)))
    assert (failed.state, failed.error) == (EvaluateState.FAILED, NONE_MADE)
    assert LOOKED_AT > 1


async def test_words_of_episodes_are_not_kept(runs: Runs, desk: Scripted) -> None:
    """Made questions are shown with their run, and not written into a document that outlives forgotten episodes."""
    run = await finished(runs, await runs.start(request(questions=(), made=10)))
    assert any("gasket" in one.question for one in run.outcomes)
    async with asyncio.timeout(10):
        while not desk.kept:  # noqa: ASYNC110 -- kept a moment after the end
            await asyncio.sleep(0.001)
    assert desk.kept == [run.model_copy(update={"outcomes": ()})]
    assert await runs.get(run.run_id) == run
    await finished(runs, await runs.start(request(LEXICAL)))
    assert desk.kept[0].outcomes


async def test_configurations_need_names_of_their_own(runs: Runs) -> None:
    """Two of one name could not be told apart."""
    with pytest.raises(BadRequest, match="name"):
        await runs.start(request(PLAIN, PLAIN))


async def test_models_are_compared_on_one_sample(runs: Runs, desk: Scripted) -> None:
    """Where one configuration names a model, all search in the same sample, which holds every right episode."""
    other = Configuration(name="other", model="some/model", top_k=3, floor=0.1)
    run = await finished(runs, await runs.start(request(PLAIN, other, sample=20)))
    assert run.state is EvaluateState.DONE, run.error
    assert not desk.searched
    assert len({one.episode_ids for one in desk.compared}) == 1
    sample = desk.compared[0].episode_ids
    assert len(sample) == len(set(sample)) == 20
    assert {one for question in QUESTIONS for one in question.episode_ids} <= set(sample)
    assert [one.model for one in desk.compared] == [None] * 3 + ["some/model"] * 3
    assert (desk.compared[-1].top_k, desk.compared[-1].floor) == (3, 0.1)
    assert run.done == run.total == 2 * (12 + 20)
    assert {one.p50_ms for one in run.scores} == {3.0}


async def test_a_comparison_can_be_stopped(runs: Runs, desk: Scripted) -> None:
    """Nothing more is asked of memory afterwards, which ends its worker by itself."""
    desk.go_on.clear()
    run = await runs.start(request(Configuration(name="other", model="some/model")))
    await asyncio.sleep(0.01)
    assert (await runs.stop(run.run_id)).state is EvaluateState.STOPPED
    desk.go_on.set()
    await asyncio.sleep(0.01)
    assert len(desk.compared) == 0
