"""The first page: how much is remembered, since when and of what, and whether all of it is well."""

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from services.gateway.dashboard.callers import Callers
from services.gateway.dashboard.shell import Shell


def routes(shell: Shell, callers: Callers) -> APIRouter:
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def door(request: Request) -> Response:
        """The address alone leads to the dashboard."""
        return RedirectResponse(str(request.scope.get("root_path", "")).rstrip("/") + "/dashboard", 303)

    @router.get("/dashboard", include_in_schema=False)
    async def page(request: Request) -> Response:
        return shell.page(request, "overview.html", "overview")

    return router
