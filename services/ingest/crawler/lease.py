"""One instance of the service at a time: a lease in memory, renewed while a scan runs and held until the next one.

Two services with the same instance share their marks. Were they to take turns, each would take for deleted what only
the other can see; so the one that has the lease keeps it between its scans.
"""

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

from anamnesis.contracts.base import now
from anamnesis.destination import namespace
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError, Conflict
from services.ingest.lease import Lease

RUNNING = 60.0  # seconds that a lease lasts while a scan runs
RENEW = 20.0  # seconds between two renewals
LONGEST = 600.0  # seconds between two scans for which it is held
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Held(Conflict):
    """Another instance has the lease."""

    def __init__(self, holder: str, until: datetime) -> None:
        super().__init__(
            f"{holder} scans for this instance; stop it, or give one of the two another ANAMNESIS_INGEST_INSTANCE"
        )
        self.holder = holder
        self.until = until


class ScanLease:
    """The lease of one instance's scans."""

    def __init__(self, client: ServiceClient, instance: str, holder: str, renew: float = RENEW) -> None:
        self._lease = Lease(client, namespace("crawl", instance), holder)  # called as the marks that it is about
        self._renew = renew

    async def take(self, seconds: float = RUNNING) -> None:
        """Take or renew it. Raises `Held`, or what memory raises."""
        try:
            await self._lease.ask(seconds)
        except Conflict as error:
            raise _held(error) from None

    async def keep(self, scan_seconds: float) -> None:
        """Hold it until the next scan, or give it back where none is due. What memory cannot do now lapses."""
        try:
            if scan_seconds:
                await self.take(min(scan_seconds, LONGEST) + RUNNING)
            else:
                await self.release()
        except AnamnesisError:
            return

    async def release(self) -> None:
        """Give it back; where nobody can be told, it lapses."""
        await self._lease.release()

    @asynccontextmanager
    async def renewed(self) -> AsyncIterator[None]:
        """While the lease is renewed in the background. Raises `Conflict` within as soon as it is lost."""
        task = asyncio.current_task()
        assert task is not None
        lost = False

        async def renew() -> None:
            nonlocal lost
            until = time.monotonic() + RUNNING
            while not lost:
                await asyncio.sleep(self._renew)
                asked = time.monotonic()
                try:
                    await self.take()
                    until = asked + RUNNING
                except Held:
                    lost = True
                except AnamnesisError:  # memory is away; so it is for everybody else
                    lost = time.monotonic() + self._renew > until
            task.cancel()

        renewing = asyncio.create_task(renew())
        try:
            yield
        except asyncio.CancelledError:
            if lost and not task.uncancel():
                raise Conflict(
                    "the lease of this scan was lost; the next one goes on from what was acknowledged"
                ) from None
            raise
        finally:
            renewing.cancel()


def _held(error: Conflict) -> Held:
    """What memory said about the holder, where it did."""
    detail = error.detail if isinstance(error.detail, dict) else {}
    name, _, rest = error.message.partition(" ")
    try:
        until = datetime.fromisoformat(str(detail.get("until")))
    except ValueError:
        until = now() + timedelta(seconds=RUNNING)
    return Held(name if rest == "holds this lease" else "another ingest service", until)


def holder(port: int) -> str:
    """This service on this machine: the same after a crash, so that it need not wait for its own lease to lapse.

    Another one elsewhere that happens to have the same name was started with another kernel.
    """
    try:
        boot = _BOOT.read_text()[:8]
    except OSError:
        boot = f"{uuid.getnode():012x}"[-8:]
    return f"ingest@{socket.gethostname() or 'localhost'}:{port or uuid.uuid4().hex[:8]}/{boot}"[:200]
