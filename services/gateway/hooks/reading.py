"""Asks the ingest service to read the transcripts now: in the background, once for all who want it meanwhile.

Ingest reads what lies on its own disk. A path that a hook names on another machine is of no use to it: there the
`anamnesis` command reads and pushes; `sees` tells which it is.
"""

import asyncio

from anamnesis.contracts.ingest import IngestStarted, IngestStatus
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError
from anamnesis.kit.logs import logger

WITHIN = 10.0  # seconds for one question
PAUSE = 5.0  # seconds until it is asked again, where a run was under way: it may have passed the file already
TRIES = 12


class Reading:
    """`close` ends what is under way: ingest looks by itself again later."""

    def __init__(self, ingest: ServiceClient, pause: float = PAUSE) -> None:
        self._ingest = ingest
        self._pause = pause
        self._wanted = False
        self._task: asyncio.Task[None] | None = None
        self.sees: bool | None = None
        """Whether ingest has transcripts to read; none = not known yet."""

    def want(self) -> None:
        """Something new has been written. Returns at once; what is wanted while it is asked is asked afterwards."""
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="hook-reading")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                await self._ask()
        except AnamnesisError as error:
            self._wanted = False
            logger().warning("ingest not asked", error=error.code)

    async def _ask(self) -> None:
        status = await self._ingest.get("/api/jsonl/status", IngestStatus, deadline=WITHIN)
        self.sees = any(root.exists for root in status.roots)
        for _ in range(TRIES if self.sees else 0):
            answer = await self._ingest.request("POST", "/api/jsonl/ingest", IngestStarted, deadline=WITHIN)
            if answer.started:
                return
            await asyncio.sleep(self._pause)
