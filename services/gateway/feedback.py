"""`POST /api/feedback`: what a person, or a program, says of memories that were put before a model."""

from fastapi import APIRouter, Depends

from anamnesis.contracts.episodes import Changed
from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.keys import Scope
from anamnesis.contracts.usefulness import MAX_VERDICTS, EpisodeVerdict, Feedback, UsefulnessReport, Verdict
from anamnesis.kit.auth import Needs
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import NotFound
from services.gateway.chat.sessions import Sessions

WITHIN = 30.0  # seconds


def routes(memory: ServiceClient, sessions: Sessions) -> APIRouter:
    router = APIRouter(tags=["usefulness"])

    @router.post(
        "/api/feedback",
        dependencies=[Depends(Needs(Scope.WRITE))],
        responses={404: {"model": ErrorEnvelope, "description": "There is no such session or turn."}},
    )
    async def feedback(said: Feedback) -> Changed:
        """Count episodes as helpful or not: those that are named, or those that an answer of the chat made use of."""
        named = dict.fromkeys(said.episode_ids or await _used(sessions, said))
        if not named:
            return Changed(changed=0)
        verdict = Verdict.HELPFUL if said.helpful else Verdict.UNHELPFUL
        verdicts = [EpisodeVerdict(episode_id=one, verdict=verdict) for one in named]
        report = UsefulnessReport(verdicts=tuple(verdicts[:MAX_VERDICTS]))
        return await memory.request("POST", "/api/episodes/usefulness", Changed, body=report, deadline=WITHIN)

    return router


async def _used(sessions: Sessions, said: Feedback) -> tuple[str, ...]:
    assert said.session is not None, "the contract wants one of both"
    assert said.turn is not None, "the contract wants one of both"
    found = await sessions.read(said.session, limit=1, before=said.turn + 1)
    for turn in found.turns:
        if turn.turn == said.turn:
            return turn.used
    raise NotFound(f"there is no turn {said.turn} in this session")
