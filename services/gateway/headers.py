"""What every answer of the gateway tells a browser to beware of, and the policy that its pages live under.

An answer that says something else about one of these headers keeps its own.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # Not `no-referrer`: under it browsers send `Origin: null` with forms, also to where the page came from.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_OF_PAGES = (
    (b"content-security-policy", POLICY.encode("ascii")),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class SafeHeaders:
    """ASGI middleware: adds what is missing, and takes away whatever would open an answer to other origins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [
                    (name, value)
                    for name, value in message["headers"]
                    if not name.lower().startswith(b"access-control-")
                ]
                present = {name.lower(): value for name, value in given}
                page = present.get(b"content-type", b"").startswith(b"text/html")
                wanted = _ALWAYS + _OF_PAGES if page else _ALWAYS
                message["headers"] = given + [header for header in wanted if header[0] not in present]
            await send(message)

        await self._app(scope, receive, with_headers)
