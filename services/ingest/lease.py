"""A lease in memory: what one process at a time may do, kept for as long as it is renewed."""

import asyncio
import time

from anamnesis.contracts.episodes import Changed
from anamnesis.contracts.state import Lease as Held
from anamnesis.contracts.state import LeaseRequest
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError, Conflict

SECONDS = 90.0  # a lease lapses so long after its last renewal
WITHIN = 10.0  # seconds for an answer
BRIEF = 2.0  # seconds for it where somebody waits for the end


class Lease:
    """The right to do something, under a name and for a holder. Taking it again renews it.

    Memory carries out what it was asked, also where whoever asked has been cancelled. So a lease is given back only
    when nothing that was asked before is on its way: it would be taken again by somebody who is gone.
    """

    def __init__(self, memory: ServiceClient, name: str, holder: str, seconds: float = SECONDS) -> None:
        """`holder` is unique to the process: another one of the same machine is another holder."""
        self._memory = memory
        self._name = name
        self._holder = holder
        self._seconds = seconds
        self._until = 0.0
        self._asking: asyncio.Task[Held] | None = None

    async def ask(self, seconds: float) -> None:
        """Take or renew it for so long. Raises `Conflict` while another holder has it, and what the client raises."""
        request = LeaseRequest(holder=self._holder, seconds=seconds)
        self._asking = asyncio.create_task(
            self._memory.request("POST", f"/api/leases/{self._name}", Held, body=request, deadline=WITHIN)
        )
        await asyncio.shield(self._asking)

    async def take(self) -> bool:
        """Take or renew it; false while another holder has it. Raises what the client raises."""
        asked = _ticks()
        try:
            await self.ask(self._seconds)
        except Conflict:
            return False
        self._until = asked + self._seconds
        return True

    async def keep(self) -> None:
        """Renew it again and again; returns when it is lost: another has it, or nobody could be asked for too long."""
        while True:
            await asyncio.sleep(self._seconds / 5)
            try:
                if not await self.take():
                    return
            except AnamnesisError:
                # Given up a little early, so that two never have it at once.
                if _ticks() > self._until - self._seconds / 5:
                    return

    async def release(self) -> None:
        """Give it back; where nobody can be told, it lapses."""
        if self._asking is not None:
            await asyncio.wait([self._asking])
        try:
            path, query = f"/api/leases/{self._name}", {"holder": self._holder}
            await self._memory.request("DELETE", path, Changed, query=query, deadline=BRIEF)
        except AnamnesisError:
            return


def _ticks() -> float:
    """Seconds that pass also while the machine sleeps, where its system counts them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
