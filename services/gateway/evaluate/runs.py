"""Evaluations in the background: one at a time, at most four searches at once, so that people's own stay fast.

Where a configuration names another embedding model, all configurations of the run search in one and the same sample
of episodes, which memory embeds by each model for this run alone.
"""

import asyncio
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from anamnesis.contracts.base import now
from anamnesis.contracts.episodes import Episode
from anamnesis.contracts.evaluate import (
    MAX_SAMPLE,
    CompareRequest,
    CompareResponse,
    Configuration,
    EvaluateRequest,
    EvaluateRun,
    EvaluateState,
    Question,
)
from anamnesis.kit.errors import AnamnesisError, BadRequest, Conflict, NotFound
from anamnesis.kit.logs import logger, where
from services.gateway.evaluate.made import made, unanswerable
from services.gateway.evaluate.scores import Answer, outcomes, scores

AT_ONCE = 4  # searches
TOGETHER = 16  # questions in one step of a comparison
LOOKED_AT = 3
"""Episodes that are read for each question to be made: not every one has a sentence that its summary lacks."""
STOP_WITHIN = 5.0  # seconds

BUSY = "an evaluation is running; wait for its end, or stop it"
NOTHING = (
    "there are no questions: send some, keep your own in the setting evaluation-questions, or have some made from "
    "episodes with 'made'"
)
SAME_NAMES = "two configurations have the same name; give each its own"
NONE_MADE = "no question could be made: the episodes hold nothing that their summaries leave out; label some yourself"


class Desk(Protocol):
    """What an evaluation needs of memory."""

    async def search(self, question: str, by: Configuration, project: str | None) -> Answer: ...

    async def compare(self, request: CompareRequest) -> CompareResponse: ...

    async def sample(self, count: int, project: str | None) -> list[Episode]: ...

    async def questions(self) -> tuple[Question, ...]: ...

    async def runs(self) -> tuple[EvaluateRun, ...]: ...

    async def keep(self, run: EvaluateRun) -> None: ...


@dataclass
class _Run:
    """A run under way, and what it has so far."""

    request: EvaluateRequest
    questions: tuple[Question, ...]
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started_at: datetime = field(default_factory=now)
    state: EvaluateState = EvaluateState.RUNNING
    finished_at: datetime | None = None
    total: int = 0
    embedded: int = 0
    answers: list[list[Answer | None]] = field(default_factory=list)
    """Of each configuration, one a question; none = not asked yet."""
    error: str | None = None

    @property
    def made(self) -> bool:
        """Its questions are made from episodes."""
        return bool(self.request.made) and not self.request.questions

    @property
    def done(self) -> int:
        return self.embedded + sum(answer is not None for own in self.answers for answer in own)

    def view(self) -> EvaluateRun:
        """Scores and outcomes are of the questions that every configuration has answered."""
        asked = [
            (question, given)
            for question, given in zip(self.questions, zip(*self.answers, strict=True), strict=False)
            if None not in given
        ]
        questions = [question for question, _ in asked]
        answers = [[one for one in own if one is not None] for own in zip(*(given for _, given in asked), strict=True)]
        return EvaluateRun(
            run_id=self.run_id,
            state=self.state,
            started_at=self.started_at,
            finished_at=self.finished_at,
            done=self.done,
            total=self.total,
            scores=tuple(
                scores(by.name, questions, own) for by, own in zip(self.request.configurations, answers, strict=False)
            ),
            outcomes=outcomes(questions, answers) if answers else (),
            error=self.error,
        )


