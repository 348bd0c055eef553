"""`/v1/models`: what can be asked here, in the form of whichever client asks."""

import contextlib
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import Response

from anamnesis.contracts.base import JsonObject
from anamnesis.kit.errors import AnamnesisError, NotFound
from services.gateway.surfaces.catalogue import Catalogue
from services.gateway.surfaces.embeddings import Embeddings
from services.gateway.surfaces.frames import encoded
from services.gateway.surfaces.naming import model_ids

Version = Annotated[str | None, Header(alias="anthropic-version", description="Anthropic's clients send it.")]

_UNKNOWN_DATE = "1970-01-01T00:00:00Z"  # as that dialect writes it where it does not know


def routes(catalogue: Catalogue, embeddings: Embeddings) -> APIRouter:
    router = APIRouter(tags=["openai"])

    async def owners() -> dict[str, str]:
        """Who has each model, in the order of the backends; the embedding model comes last."""
        listed = await catalogue.listed()
        found = {id: backend for backend, models in listed.items() for id in model_ids(backend, models)}
        with contextlib.suppress(AnamnesisError):  # memory is away: what can be chatted with is there all the same
            found.setdefault(await embeddings.model(), "memory")
        return found

    @router.get("/v1/models", response_class=Response)
    async def listed(version: Version = None) -> Response:
        """The models of all backends as `<backend>:<model>`, the trainers' as `anamnesis-gpt`, and memory's own."""
        models = await owners()
        if version is None:
            shown: JsonObject = {"object": "list", "data": [_openai(id, owner) for id, owner in models.items()]}
        else:
            chat = [id for id, owner in models.items() if owner != "memory"]
            ends: JsonObject = {"first_id": chat[0] if chat else None, "last_id": chat[-1] if chat else None}
            shown = {"data": [_anthropic(id) for id in chat], "has_more": False, **ends}
        return Response(encoded(shown), media_type="application/json")

    @router.get("/v1/models/{id:path}", response_class=Response, responses={404: {"description": "No such model."}})
    async def one(id: str, version: Version = None) -> Response:
        """One of them."""
        owner = (await owners()).get(id)
        if owner is None:
            raise NotFound("there is no such model; GET /v1/models lists those that there are")
        shown = _openai(id, owner) if version is None else _anthropic(id)
        return Response(encoded(shown), media_type="application/json")

    return router


def _openai(id: str, owner: str) -> JsonObject:
    return {"id": id, "object": "model", "created": 0, "owned_by": owner}


def _anthropic(id: str) -> JsonObject:
    return {"type": "model", "id": id, "display_name": id, "created_at": _UNKNOWN_DATE}
