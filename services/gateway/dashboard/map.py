"""The map's page: episodes as points of a plane, drawn by its module from `GET /api/episodes/map`."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from services.gateway.dashboard.shell import Shell


def routes(shell: Shell) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/dashboard/map")
    async def page(request: Request) -> Response:
        return shell.page(request, "map.html", "map")

    return router
