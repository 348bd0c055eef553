"""Asking the store by hand: every hit with the terms of its score, and two configurations side by side."""

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ValidationError

from anamnesis.contracts.episodes import RankingWeights, SearchRequest, SearchResponse
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import BadRequest
from services.gateway.dashboard.callers import Callers
from services.gateway.dashboard.filters import Filters
from services.gateway.dashboard.shell import Context, Shell

DEADLINE = 60.0  # seconds for one search
WEIGHTS = tuple(RankingWeights.model_fields)


class Configuration(NamedTuple):
    """One way to search, as its fields are written; empty = what is shipped."""

    key: str
    top_k: str
    floor: str
    weights: Mapping[str, str]

    @classmethod
    def of(cls, query: Mapping[str, str], key: str) -> "Configuration":
        weights = {name: query.get(f"{key}_{name}", "").strip() for name in WEIGHTS}
        return cls(key, query.get(f"{key}_top_k", "").strip(), query.get(f"{key}_floor", "").strip(), weights)

    @property
    def changed(self) -> bool:
        return bool(self.top_k or self.floor or any(self.weights.values()))


class Outcome(NamedTuple):
    """What one configuration found, and how long it took; `ranks` are the places of its hits."""

    configuration: Configuration
    response: SearchResponse
    milliseconds: float
    ranks: Mapping[str, int]


def routes(shell: Shell, callers: Callers) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/dashboard/search")
    async def page(request: Request) -> Response:
        query = request.query_params
        return shell.page(
            request,
            "search.html",
            "search",
            {
                "question": query.get("question", ""),
                "filters": Filters.of(query),
                "include_superseded": "include_superseded" in query,
                "compare": "compare" in query,
                "configurations": [Configuration.of(query, key) for key in ("a", "b")],
                "weights": WEIGHTS,
                "query": str(query),
            },
        )

    @router.get("/dashboard/parts/search/results")
    async def results(request: Request) -> Response:
        async def make() -> Context:
            query = request.query_params
            keys = ("a", "b") if "compare" in query else ("a",)
            memory = callers.memory(request)
            asked = [(Configuration.of(query, key), _request(query, key)) for key in keys]
            outcomes = await asyncio.gather(*(_search(memory, one, body) for one, body in asked))
            most = max((hit.score for one in outcomes for hit in one.response.results), default=0.0)
            question = query.get("question", "").strip()
            return {"outcomes": outcomes, "most": most, "question": question}

        return await shell.panel(request, "parts/search_results.html", make)

    return router


def _request(query: Mapping[str, str], key: str) -> SearchRequest:
    """Hits are not counted as retrievals: somebody looks, no model is told."""
    filters, configuration = Filters.of(query), Configuration.of(query, key)
    try:
        return SearchRequest.model_validate(
            {
                "query_text": query.get("question", ""),
                "top_k": configuration.top_k or 10,
                "floor": configuration.floor or None,
                "ranking": {name: value for name, value in configuration.weights.items() if value} or None,
                "project_filter": filters.project or None,
                "instance_filter": filters.instance or None,
                "tag_filter": filters.tags,
                "since": filters.begin,
                "until": filters.end,
                "include_superseded": "include_superseded" in query,
                "explain": True,
                "count": False,
            }
        )
    except ValidationError as error:
        problem = error.errors()[0]
        where = " ".join(str(part) for part in problem["loc"]).replace("ranking ", "weight ").replace("_", " ")
        raise BadRequest(f"{where}: {problem['msg'][:1].lower()}{problem['msg'][1:]}") from None


async def _search(memory: ServiceClient, configuration: Configuration, body: SearchRequest) -> Outcome:
    started = time.perf_counter()
    found = await memory.request(
        "POST", "/api/episodes/search", SearchResponse, body=body, deadline=DEADLINE, repeatable=True
    )
    ranks = {hit.episode_id: rank for rank, hit in enumerate(found.results, 1)}
    return Outcome(configuration, found, 1000 * (time.perf_counter() - started), ranks)
