"""How often one may ask: by key for what is asked with one, by address for attempts to log in."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Sequence

import limits
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from anamnesis.contracts.keys import Identity
from anamnesis.contracts.keys import Scope as KeyScope
from anamnesis.kit.errors import Busy
from anamnesis.kit.responses import error_response

MOST = 4_096  # of those who are counted; past it, whoever has been quiet for the longest begins anew


class Rates:
    """Counts requests in a sliding window, in this process."""

    def __init__(self, rate: str, most: int = MOST) -> None:
        """`rate` as `6000/minute`."""
        self._rate = limits.parse(rate)
        self._most = most
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._seen: OrderedDict[str, None] = OrderedDict()
        self.text = rate.replace("/", " a ")

    async def count(self, who: str) -> Busy | None:
        """Count one request; the error that refuses it, where it is one too many."""
        self._seen[who] = None
        self._seen.move_to_end(who)
        while len(self._seen) > self._most:
            quiet, _ = self._seen.popitem(last=False)
            await self._limiter.clear(self._rate, quiet)
        if await self._limiter.hit(self._rate, who):
            return None
        reset = (await self._limiter.get_window_stats(self._rate, who)).reset_time
        return Busy(f"at most {self.text}; wait a moment", retry_after=max(1, math.ceil(reset - time.time())))


class RateLimit:
    """ASGI middleware, to stand behind the door: each key has its own count; that between services has none."""

    def __init__(self, app: ASGIApp, rate: str, free: Sequence[str] = ()) -> None:
        """Paths that begin with one of `free` do not count."""
        self._app = app
        self._rates = Rates(rate)
        self._free = tuple(free)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        identity: Identity | None = scope.get("state", {}).get("identity") if scope["type"] == "http" else None
        if identity is None or identity.scope is KeyScope.SERVICE or scope["path"].startswith(self._free):
            return await self._app(scope, receive, send)
        refusal = await self._rates.count(identity.key_id)
        if refusal is not None:
            refusal.message = f"this key may make {refusal.message} (ANAMNESIS_GATEWAY_RATE)"
            return await error_response(refusal)(scope, receive, send)
        await self._app(scope, receive, send)


def address(request: Request) -> str:
    """Whom an unknown caller is counted as: its address, for IPv6 the network that one person has."""
    host = request.client.host if request.client is not None else ""
    try:
        known = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((known, 64), strict=False))
        known = known.ipv4_mapped
    return str(known)
