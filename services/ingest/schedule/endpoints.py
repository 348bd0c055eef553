"""The schedule over HTTP: how it stands, another time for it, and a night right now."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.keys import Scope
from anamnesis.contracts.schedule import NightStarted, Schedule, ScheduleRequest, ScheduleStatus
from anamnesis.kit.auth import Needs
from services.ingest.schedule.nights import Nights

Version = Annotated[int | None, Query(ge=0, lt=2**53, description="Write only over this version.")]


def routes(nights: Nights) -> APIRouter:
    router = APIRouter(prefix="/api/schedule", tags=["schedule"])

    @router.get("")
    async def status() -> ScheduleStatus:
        """When nights are, the present one, and how the last one went."""
        return await nights.status()

    @router.put("", dependencies=[Depends(Needs(Scope.ADMIN))], responses={409: {"model": ErrorEnvelope}})
    async def change(schedule: Schedule, version: Version = None) -> ScheduleStatus:
        """When nights are from now on. A day whose night was done keeps it at that; one that was missed while they
        were switched off is not made up for."""
        return await nights.change(schedule, version)

    @router.post(
        "/run",
        status_code=202,
        dependencies=[Depends(Needs(Scope.WRITE))],
        responses={409: {"model": ErrorEnvelope, "description": "Another instance is about to begin."}},
    )
    async def run(request: ScheduleRequest | None = None) -> NightStarted:
        """Do a night's steps now, all or some, in the background; while a night is under way, that one is given.

        All of them, done well, are the night of the last day whose time has come.
        """
        return await nights.begin((request or ScheduleRequest()).steps)

    return router
