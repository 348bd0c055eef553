"""What a configuration's answers are worth: pure functions over what was expected and what was found."""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from anamnesis.contracts.evaluate import Question, QuestionOutcome, Scores

MOST_OUTCOMES = 100


class Answer(NamedTuple):
    """What one configuration gave for one question."""

    found: tuple[str, ...]
    """Episodes, best first; none = silence."""
    milliseconds: float


def scores(configuration: str, questions: Sequence[Question], answers: Sequence[Answer]) -> Scores:
    """One answer a question, in order."""
    asked = [(set(one.episode_ids), answer.found) for one, answer in zip(questions, answers, strict=True)]
    known = [(right, found) for right, found in asked if right]
    unknown = [found for right, found in asked if not right]
    returned = [(right, episode_id) for right, found in asked for episode_id in found]
    times = sorted(answer.milliseconds for answer in answers)
    return Scores(
        configuration=configuration,
        questions=len(asked),
        recall=_mean([len(right.intersection(found)) / len(right) for right, found in known]),
        mrr=_mean([reciprocal_rank(right, found) for right, found in known]),
        precision=_mean([episode_id in right for right, episode_id in returned]),
        silence=_mean([not found for found in unknown]),
        false_silence=_mean([not found for _, found in known]),
        p50_ms=percentile(times, 0.5),
        p95_ms=percentile(times, 0.95),
    )


def reciprocal_rank(right: Collection[str], found: Sequence[str]) -> float:
    """1 / rank of the first right one, the first rank being 1; 0 where none is."""
    return next((1 / rank for rank, episode_id in enumerate(found, start=1) if episode_id in right), 0.0)


def percentile(ascending: Sequence[float], share: float) -> float:
    """The least value that at least this share of all do not exceed; 0 of none."""
    if not ascending:
        return 0.0
    return round(ascending[max(0, math.ceil(share * len(ascending)) - 1)], 3)


def outcomes(questions: Sequence[Question], answers: Sequence[Sequence[Answer]]) -> tuple[QuestionOutcome, ...]:
    """Questions worth a look, at most so many: where configurations differ, or, of a single one, where it failed.

    `answers`: of each configuration, one a question.
    """
    picked: list[QuestionOutcome] = []
    for question, given in zip(questions, zip(*answers, strict=True), strict=True):
        found = tuple(one.found for one in given)
        right = set(question.episode_ids)
        worth = len(set(found)) > 1 if len(found) > 1 else not (right <= set(found[0]) if right else not found[0])
        if worth:
            picked.append(QuestionOutcome(question=question.question, expected=question.episode_ids, found=found))
    return tuple(picked[:MOST_OUTCOMES])


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
