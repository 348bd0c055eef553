"""A hook is answered in time and never with an error of ours, whatever happens behind: a person waits for it.

ASGI middleware that stands before the door, since asking whose key it is can take as long as anything. What is late,
or fails on our side, is an empty answer that says why in a header. Refusals (4xx) stay what they are: who has no key
is let in nowhere.
"""

import asyncio
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anamnesis.kit.logs import logger, where
from services.gateway.hooks.events import named

PREFIX = "/hooks/"
OUTCOME = "x-anamnesis-outcome"
LATE, FAILED = "late", "failed"


class Outcomes:
    """Counts what became of hooks, by event and outcome."""

    def __init__(self) -> None:
        self._counter = Counter(
            "anamnesis_hooks", "Hooks of assistants, by event and outcome.", ("event", "outcome"), registry=None
        )

    def register(self, registry: CollectorRegistry) -> None:
        registry.register(self._counter)

    def count(self, event: str, outcome: str) -> None:
        self._counter.labels(event, outcome).inc()


class _Answer(NamedTuple):
    status: int
    outcome: str


class InTime:
    def __init__(self, app: ASGIApp, wait: float, outcomes: Outcomes) -> None:
        """`wait` in seconds, from the first byte of a request to its answer."""
        self._app = app
        self._wait = wait
        self._outcomes = outcomes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            return await self._app(scope, receive, send)
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        try:
            async with asyncio.timeout(self._wait):
                await self._app(scope, receive, hold)
            answer = _read(held)
        except TimeoutError:
            answer = _Answer(504, LATE)
        except Exception as error:  # noqa: BLE001 - an edge: logged by type and place, and nobody's prompt is held up
            logger().error("hook failed", error=where(error))
            answer = _Answer(500, FAILED)
        event = named(scope["path"].removeprefix(PREFIX))
        self._outcomes.count(event.value if event else "other", answer.outcome)
        if answer.status >= 500:
            return await empty(answer.outcome)(scope, receive, send)
        for message in held:
            await send(message)


def empty(outcome: str) -> Response:
    """The answer that tells an assistant nothing."""
    return Response("{}", media_type="application/json", headers={OUTCOME: outcome})


def _read(held: list[Message]) -> _Answer:
    """What was answered; nothing at all, which the framework leaves when its caller has gone, is a failure too."""
    if not held:
        return _Answer(500, FAILED)
    status = int(held[0]["status"])
    outcome = dict(held[0]["headers"]).get(OUTCOME.encode(), b"").decode("ascii", "replace")
    return _Answer(status, outcome or ("refused" if status < 500 else FAILED))
