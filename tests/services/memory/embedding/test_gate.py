import asyncio

import pytest

from anamnesis.kit.errors import DeadlineExceeded
from services.memory.embedding.gate import Gate


async def test_writers_share_and_the_switch_is_alone() -> None:
    """Writers are in together; a switch waits for them, and later writers wait for it."""
    gate, order = Gate(), []

    async def write(name: str, seconds: float) -> None:
        async with gate.writing():
            order.append(f"{name} in")
            await asyncio.sleep(seconds)
            order.append(f"{name} out")

    async def switch() -> None:
        async with gate.alone(5):
            order.append("switch in")
            await asyncio.sleep(0.01)
            order.append("switch out")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write("a", 0.02))
        tasks.create_task(write("b", 0.03))
        await asyncio.sleep(0)
        tasks.create_task(switch())
        await asyncio.sleep(0)
        tasks.create_task(write("c", 0))
    assert order == ["a in", "b in", "a out", "b out", "switch in", "switch out", "c in", "c out"]


async def test_a_switch_gives_way_after_its_time() -> None:
    """A writer that takes too long makes the switch give up, and writers go on."""
    gate = Gate()
    async with gate.writing():
        with pytest.raises(DeadlineExceeded):
            async with gate.alone(0.02):
                pass
        async with gate.writing(0.02):
            pass


async def test_a_failed_switch_lets_writers_in() -> None:
    """Whatever happens inside, the gate is open again afterwards."""
    gate = Gate()
    with pytest.raises(ValueError, match="broken"):
        async with gate.alone(1):
            raise ValueError("broken")
    async with gate.writing(0.02):
        pass
