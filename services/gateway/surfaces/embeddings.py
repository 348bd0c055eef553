"""`/v1/embeddings`: texts embedded by memory's own model, as OpenAI's clients ask for it."""

import base64
import sys
from array import array
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BeforeValidator, Field, JsonValue

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.embedding import (
    MAX_TEXT,
    MAX_TEXTS,
    EmbeddedTexts,
    EmbeddingConfig,
    EmbedTexts,
    TextKind,
)
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import BadRequest, NotFound
from services.gateway.recall import CHARACTERS_PER_TOKEN
from services.gateway.surfaces.asked import Foreign, body_of, one_or_many, read
from services.gateway.surfaces.frames import encoded
from services.gateway.surfaces.naming import ANYONE

PATH = "/api/embedding/texts"
MAX_INPUTS = 2048  # as many as OpenAI takes; memory gets them in its own portions
_NOT_TEXT = "send text, not tokens: the model here has other tokens (LangChain: check_embedding_ctx_length=False)"


def _texts(value: object) -> object:
    several = one_or_many(value)
    if isinstance(several, list) and any(isinstance(one, int | list) for one in several):
        raise ValueError(_NOT_TEXT)
    return several


class EmbeddingsBody(Foreign):
    input: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=MAX_TEXT)], ...],
        BeforeValidator(_texts),
        Field(min_length=1, max_length=MAX_INPUTS),
    ]
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    input_type: Literal["query", "passage", "document"] = "passage"
    """As hosts of asymmetric models call it: a question is embedded in another way than what answers it."""


class Embeddings:
    """Embeds by memory's model."""

    def __init__(self, memory: ServiceClient, *, within: float) -> None:
        """`within`: seconds that a portion may take."""
        self._memory = memory
        self._within = within

    async def model(self) -> str:
        """The name of the active model."""
        return (await self._memory.get("/api/embedding/config", EmbeddingConfig, deadline=5.0)).active.name

    async def embed(self, texts: Sequence[str], kind: TextKind) -> tuple[str, list[str]]:
        """The model's name, and each text's vector as base64 of little-endian float32."""
        model, vectors = "", list[str]()
        for start in range(0, len(texts), MAX_TEXTS):
            body = EmbedTexts(texts=tuple(texts[start : start + MAX_TEXTS]), kind=kind)
            portion = await self._memory.request(
                "POST", PATH, EmbeddedTexts, body=body, deadline=self._within, repeatable=True
            )
            if model not in ("", portion.model):  # the store has just moved to another model
                return await self.embed(texts, kind)
            model = portion.model
            vectors += portion.vectors
        return model, vectors


def routes(embeddings: Embeddings) -> APIRouter:
    router = APIRouter(tags=["openai"])

    @router.post(
        "/v1/embeddings",
        response_class=Response,
        responses={
            400: {"description": "A field does not fit; the message names it."},
            404: {"description": "The model is not the one that memory embeds with; the message names that one."},
        },
    )
    async def embed(request: Request) -> Response:
        """OpenAI's embeddings, by the model that memory searches with; `input_type` may be `query` or `passage`."""
        body = read(EmbeddingsBody, body_of(await request.body()))
        if body.dimensions is not None:
            raise BadRequest("dimensions: this model's vectors cannot be shortened; leave it out")
        if body.model not in ANYONE:
            active = await embeddings.model()
            if body.model != active:
                raise NotFound(f"texts are embedded by '{active}' here; ask for that model, or for 'auto'")
        kind = TextKind.QUERY if body.input_type == "query" else TextKind.PASSAGE
        model, vectors = await embeddings.embed(body.input, kind)
        base64_asked = body.encoding_format == "base64"
        data: list[JsonValue] = [
            {"object": "embedding", "index": at, "embedding": vector if base64_asked else floats(vector)}
            for at, vector in enumerate(vectors)
        ]
        # Memory does not count tokens; as everywhere here, a token is taken for four characters.
        tokens = -(-sum(map(len, body.input)) // CHARACTERS_PER_TOKEN)
        usage: JsonObject = {"prompt_tokens": tokens, "total_tokens": tokens}
        answer: JsonObject = {"object": "list", "data": data, "model": model, "usage": usage}
        return Response(encoded(answer), media_type="application/json")

    return router


def floats(vector: str) -> list[JsonValue]:
    """The numbers of base64 of little-endian float32."""
    numbers = array("f", base64.b64decode(vector))
    if sys.byteorder == "big":
        numbers.byteswap()
    return list(numbers)
