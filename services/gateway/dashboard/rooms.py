"""Pages that wait for their content: models, GPUs and training runs, which come with a trainer."""

from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import Response

from services.gateway.dashboard.shell import Shell


class Room(NamedTuple):
    """What a page says while there is nothing to show on it."""

    key: str
    title: str
    lead: str
    empty: str
    next_step: str
    setting: str = ""


_TRAINER = "TRAINER_URLS=http://127.0.0.1:3011"
ROOMS = (
    Room(
        "models",
        "Models",
        "Vessels and adapters: models that have learned from what is remembered.",
        "No trainer is connected",
        "Models come with a trainer. Start one on a machine of yours, name it to the gateway, and start it again.",
        _TRAINER,
    ),
    Room(
        "gpus",
        "GPUs",
        "What the machines that learn are doing: memory, load and temperature of each device.",
        "No trainer is connected",
        "Devices are reported by the trainer that uses them. Name one to the gateway, and start it again.",
        _TRAINER,
    ),
    Room(
        "training",
        "Training",
        "Runs: what is being learned, how far it is, and how good it became.",
        "No trainer is connected",
        "Runs are started on a trainer. Name one to the gateway, and start it again.",
        _TRAINER,
    ),
)


def routes(shell: Shell) -> APIRouter:
    router = APIRouter()
    for room in ROOMS:
        _open(router, shell, room)
    return router


def _open(router: APIRouter, shell: Shell, room: Room) -> None:
    @router.get(f"/dashboard/{room.key}", include_in_schema=False)
    async def page(request: Request) -> Response:
        return shell.page(request, "room.html", room.key, {"room": room})
