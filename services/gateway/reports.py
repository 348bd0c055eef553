"""Tells memory what was of use, in the background: nobody waits for it, and what finds no room is dropped."""

import asyncio
from collections.abc import Sequence

from anamnesis.contracts.episodes import Changed
from anamnesis.contracts.usefulness import MAX_VERDICTS, EpisodeVerdict, UsefulnessReport
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError
from anamnesis.kit.logs import logger

MAX_REPORTS = 64  # under way at once; they are only counts
WITHIN = 10.0  # seconds for one report
CLOSE_WITHIN = 2.0  # seconds that a stop of the gateway waits for reports


class Reports:
    """`close` waits a while for what is under way, and ends the rest."""

    def __init__(self, memory: ServiceClient) -> None:
        self._memory = memory
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, verdicts: Sequence[EpisodeVerdict]) -> None:
        if not verdicts or len(self._tasks) >= MAX_REPORTS:
            return
        report = UsefulnessReport(verdicts=tuple(verdicts[:MAX_VERDICTS]))
        task = asyncio.create_task(self._send(report), name="usefulness")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_WITHIN)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _send(self, report: UsefulnessReport) -> None:
        try:
            await self._memory.request(
                "POST", "/api/episodes/usefulness", Changed, body=report, deadline=WITHIN, repeatable=False
            )
        except AnamnesisError as error:
            logger().warning("usefulness not reported", error=error.code, episodes=len(report.verdicts))
