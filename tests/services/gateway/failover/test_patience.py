"""One timer for many waits does what a timeout around each would do."""

import asyncio

import pytest

from services.gateway.failover.patience import Patience


async def test_a_wait_ends_at_its_moment() -> None:
    """What takes longer is cancelled and becomes `TimeoutError`; the task itself goes on uncancelled."""
    patience, loop = Patience(), asyncio.get_running_loop()
    cancelled = asyncio.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    began = loop.time()
    with pytest.raises(TimeoutError):
        await patience.wait(never(), began + 0.1)
    assert loop.time() - began >= 0.09
    assert cancelled.is_set()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert await patience.wait(asyncio.sleep(0, "next"), loop.time() + 10) == "next"
    patience.close()


async def test_each_wait_has_its_own_moment() -> None:
    """Waits that end in time move the moment on, later or earlier, and also where the timer rang meanwhile."""
    patience, loop = Patience(), asyncio.get_running_loop()
    began = loop.time()
    for _ in range(4):
        await patience.wait(asyncio.sleep(0.05), loop.time() + 5)
    await patience.wait(asyncio.sleep(0), loop.time() + 0.05)
    await asyncio.sleep(0.1)
    await patience.wait(asyncio.sleep(0.1), loop.time() + 60)
    with pytest.raises(TimeoutError):
        await patience.wait(asyncio.Event().wait(), loop.time() + 0.05)
    assert loop.time() - began < 30
    patience.close()


async def test_a_cancellation_from_outside_stays_one() -> None:
    """Who cancels the waiting task cancels it, also when the time runs out at once."""
    for seconds in (60.0, -1.0):
        begun = asyncio.Event()

        async def work(seconds: float = seconds, begun: asyncio.Event = begun) -> None:
            patience = Patience()
            begun.set()
            await patience.wait(asyncio.Event().wait(), asyncio.get_running_loop().time() + seconds)

        task = asyncio.create_task(work())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()


async def test_failures_come_through() -> None:
    """What is waited for may fail in its own way."""

    async def fail() -> None:
        raise KeyError("oops")

    with pytest.raises(KeyError):
        await Patience().wait(fail(), asyncio.get_running_loop().time() + 5)
