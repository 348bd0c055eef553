"""The hooks put together from a few settings: their route, the bound around it, and what works behind it."""

from fastapi import APIRouter
from prometheus_client import CollectorRegistry
from starlette.middleware import Middleware

from anamnesis.kit.client import ServiceClient
from services.gateway.hooks import endpoints
from services.gateway.hooks.answers import Answers
from services.gateway.hooks.bound import InTime, Outcomes
from services.gateway.hooks.reading import Reading
from services.gateway.hooks.sessions import HookSessions
from services.gateway.recall import Recall
from services.gateway.reports import Reports
from services.gateway.settings import GatewaySettings

SHARE = 0.8  # of the time that a hook has, for memory; the rest is for whose key it is, and for us
MAX_TOKENS = 1_900  # put before a prompt at most, whatever else is set: a block has its bound in `answers`


class Hooks:
    """`middleware` belongs before the door. Open and close it with the app, between its clients."""

    def __init__(self, memory: ServiceClient, ingest: ServiceClient, settings: GatewaySettings) -> None:
        wait = SHARE * settings.hook_wait
        tokens = min(MAX_TOKENS, settings.recall_tokens)
        recall = Recall(memory, wait=wait, top_k=settings.recall_top_k, tokens=tokens)
        self._outcomes = Outcomes()
        self._reading = Reading(ingest)
        self._reports = Reports(memory)
        self._answers = Answers(memory, recall, self._reading, self._reports, HookSessions(), wait)
        self.middleware = Middleware(InTime, wait=settings.hook_wait, outcomes=self._outcomes)

    def routes(self) -> APIRouter:
        return endpoints.routes(self._answers)

    def open(self, registry: CollectorRegistry) -> None:
        self._outcomes.register(registry)

    async def close(self) -> None:
        await self._reading.close()
        await self._reports.close()
