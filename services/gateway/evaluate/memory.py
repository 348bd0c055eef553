"""What an evaluation asks of memory: single searches, a sample of episodes, another model on a sample, and its papers.

Speaks with the key between services, so it can be told apart from people; how many of these run at once is for
`runs` to say.
"""

import time
from collections.abc import Sequence

from pydantic import ValidationError

from anamnesis.contracts.base import Contract
from anamnesis.contracts.episodes import Episode, EpisodePage, SearchRequest, SearchResponse
from anamnesis.contracts.evaluate import (
    CompareRequest,
    CompareResponse,
    Configuration,
    EvaluateRun,
    EvaluateRuns,
    Question,
)
from anamnesis.contracts.state import Setting
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import BadRequest, Conflict, NotFound
from services.gateway.evaluate.made import blocks
from services.gateway.evaluate.scores import Answer

QUESTIONS, RUNS = "evaluation-questions", "evaluation-runs"
"""Settings."""
KEPT = 20  # runs
SEARCH = 60.0  # seconds for a search
COMPARE = 300.0  # seconds for a step of a comparison: a large model takes its time to load
STATE = 15.0  # seconds for a setting
PAGE = 10  # episodes read at once: each may hold a million characters
_LARGEST = 900_000  # characters of all kept runs; memory takes a megabyte
_TRIES = 3


class Labelled(Contract):
    """The document of one's own questions."""

    questions: tuple[Question, ...] = ()


class MemoryDesk:
    """Memory, as an evaluation sees it."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    async def search(self, question: str, by: Configuration, project: str | None) -> Answer:
        request = SearchRequest(
            query_text=question,
            top_k=by.top_k,
            floor=by.floor,
            ranking=by.ranking,
            project_filter=project,
            token_budget=None,
            count=False,
        )
        begun = time.perf_counter()
        answer = await self._client.request(
            "POST", "/api/episodes/search", SearchResponse, body=request, deadline=SEARCH, repeatable=True
        )
        found = tuple(hit.episode_id for hit in answer.results)
        return Answer(found, (time.perf_counter() - begun) * 1000)

    async def compare(self, request: CompareRequest) -> CompareResponse:
        return await self._client.request(
            "POST", "/api/embedding/compare", CompareResponse, body=request, deadline=COMPARE, repeatable=True
        )

    async def sample(self, count: int, project: str | None) -> list[Episode]:
        """About so many current episodes, spread over the store; the same ones as long as it holds the same number."""
        total = (await self._page(0, 1, project)).total
        found: list[Episode] = []
        for start in blocks(total, PAGE, total):
            if len(found) >= count:
                break
            page = await self._page(start, PAGE, project)
            found.extend(one for one in page.episodes if one.superseded_by is None)
        return found[:count]

    async def questions(self) -> tuple[Question, ...]:
        """One's own. Raises `BadRequest` where the setting holds something else."""
        try:
            kept = await self._client.get(f"/api/settings/{QUESTIONS}", Setting, deadline=STATE)
            return Labelled.model_validate(kept.value).questions
        except NotFound:
            return ()
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise BadRequest(f"the setting {QUESTIONS} cannot be read at {where}: {first['msg']}") from None

    async def runs(self) -> tuple[EvaluateRun, ...]:
        """Those that are kept, newest first; what an older version wrote in another shape counts as none."""
        return (await self._runs())[0]

    async def keep(self, run: EvaluateRun) -> None:
        """Put a finished run before the others; the oldest make room."""
        for _ in range(_TRIES):
            others, version = await self._runs()
            document = EvaluateRuns(runs=_fitting([run, *(one for one in others if one.run_id != run.run_id)]))
            try:
                await self._client.request(
                    "PUT",
                    f"/api/settings/{RUNS}",
                    Setting,
                    body=document,
                    query={"version": version},
                    deadline=STATE,
                )
            except Conflict:
                continue
            return
        raise Conflict("others keep writing the evaluation runs")

    async def _runs(self) -> tuple[tuple[EvaluateRun, ...], int]:
        try:
            kept = await self._client.get(f"/api/settings/{RUNS}", Setting, deadline=STATE)
        except NotFound:
            return (), 0
        try:
            return EvaluateRuns.model_validate(kept.value).runs, kept.version
        except ValidationError:
            return (), kept.version

    async def _page(self, skip: int, limit: int, project: str | None) -> EpisodePage:
        query = {"skip": skip, "limit": limit, "project": project}
        return await self._client.get("/api/episodes", EpisodePage, query, deadline=SEARCH)


def _fitting(runs: Sequence[EvaluateRun]) -> tuple[EvaluateRun, ...]:
    """The newest so many; where they are too large together, the oldest lose what they found question by question."""
    kept: list[EvaluateRun] = []
    room = _LARGEST
    for run in runs[:KEPT]:
        bare = run.model_copy(update={"outcomes": ()})
        whole = len(str(run.model_dump(mode="json")))
        chosen, size = (run, whole) if whole <= room else (bare, len(str(bare.model_dump(mode="json"))))
        if size > room:
            break
        kept.append(chosen)
        room -= size
    return tuple(kept)
