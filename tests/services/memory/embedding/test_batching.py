import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamnesis.kit.errors import Busy
from services.memory.embedding.batching import Backlog, Job, Pace, Rank, Request, padded

LIMITS = {Rank.QUERY: 8, Rank.PASSAGE: 100_000, Rank.BACKGROUND: 100_000}
LOOP = asyncio.new_event_loop()


def _request(rank: Rank, lengths: Sequence[int]) -> list[Job]:
    request = Request(rank, np.empty((len(lengths), 1), np.float32), LOOP.create_future(), len(lengths))
    return [Job(request, row, "x" * length) for row, length in enumerate(lengths)]


@given(
    requests=st.lists(
        st.tuples(st.sampled_from([Rank.PASSAGE, Rank.BACKGROUND]), st.lists(st.integers(0, 3000), min_size=1)),
        max_size=20,
    ),
    budget=st.integers(1, 20_000),
)
def test_every_text_is_taken_once_within_the_budget(requests: list[tuple[Rank, list[int]]], budget: int) -> None:
    """Whatever waits is cut into batches of one rank within the budget (or of one text), nothing lost or twice."""
    backlog = Backlog(LIMITS)
    made = [_request(rank, lengths) for rank, lengths in requests]
    for jobs in made:
        backlog.admit(jobs, 1000.0)
    taken: list[Job] = []
    ranks: list[Rank] = []
    while batch := backlog.take(budget):
        assert len(batch) == 1 or padded(batch) <= budget
        assert len({job.request.rank for job in batch}) == 1
        ranks.append(batch[0].request.rank)
        taken += batch
    assert ranks == sorted(ranks)
    assert {id(job) for job in taken} == {id(job) for jobs in made for job in jobs}
    assert len(taken) == sum(map(len, made))


@given(st.lists(st.lists(st.integers(0, 3000), min_size=1, max_size=5), min_size=1, max_size=30))
def test_the_oldest_request_is_never_passed_over(requests: list[list[int]]) -> None:
    """Each batch holds a text of the request that waits longest: likeness of length starves nobody."""
    backlog = Backlog(LIMITS)
    waiting = [_request(Rank.PASSAGE, lengths) for lengths in requests]
    for jobs in waiting:
        backlog.admit(jobs, 1000.0)
    left = [{id(job) for job in jobs} for jobs in waiting]
    while batch := backlog.take(5000):
        oldest = next(jobs for jobs in left if jobs)
        assert oldest & {id(job) for job in batch}
        left = [jobs - {id(job) for job in batch} for jobs in left]


def test_queries_go_first() -> None:
    """A question that came last is taken before all passages."""
    backlog = Backlog(LIMITS)
    for rank in (Rank.BACKGROUND, Rank.PASSAGE, Rank.QUERY):
        backlog.admit(_request(rank, [10, 10]), 1000.0)
    assert [backlog.take(10_000)[0].request.rank for _ in range(3)] == [Rank.QUERY, Rank.PASSAGE, Rank.BACKGROUND]


def test_full_queue_says_when_to_come_back() -> None:
    """Beyond the bound a request is refused with the seconds that what waits will take."""
    backlog = Backlog(LIMITS)
    backlog.admit(_request(Rank.QUERY, [1000] * 8), 1000.0)
    with pytest.raises(Busy, match="8 texts wait") as refused:
        backlog.admit(_request(Rank.QUERY, [10]), 1000.0)
    assert refused.value.retry_after == 8.0


def test_an_empty_queue_takes_any_size() -> None:
    """One request beyond the bound is served when nothing else waits; otherwise it never could be."""
    backlog = Backlog(LIMITS)
    backlog.admit(_request(Rank.QUERY, [10] * 20), 1000.0)
    assert backlog.depth(Rank.QUERY) == 20


def test_what_nobody_waits_for_is_dropped() -> None:
    """Texts of a cancelled request are not embedded and do not count against the bound."""
    backlog = Backlog(LIMITS)
    gone = _request(Rank.QUERY, [10] * 8)
    backlog.admit(gone, 1000.0)
    gone[0].request.done.cancel()
    kept = _request(Rank.QUERY, [10])
    backlog.admit(kept, 1000.0)
    assert backlog.take(10_000) == kept
    assert backlog.take(10_000) == []


def test_a_failed_text_is_tried_alone() -> None:
    """Texts that were in a failed batch come next, one by one, so that the culprit fails alone."""
    backlog = Backlog(LIMITS)
    backlog.admit(_request(Rank.PASSAGE, [10] * 3), 1000.0)
    failed = backlog.take(10_000)
    backlog.admit(_request(Rank.PASSAGE, [10] * 3), 1000.0)
    for job in failed:
        job.tried += 1
    backlog.put_back(failed)
    assert [backlog.take(10_000) for _ in range(3)] == [[job] for job in failed]
    assert len(backlog.take(10_000)) == 3


def test_pace_is_learned() -> None:
    """After a few batches the budget is what a worker embeds in the time set, be it faster or slower than guessed."""
    for truth in (2_000.0, 500_000.0):
        pace = Pace(0.05)
        for _ in range(40):
            cost = int(pace.budget)
            pace.learn(cost, cost / truth)
        assert pace.budget == pytest.approx(truth * 0.05, rel=0.35)


def test_small_batches_teach_nothing() -> None:
    """A lone short question, all fixed cost, does not make a worker look slow."""
    pace = Pace(0.05)
    before = pace.budget
    pace.learn(24, 0.009)
    assert pace.budget == before
