"""Carries out one night: step by step, each within its time, and one that fails does not keep the others from running.

Knows the steps by name alone; what they do is passed in, and each may be done again without harm.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Literal

from anamnesis.contracts.schedule import Night, NightStep, StepName
from anamnesis.kit.errors import AnamnesisError
from anamnesis.kit.logs import logger, where

STEP = 4 * 3600.0  # seconds that a step may take
_TOLD = 300  # characters

Step = Callable[[datetime | None], Awaitable[str]]
"""Does its part, and says in a few words what came of it. It is given the beginning of the last whole night that ended
well: what came since is new to it; none = everything."""
Steps = Mapping[StepName, Step]
Tell = Callable[[Night], Awaitable[None]]
"""Told of every change. What it raises ends the night."""


def planned(names: Sequence[StepName], before: Collection[NightStep] = ()) -> tuple[NightStep, ...]:
    """The steps of a night that begins; what was done by an earlier try of the same night is not done again."""
    done = {step.name: step for step in before if step.state in ("done", "skipped")}
    return tuple(done.get(name) or NightStep(name=name, state="waiting") for name in names)


async def carry_out(
    night: Night, steps: Steps, since: datetime | None, tell: Tell, clock: Callable[[], datetime], within: float = STEP
) -> Night:
    """Do what is still waiting, in order; the night as it ended."""
    for at, step in enumerate(night.steps):
        if step.state in ("done", "skipped"):
            continue
        night = _with(night, at, step.model_copy(update={"state": "running", "seconds": None, "told": ""}))
        await tell(night)
        begun = time.monotonic()
        state, told = await _do(step.name, steps.get(step.name), since, within)
        ended = {"state": state, "told": told[:_TOLD], "seconds": round(time.monotonic() - begun, 1)}
        night = _with(night, at, step.model_copy(update=ended))
        await tell(night)
    failed = [step for step in night.steps if step.state == "failed"]
    error = f"{failed[0].name}: {failed[0].told}" if failed else None
    return night.model_copy(update={"state": "failed" if failed else "done", "error": error, "finished_at": clock()})


async def _do(
    name: StepName, step: Step | None, since: datetime | None, within: float
) -> tuple[Literal["done", "failed", "skipped"], str]:
    if step is None:
        return "skipped", "there is nothing here that does it"
    try:
        async with asyncio.timeout(within):
            return "done", await step(since)
    except TimeoutError:
        reason = f"it was not over after {within / 3600:g} hours"
        logger().error("night_step_failed", step=name, reason="deadline")
    except AnamnesisError as error:
        reason = error.message
        logger().warning("night_step_failed", step=name, reason=error.code)
    except Exception as error:  # noqa: BLE001 -- the edge of a step: the others have to run all the same
        reason = "something went wrong; the log of the ingest service names the place"
        logger().error("night_step_failed", step=name, error=where(error))
    return "failed", reason


def _with(night: Night, at: int, step: NightStep) -> Night:
    return night.model_copy(update={"steps": (*night.steps[:at], step, *night.steps[at + 1 :])})
