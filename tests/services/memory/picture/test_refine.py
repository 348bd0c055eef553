"""The process that draws what is alike together."""

import asyncio
import contextlib

import numpy as np
import psutil
import pytest

from anamnesis.kit.errors import Unavailable
from services.memory.picture import refine
from services.memory.picture.projection import components
from services.memory.stores.base import Vectors


def islands(each: int, count: int) -> tuple[Vectors, list[int]]:
    """(each x count d) vectors around `count` centres, and whose each is."""
    generator = np.random.default_rng(3)
    centres = generator.standard_normal((count, 24))
    owners = [number for number in range(count) for _ in range(each)]
    return (centres[owners] + 0.25 * generator.standard_normal((len(owners), 24))).astype(np.float32), owners


@pytest.mark.slow
async def test_subjects_become_islands_and_the_same_ones_each_time() -> None:
    """Nearly every point's nearest one is of its own subject, and a second process draws the very same picture."""
    vectors, owners = islands(20, 9)
    first = await refine.refined(components(vectors, refine.COMPONENTS))
    distances = np.linalg.norm(first[:, None] - first[None], axis=2) + np.diag([np.inf] * len(first))
    same = np.mean([owners[at] == owners[nearest] for at, nearest in enumerate(distances.argmin(axis=1))])
    assert same > 0.95
    np.testing.assert_array_equal(first, await refine.refined(components(vectors, refine.COMPONENTS)))


@pytest.mark.slow
async def test_what_cannot_be_drawn_says_so() -> None:
    """A process that ends without a picture is an error that says how it ended."""
    with pytest.raises(Unavailable, match="exit 1"):
        await refine.refined(np.full((60, 4), np.nan))


async def test_a_picture_that_nobody_wants_any_more_leaves_no_process() -> None:
    """Who is cancelled while it is drawn takes the process along."""
    task = asyncio.create_task(refine.refined(np.random.default_rng(0).standard_normal((5_000, 50))))
    async with asyncio.timeout(60):
        while not (children := _drawing()):  # noqa: ASYNC110 -- a process has no event for it
            await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


def _drawing() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "services.memory.picture.refine" in child.cmdline():
                found.append(child)
    return found
