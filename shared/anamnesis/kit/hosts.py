"""The names under which a service answers: a page that a stranger's name server points at us gets nothing."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from anamnesis.kit.errors import BadRequest
from anamnesis.kit.responses import error_response


class TrustedHosts:
    """ASGI middleware: a `Host` that is not allowed is 400, against DNS rebinding.

    Starlette's own answers in plain text, and our errors have one shape.
    """

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        """`allowed`: names without port, `*.example.com` for all below one, `*` for any."""
        self._app = app
        names = [name.lower().strip("[]") for name in allowed]
        self._names = frozenset(names)
        self._ends = tuple(name[1:] for name in names if name.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = Headers(scope=scope).getlist("host") if scope["type"] == "http" else []
        # Of two names one would be checked, and the other perhaps be believed by whoever stands before or behind us.
        if scope["type"] != "http" or (len(hosts) == 1 and self._knows(hosts[0])):
            return await self._app(scope, receive, send)
        refusal = BadRequest("this name is not one that the service answers under: add it to ANAMNESIS_ALLOWED_HOSTS")
        return await error_response(refusal)(scope, receive, send)

    def _knows(self, header: str) -> bool:
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        return "*" in self._names or name in self._names or name.endswith(self._ends or ("\0",))
