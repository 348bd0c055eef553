"""The models that each endpoint lists, remembered for a while, so that a default one costs no request a turn."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from services.gateway.backends.base import BackendFailure, Endpoint

KEPT = 60.0  # seconds that a list is remembered
WAIT = 5.0  # seconds that one may take before an answer
GLANCE = 1.8  # seconds that one may take where it is only shown

Fetch = Callable[[Endpoint, float], Awaitable[tuple[str, ...]]]
"""Asks an endpoint for its models, the default one first, within so many seconds. Raises `BackendFailure`."""


class _Listed(NamedTuple):
    models: tuple[str, ...]
    at: float


class Listing:
    """What the endpoints of one backend list."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._listed: dict[str, _Listed] = {}

    async def first(self, endpoint: Endpoint) -> str:
        """The model that an endpoint is asked for where nobody says which."""
        known = self._listed.get(endpoint.name)
        if known is None or time.monotonic() - known.at > KEPT:
            known = await self._ask(endpoint, WAIT)
        if not known.models:
            raise BackendFailure("lists no model: load or pull one, or name one in the settings")
        return known.models[0]

    def forget(self, endpoint: Endpoint) -> None:
        """It no longer has what it listed."""
        self._listed.pop(endpoint.name, None)

    async def all(self, endpoints: Sequence[Endpoint]) -> tuple[str, ...]:
        """What any of the endpoints lists now, each once. Raises `BackendFailure` when none of them answers."""
        asked = await asyncio.gather(*(self._ask(one, GLANCE) for one in endpoints), return_exceptions=True)
        failures = list[BackendFailure]()
        models = dict[str, None]()
        for outcome in asked:
            if isinstance(outcome, BackendFailure):
                failures.append(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                models.update(dict.fromkeys(outcome.models))
        if failures and len(failures) == len(endpoints):
            reasons = [f"{one.name} {failure.reason}" for one, failure in zip(endpoints, failures, strict=True)]
            raise BackendFailure("; ".join(reasons), status=failures[0].status)
        return tuple(models)

    async def _ask(self, endpoint: Endpoint, wait: float) -> _Listed:
        listed = self._listed[endpoint.name] = _Listed(await self._fetch(endpoint, wait), time.monotonic())
        return listed
