"""The embedding model: which one, how much of the processor, the move to another, and trying one before that."""

from base64 import b64encode
from typing import Any

from fastapi import APIRouter, Depends
from starlette.status import HTTP_202_ACCEPTED

from anamnesis.contracts.embedding import (
    CpuShare,
    EmbeddedTexts,
    EmbeddingConfig,
    EmbeddingModel,
    EmbedTexts,
    ModelChoice,
    ReembedStatus,
    TextKind,
)
from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.evaluate import CompareRequest, CompareResponse
from anamnesis.contracts.keys import Scope
from anamnesis.kit.auth import Needs
from services.memory.embedding.service import Embedding
from services.memory.trials import Trials

UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorEnvelope}}
ADMIN = [Depends(Needs(Scope.ADMIN))]


def routes(embedding: Embedding, trials: Trials) -> APIRouter:
    router = APIRouter(tags=["embedding"])

    @router.get("/api/embedding/config")
    async def config() -> EmbeddingConfig:
        """The model in use, the models that are known, and the workers."""
        return embedding.config()

    @router.post("/api/embedding/texts", responses={429: {"model": ErrorEnvelope}})
    async def texts(request: EmbedTexts) -> EmbeddedTexts:
        """Vectors of texts by the active model; of a text that is longer than it takes, the mean of its windows'."""
        embed = embedding.queries if request.kind is TextKind.QUERY else embedding.whole
        model, vectors = await embed(request.texts)
        return EmbeddedTexts(
            model=model,
            dimension=vectors.shape[1],
            vectors=tuple(b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors),
        )

    @router.post(
        "/api/embedding/model",
        dependencies=ADMIN,
        status_code=HTTP_202_ACCEPTED,
        responses={404: {"model": ErrorEnvelope}},
    )
    async def switch(choice: ModelChoice) -> ReembedStatus:
        """Move to another model: the store is embedded beside the old vectors, then switched at once."""
        return await embedding.switch(choice)

    @router.put("/api/embedding/models", dependencies=ADMIN, responses={409: {"model": ErrorEnvelope}})
    async def register(model: EmbeddingModel) -> EmbeddingConfig:
        """Make a model of one's own known, by the directory that holds it."""
        return await embedding.register(model)

    @router.post("/api/embedding/cpu", dependencies=ADMIN)
    async def cpu(share: CpuShare) -> EmbeddingConfig:
        """Change how much of the processor embedding may take; at once, without a reload."""
        return await embedding.set_cpu(share)

    @router.post(
        "/api/episodes/reembed",
        dependencies=ADMIN,
        status_code=HTTP_202_ACCEPTED,
        responses={404: {"model": ErrorEnvelope}},
    )
    async def reembed(choice: ModelChoice | None = None) -> ReembedStatus:
        """Embed what lacks vectors of the chosen (or else the active) model."""
        return await embedding.switch(choice)

    @router.post("/api/episodes/reembed/pause", dependencies=ADMIN, responses={409: {"model": ErrorEnvelope}})
    async def pause() -> ReembedStatus:
        """Pause after the batch under way; its vectors are kept."""
        return await embedding.pause()

    @router.post("/api/episodes/reembed/resume", dependencies=ADMIN, responses={409: {"model": ErrorEnvelope}})
    async def resume() -> ReembedStatus:
        """Go on where it stopped."""
        return await embedding.resume()

    @router.get("/api/episodes/reembed/status")
    async def status() -> ReembedStatus:
        """How far it is, how fast, and how long it will take."""
        return await embedding.status()

    @router.post("/api/embedding/compare", responses={404: {"model": ErrorEnvelope}, 409: {"model": ErrorEnvelope}})
    async def compare(request: CompareRequest) -> CompareResponse:
        """Put questions to a sample of episodes, by a model that need not be the one in use; the store stays as it is.

        The sample is embedded first, some seconds of it with each request: ask again until there are results.
        """
        return await trials.compare(request)

    return router
