"""API keys and the middleware that lets nobody in without one.

A key is `anm_` and 256 random bits. Only its SHA-256 is kept: the bits are random, so a slow hash
would add nothing. Comparison is by look-up of the hash, so timing tells nothing of the key.
"""

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from anamnesis.contracts.base import now
from anamnesis.contracts.keys import Identity
from anamnesis.contracts.keys import Scope as KeyScope
from anamnesis.kit.errors import AnamnesisError, Forbidden, Unauthorized
from anamnesis.kit.responses import error_response
from anamnesis.kit.settings import MAX_KEY

PREFIX = "anm_"


class Way(NamedTuple):
    """A way in: a method (GET stands for HEAD too) and a path."""

    method: str
    path: str


OPEN = frozenset({Way("GET", "/health"), Way("GET", "/ready")})
"""What every service answers without a key."""
READING_PATHS = frozenset({"/api/episodes/search", "/api/episodes/export", "/api/embedding/texts"})
"""Questions that are too long for a GET: a key of scope `read` may ask them."""
RANK = {KeyScope.READ: 0, KeyScope.WRITE: 1, KeyScope.ADMIN: 2, KeyScope.SERVICE: 3}


def new_key() -> str:
    """A fresh key of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def key_hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class KeyHolder(Protocol):
    """Knows whose key has a hash."""

    async def identify(self, hash: str) -> Identity | None: ...


class ServiceKey:
    """Recognises the key between services, and asks `others` for the rest.

    Answers are kept for `ttl` seconds, so that one person's requests cost one look-up, and a
    revoked key is refused at most that much later; where the revocation passes through, `forget` ends it at once.
    """

    def __init__(self, key: SecretStr | None, others: KeyHolder, ttl: float = 15.0, bound: int = 1024) -> None:
        self._own = key_hash(key.get_secret_value()) if key is not None else None
        self._others = others
        self._ttl = ttl
        self._bound = bound
        self._known: OrderedDict[str, tuple[float, Identity]] = OrderedDict()
        self._forgotten = 0

    def forget(self) -> None:
        """Ask again about every key, also where an answer is on its way: one has been revoked."""
        self._forgotten += 1
        self._known.clear()

    async def identify(self, hash: str) -> Identity | None:
        if self._own is not None and secrets.compare_digest(hash, self._own):
            return Identity(key_id="service", name="service", scope=KeyScope.SERVICE)
        cached = self._known.get(hash)
        if cached is not None and time.monotonic() - cached[0] < self._ttl and not expired(cached[1]):
            return cached[1]
        forgotten = self._forgotten
        identity = await self._others.identify(hash)
        self._known.pop(hash, None)
        if identity is None or expired(identity):
            return None
        if forgotten == self._forgotten:
            self._known[hash] = (time.monotonic(), identity)
            while len(self._known) > self._bound:
                self._known.popitem(last=False)
        return identity


def expired(identity: Identity) -> bool:
    return identity.expires_at is not None and identity.expires_at <= now()


def presented_key(request: Request) -> str | None:
    """The key of a request: `Authorization: Bearer` or `X-API-Key`."""
    bearer = request.headers.get("authorization", "")
    scheme, _, value = bearer.partition(" ")
    key = (value.strip() if scheme.lower() == "bearer" else "") or request.headers.get("x-api-key", "").strip()
    return key if key and len(key) <= MAX_KEY else None


class DenyByDefault:
    """ASGI middleware: every path needs a key, whether it exists or not, but for the `opened` ways.

    What is not a GET changes something and needs the scope `write`, but for the `reading` paths.
    """

    def __init__(
        self,
        app: ASGIApp,
        holder: KeyHolder,
        opened: Collection[Way] = OPEN,
        reading: Collection[str] = READING_PATHS,
        stranger: Callable[[Request], Response | None] | None = None,
    ) -> None:
        """`stranger` may have another answer than 401 for who has no key, where it gives one."""
        self._app = app
        self._holder = holder
        self._opened = opened
        self._reading = reading
        self._stranger = stranger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and is_open(scope, self._opened)):
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return None  # no service speaks WebSocket; an unanswered handshake is refused by the server
        request = Request(scope)
        key = presented_key(request)
        try:
            identity = await self._holder.identify(key_hash(key)) if key else None
        except AnamnesisError as error:  # the holder is away: say so instead of letting anybody in
            return await error_response(error)(scope, receive, send)
        refusal: AnamnesisError
        if identity is None:
            other = self._stranger(request) if self._stranger is not None else None
            refusal = Unauthorized("send a valid API key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
            return await (other or error_response(refusal))(scope, receive, send)
        reading = scope["method"] in ("GET", "HEAD") or scope["path"] in self._reading
        if not reading and RANK[identity.scope] < RANK[KeyScope.WRITE]:
            refusal = Forbidden(f"this needs a key of scope 'write', yours has '{identity.scope}'")
            return await error_response(refusal)(scope, receive, send)
        scope.setdefault("state", {})["identity"] = identity
        await self._app(scope, receive, send)


def is_open(scope: Scope, opened: Collection[Way]) -> bool:
    """Whether a request needs no key."""
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    return Way(method, scope["path"]) in opened


class Needs:
    """A route dependency: the caller's key must have at least this scope."""

    def __init__(self, scope: KeyScope) -> None:
        self._scope = scope

    def __call__(self, request: Request) -> Identity:
        identity: Identity = request.state.identity
        if RANK[identity.scope] < RANK[self._scope]:
            raise Forbidden(f"this needs a key of scope '{self._scope}', yours has '{identity.scope}'")
        return identity