class Runs:
    """Starts runs, tells of them, stops them. Finished ones are kept by memory."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._current: _Run | None = None
        self._last: EvaluateRun | None = None
        """The one that ended last: memory may not have it, or not its outcomes."""
        self._tasks: set[asyncio.Task[None]] = set()
        """The run under way last, and those before it that memory is still to keep."""

    async def close(self) -> None:
        await self._end()

    async def start(self, request: EvaluateRequest) -> EvaluateRun:
        """Raises `Conflict` while one is running, `BadRequest` where there is nothing to ask."""
        names = [by.name for by in request.configurations]
        if len(set(names)) < len(names):
            raise BadRequest(SAME_NAMES)
        if self._current is not None:
            raise Conflict(BUSY, {"run_id": self._current.run_id})
        self._current = run = _Run(request, request.questions)
        try:
            if not request.questions and not request.made:
                run.questions = await self._desk.questions()
                if not run.questions:
                    raise BadRequest(NOTHING)
        except BaseException:
            self._current = None
            raise
        task = asyncio.create_task(self._work(run), name="evaluate")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return run.view()

    async def all(self) -> tuple[EvaluateRun, ...]:
        """The latest, newest first."""
        own = [self._current.view()] if self._current is not None else []
        own += [self._last] if self._last is not None else []
        kept = await self._desk.runs()
        return (*own, *(one for one in kept if self._last is None or one.run_id != self._last.run_id))

    async def get(self, run_id: str) -> EvaluateRun:
        """Raises `NotFound`."""
        if self._current is not None and self._current.run_id == run_id:
            return self._current.view()
        if self._last is not None and self._last.run_id == run_id:
            return self._last
        found = next((one for one in await self._desk.runs() if one.run_id == run_id), None)
        if found is None:
            raise NotFound("there is no such evaluation; only the latest are kept")
        return found

    async def stop(self, run_id: str) -> EvaluateRun:
        """End it, if it is running; what it has found so far stays. Raises `NotFound`."""
        if self._current is not None and self._current.run_id == run_id:
            await self._end()
        return await self.get(run_id)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_WITHIN)

    async def _work(self, run: _Run) -> None:
        try:
            await self._ask(run)
            run.state = EvaluateState.DONE
        except asyncio.CancelledError:
            run.state = EvaluateState.STOPPED
        except AnamnesisError as error:
            run.state, run.error = EvaluateState.FAILED, error.message
        except Exception as error:  # noqa: BLE001 -- the edge of a background task: nobody else would see it
            run.state, run.error = EvaluateState.FAILED, "something went wrong; the log of the gateway names the place"
            logger().error("evaluation_failed", error=where(error))
        run.finished_at = now()
        # Another may begin from here on: keeping this one is a matter of its own.
        told = run.view()
        self._last, self._current = told, None
        if run.made:
            # Such questions are an episode's own words: kept in a setting they would outlive its being forgotten.
            told = told.model_copy(update={"outcomes": ()})
        try:
            await self._desk.keep(told)
        except AnamnesisError as error:
            logger().warning("evaluation_not_kept", reason=error.code)

    async def _ask(self, run: _Run) -> None:
        request = run.request
        episodes: list[Episode] = []
        if run.made:
            episodes = await self._desk.sample(request.made * LOOKED_AT, request.project)
            own = await asyncio.to_thread(made, episodes, request.made)
            if not own:
                raise BadRequest(NONE_MADE)
            run.questions = (*own, *unanswerable(len(own)))
        run.answers = [[None] * len(run.questions) for _ in request.configurations]
        run.total = len(run.questions) * len(request.configurations)
        if any(by.model is not None for by in request.configurations):
            sample = await self._sample(run, episodes)
            run.total += len(sample) * len(request.configurations)
            for at, by in enumerate(request.configurations):
                await self._compare(run, at, by, sample)
        else:
            await self._search(run)

    async def _search(self, run: _Run) -> None:
        """Every question to every configuration, beginning with another one each time: the first to ask pays for
        embedding the question, which memory then remembers.
        """
        waiting = iter(range(len(run.questions)))

        async def ask() -> None:
            for at in waiting:
                for turn in range(len(run.request.configurations)):
                    number = (at + turn) % len(run.request.configurations)
                    by = run.request.configurations[number]
                    run.answers[number][at] = await self._desk.search(
                        run.questions[at].question, by, run.request.project
                    )

        await _together([ask() for _ in range(AT_ONCE)])

    async def _sample(self, run: _Run, episodes: Sequence[Episode]) -> tuple[str, ...]:
        """All that answers a question, and so many others for it to be found among."""
        wanted = dict.fromkeys(one for question in run.questions for one in question.episode_ids)
        if len(wanted) > MAX_SAMPLE:
            raise BadRequest(f"the questions name {len(wanted)} episodes; a comparison of models takes {MAX_SAMPLE}")
        size = max(len(wanted), run.request.sample)
        others = [*episodes, *await self._desk.sample(size, run.request.project)]
        return tuple((wanted | dict.fromkeys(one.episode_id for one in others)).keys())[:size]

    async def _compare(self, run: _Run, at: int, by: Configuration, sample: tuple[str, ...]) -> None:
        """Step by step: memory embeds for some seconds a step, and answers once the sample is whole."""
        before, asked = run.embedded, 0
        while asked < len(run.questions):
            some = run.questions[asked : asked + TOGETHER]
            step = await self._desk.compare(
                CompareRequest(
                    model=by.model,
                    episode_ids=sample,
                    questions=tuple(one.question for one in some),
                    top_k=by.top_k,
                    floor=by.floor,
                    ranking=by.ranking,
                )
            )
            run.embedded = before + step.embedded
            if step.results is None:
                continue
            for number, one in enumerate(step.results, start=asked):
                run.answers[at][number] = Answer(one.episode_ids, one.milliseconds)
            asked += len(some)
        run.embedded = before + len(sample)  # those that are gone meanwhile count as done


async def _together(works: Sequence[Coroutine[None, None, None]]) -> None:
    """Run them side by side; the first error ends all and is raised as it is."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
