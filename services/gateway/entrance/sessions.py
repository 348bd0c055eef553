"""Sessions of browsers: a cookie that carries an API key, and the token that keeps other sites from using it.

The cookie becomes `Authorization: Bearer` before anybody looks at the request, so that the door, the services behind
and the pages see the caller's own key as they always do; the cookie itself goes no further. What a cookie may change
must come from a page of ours (`Origin`) that knows the session's token (`X-CSRF-Token`).
"""

import hashlib
import hmac
from collections.abc import Collection

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from anamnesis.contracts.base import now
from anamnesis.contracts.keys import KeyCreated
from anamnesis.kit.auth import Way, is_open, presented_key
from anamnesis.kit.errors import Forbidden
from anamnesis.kit.responses import error_response
from anamnesis.kit.settings import presentable
from services.gateway.entrance.origin import same_origin

COOKIE = "anamnesis_session"
CSRF_HEADER = "x-csrf-token"


class BrowserSessions:
    """ASGI middleware, to stand before the door."""

    def __init__(self, app: ASGIApp, opened: Collection[Way]) -> None:
        """On the ways that are `opened` to all, a cookie counts for nothing."""
        self._app = app
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request = Request(scope)
        key = request.cookies.get(COOKIE, "")
        headers = [header for header in scope["headers"] if header[0] != b"cookie"]
        if presentable(key):
            state = scope.setdefault("state", {})
            state["cookie"] = key
            if not is_open(scope, self._opened) and presented_key(request) is None:
                if (refusal := _refusal(request, key)) is not None:
                    return await error_response(refusal)(scope, receive, send)
                state["session"] = key
                headers = [header for header in headers if header[0] not in (b"authorization", b"x-api-key")]
                headers.append((b"authorization", b"Bearer " + key.encode("ascii")))
        scope["headers"] = headers
        await self._app(scope, receive, send)


def session_key(request: Request) -> str | None:
    """The key of the session that a request came in by; none = it showed a key of its own, or has none."""
    key: str | None = getattr(request.state, "session", None)
    return key


def cookie_key(request: Request) -> str | None:
    """The key in the cookie, also where it counts for nothing: nobody has looked whether it opens anything."""
    key: str | None = getattr(request.state, "cookie", None)
    return key


def csrf_token(request: Request) -> str:
    """What a page must send back as `X-CSRF-Token`; empty where the caller shows a key of its own and needs none."""
    key = session_key(request)
    return _token(key) if key is not None else ""


def keep(response: Response, request: Request, session: KeyCreated) -> None:
    """Let the browser keep a session's key until it ends.

    `Lax`, not `Strict`: a link to a page from elsewhere (a terminal, a note) finds the person logged in; what changes
    something is never reached by a link.
    """
    assert session.expires_at is not None
    response.set_cookie(
        COOKIE,
        session.key,
        max_age=max(1, int((session.expires_at - now()).total_seconds())),
        path=_path(request),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )


def drop(response: Response, request: Request) -> None:
    """Let the browser forget its session."""
    response.delete_cookie(
        COOKIE, path=_path(request), secure=request.url.scheme == "https", httponly=True, samesite="lax"
    )


def _refusal(request: Request, key: str) -> Forbidden | None:
    if request.method in ("GET", "HEAD"):
        return None
    if not same_origin(request):
        return Forbidden("this does not come from a page of this gateway; programs send a key instead of a cookie")
    given = request.headers.get(CSRF_HEADER, "").encode("utf-8", "surrogateescape")
    if not hmac.compare_digest(given, _token(key).encode()):
        return Forbidden("the page belongs to another session, or is too old: reload it (X-CSRF-Token does not fit)")
    return None


def _token(key: str) -> str:
    return hmac.new(key.encode(), b"anamnesis: token against forged requests", hashlib.sha256).hexdigest()


def _path(request: Request) -> str:
    return str(request.scope.get("root_path", "")) or "/"
