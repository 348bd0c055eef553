"""The store as a whole: its course over time, and its picture."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from anamnesis.contracts.base import Moment, Name
from anamnesis.contracts.insight import Bucket, EpisodeMap, Timeline
from anamnesis.kit.errors import BadRequest
from services.memory.embedding.service import Embedding
from services.memory.picture.maps import Asked, Maps
from services.memory.stores.base import Filter, Store

MOST_POINTS = 5_000
Project = Annotated[Name | None, Query()]
Instance = Annotated[Name | None, Query()]


def routes(store: Store, embedding: Embedding, maps: Maps) -> APIRouter:
    router = APIRouter(tags=["insight"])

    @router.get("/api/episodes/timeline")
    async def timeline(
        bucket: Bucket = Bucket.DAY,
        project: Project = None,
        instance: Instance = None,
        since: Annotated[Moment | None, Query(description="Event time at or after.")] = None,
        until: Annotated[Moment | None, Query(description="Event time before.")] = None,
    ) -> Timeline:
        """How many episodes happened when, by project and instance; times are UTC, weeks begin on Monday."""
        where = Filter(project=project, instance=instance, since=since, until=until)
        points = await store.timeline(where, bucket, MOST_POINTS + 1)
        if len(points) > MOST_POINTS:
            raise BadRequest(
                f"these are more than {MOST_POINTS} points: choose a larger bucket, or fewer episodes by project, "
                "instance, since or until"
            )
        return Timeline(bucket=bucket, points=tuple(points))

    @router.get("/api/episodes/map", response_model=EpisodeMap)
    async def map_(
        project: Project = None,
        instance: Instance = None,
        limit: Annotated[int, Query(ge=1, le=50_000, description="The newest so many.")] = 10_000,
    ) -> Response:
        """The newest episodes as points of a plane, near one another where they are alike."""
        picture = await maps.get(Asked(embedding.active.name, project, instance, limit))
        # Rendered here: the framework would validate tens of thousands of numbers once more.
        return Response(picture.model_dump_json(), media_type="application/json")

    return router
