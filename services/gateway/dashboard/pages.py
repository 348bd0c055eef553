"""All pages of the dashboard, put together: each tab is a module of its own."""

from fastapi import APIRouter

from services.gateway.dashboard import (
    chat,
    crawling,
    embedding,
    episodes,
    evaluate,
    files,
    ingest,
    map,
    overview,
    preferences,
    rooms,
    search,
)
from services.gateway.dashboard.assets import Assets
from services.gateway.dashboard.callers import Callers
from services.gateway.dashboard.shell import Csrf, Shell


def routes(callers: Callers, csrf: Csrf) -> APIRouter:
    """`csrf` gives the token that a browser must send back with what changes something."""
    assets = Assets()
    shell = Shell(assets, csrf)
    router = APIRouter()
    router.include_router(assets.routes())
    router.include_router(overview.routes(shell, callers))
    router.include_router(chat.routes(shell))
    router.include_router(map.routes(shell))
    router.include_router(evaluate.routes(shell, callers))
    router.include_router(episodes.routes(shell, callers))
    router.include_router(search.routes(shell, callers))
    router.include_router(ingest.routes(shell, callers))
    router.include_router(crawling.routes(shell, callers))
    router.include_router(files.routes(shell, callers))
    router.include_router(embedding.routes(shell, callers))
    router.include_router(preferences.routes(shell))
    router.include_router(rooms.routes(shell))
    return router
