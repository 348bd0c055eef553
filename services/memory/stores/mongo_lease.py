"""The right to use one MongoDB database: one memory service has it at a time, as the rules above a store assume.

What is held in this process (the blocklist, who writes which id, which model is searched with) is true only while
nobody else writes. The lease is a document that names its holder and the moment at which it lapses, both by the
server's clock. A holder that renews it in time keeps it; one that has crashed loses it within `LEASE_SECONDS`, and
one that was paused for longer finds out before it writes again.
"""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from datetime import datetime
from typing import cast

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from anamnesis.kit.errors import AnamnesisError, Unavailable
from anamnesis.kit.logs import logger
from services.memory.stores.mongo_documents import LEASE, Stored
from services.memory.stores.mongo_link import READ_SECONDS, Link, within

LEASE_SECONDS = 15.0
"""How long a lease outlives its last renewal: what a restart waits at most after a kill -9."""
_RENEWALS = 5
"""How often it is renewed within its length."""
_TRUSTED = 2 / 3
"""The part of its length for which a renewal lets us write; the rest is for writes that are under way."""
_PAUSE = 0.25
"""Seconds between two looks at a lease that another one holds."""
_ID = "memory"


class Lease:
    """Taken and given back once; `ensure` stands before every write."""

    def __init__(self, link: Link, seconds: float = LEASE_SECONDS) -> None:
        self._place = link.collection(LEASE)
        self._seconds = seconds
        self._holder = secrets.token_hex(16)
        self._trusted_until = 0.0
        self._lost = False
        self._renewing: asyncio.Task[None] | None = None

    async def take(self) -> None:
        """Take the lease, waiting for one that lapses. Raises `Unavailable` when its holder is alive.

        Not to be called under a deadline: the task that renews would inherit it.
        """
        first: Stored | None = None
        until = time.monotonic() + 2 * self._seconds
        while (other := await self._try()) is not None:
            if first is None:
                first = other
                logger().info("waiting for the database", host=other["host"], process=other["process"])
            if other["until"] != first["until"] or time.monotonic() > until:
                since = cast(datetime, other["since"])
                raise Unavailable(
                    f"another memory service uses this database (since {since:%Y-%m-%d %H:%M:%S} UTC, host "
                    f"{other['host']}, process {other['process']}): stop it, or choose another database"
                )
            await asyncio.sleep(_PAUSE)
        self._renewing = asyncio.create_task(self._keep(), name="mongo-lease")

    async def ensure(self) -> None:
        """Raise `Unavailable` unless the lease is ours now."""
        if not self._lost and time.monotonic() >= self._trusted_until:
            await self._renew()
        if self._lost:
            raise Unavailable("another memory service has taken this database over; start this one again")

    async def release(self) -> None:
        """Give it back; where the server is away it lapses by itself."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
            self._renewing = None
        with contextlib.suppress(AnamnesisError), within(READ_SECONDS):
            await self._place.delete_one({"_id": _ID, "holder": self._holder})

    async def _try(self) -> Stored | None:
        """Take it if nobody has it: in one step of the server, which knows the time. Returns who has it instead."""
        free: Stored = {"$lte": ["$until", "$$NOW"]}  # no document, no `until`: which is before any time
        ours: Stored = {
            "holder": {"$literal": self._holder},
            "host": {"$literal": socket.gethostname()},
            "process": {"$literal": os.getpid()},
            "since": "$$NOW",
            "until": self._lapse(),
        }
        fields = {name: {"$cond": [free, value, f"${name}"]} for name, value in ours.items()}
        sent = time.monotonic()
        with within(READ_SECONDS):
            try:
                found = await self._place.find_one_and_update(
                    {"_id": _ID}, [{"$set": fields}], upsert=True, return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError:  # another one made the document at the same moment
                found = await self._place.find_one({"_id": _ID})
        if found is None:  # it was given back between the two
            return await self._try()
        if found["holder"] != self._holder:
            return found
        self._trusted_until = sent + _TRUSTED * self._seconds
        return None

    async def _renew(self) -> None:
        """Put off the moment at which it lapses. Once another one had it, it is lost for good: our memory is stale."""
        sent = time.monotonic()
        with within(READ_SECONDS):
            renewed = await self._place.update_one(
                {"_id": _ID, "holder": self._holder}, [{"$set": {"until": self._lapse()}}]
            )
        if renewed.matched_count:
            self._trusted_until = max(self._trusted_until, sent + _TRUSTED * self._seconds)
        elif not self._lost:
            self._lost = True
            logger().error("another memory service has taken the database over")

    async def _keep(self) -> None:
        while not self._lost:
            await asyncio.sleep(self._seconds / _RENEWALS)
            try:
                await self._renew()
            except AnamnesisError as error:  # the server is away: writes fail by themselves, and we try again
                logger().warning("the lease on the database was not renewed", reason=error.message)

    def _lapse(self) -> Stored:
        return {"$add": ["$$NOW", round(self._seconds * 1000)]}
