"""Evaluation of recall over one's own store: labelled questions, configurations to compare, and what came of them."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from anamnesis.contracts.base import Contract, EpisodeId, Moment, Name, Storable
from anamnesis.contracts.episodes import RankingWeights

MAX_QUESTIONS = 2_000
MAX_CONFIGURATIONS = 4
MAX_SAMPLE = 2_500

QuestionText = Annotated[str, StringConstraints(min_length=1, max_length=2_000, strip_whitespace=True), Storable]


class Question(Contract):
    """A question and the episodes that answer it; none = nothing should be found (silence is right)."""

    question: QuestionText
    episode_ids: tuple[EpisodeId, ...] = Field(default=(), max_length=50)


class Configuration(Contract):
    """One way to search."""

    name: Name
    top_k: int = Field(default=5, ge=1, le=20)
    floor: float | None = Field(default=None, ge=0.0, le=1.0)
    ranking: RankingWeights | None = None
    """None = the shipped weights."""
    model: Name | None = None
    """Another embedding model on this machine: the episodes and questions concerned are embedded with it for this run
    alone (a sample of `EvaluateRequest.sample` episodes, in which all configurations of the run then search, so that
    they can be compared). None = the one in use."""


class EvaluateRequest(Contract):
    questions: tuple[Question, ...] = Field(default=(), max_length=MAX_QUESTIONS)
    """One's own; none = those kept in the setting `evaluation-questions`."""
    made: int = Field(default=0, ge=0, le=500)
    """So many questions are made from episodes instead, and some that no episode answers are put beside them."""
    configurations: tuple[Configuration, ...] = Field(min_length=1, max_length=MAX_CONFIGURATIONS)
    sample: int = Field(default=500, ge=10, le=2_000)
    project: Name | None = None


class EvaluateState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


class Scores(Contract):
    """Of one configuration. Shares are 0..1; none where no question can tell."""

    configuration: str
    questions: int
    recall: float | None = None
    """Mean share of a question's episodes among the first `top_k`, over questions that have any."""
    mrr: float | None = None
    """Mean of 1 / rank of the first right episode."""
    precision: float | None = None
    """Share of returned episodes that were right: what would have been put before a model."""
    silence: float | None = None
    """Share of questions without an answer that were met with silence."""
    false_silence: float | None = None
    """Share of questions with an answer that were met with silence."""
    p50_ms: float = 0.0
    p95_ms: float = 0.0


class QuestionOutcome(Contract):
    """How one question went under each configuration, in their order."""

    question: str
    expected: tuple[str, ...]
    found: tuple[tuple[str, ...], ...]


class EvaluateRun(Contract):
    run_id: str
    state: EvaluateState
    started_at: Moment
    finished_at: Moment | None = None
    done: int = 0
    total: int = 0
    scores: tuple[Scores, ...] = ()
    outcomes: tuple[QuestionOutcome, ...] = ()
    """Where the configurations differ, or where a single one failed; at most 100."""
    error: str | None = None


class CompareRequest(Contract):
    """Questions to a sample of episodes alone, by an embedding model that need not be the one in use."""

    model: Name | None = None
    """None = the one in use."""
    episode_ids: tuple[EpisodeId, ...] = Field(min_length=1, max_length=MAX_SAMPLE)
    """The sample; those that do not exist or are superseded are left out."""
    questions: tuple[QuestionText, ...] = Field(max_length=64)
    top_k: int = Field(default=5, ge=1, le=20)
    floor: float | None = Field(default=None, ge=0.0, le=1.0)
    ranking: RankingWeights | None = None


class Compared(Contract):
    """What was found in the sample for one question, best first; none = silence."""

    episode_ids: tuple[str, ...]
    milliseconds: float


class CompareResponse(Contract):
    """How far the sample is embedded; once it is whole, the results, one a question. Until then: ask again."""

    model: str
    embedded: int
    total: int
    results: tuple[Compared, ...] | None = None


class EvaluateRuns(Contract):
    """The latest, newest first, without outcomes."""

    runs: tuple[EvaluateRun, ...]
