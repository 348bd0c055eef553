"""Renders the pages: templates, the headers that keep them safe, and parts of pages that may fail by themselves."""

import gzip
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from fastapi import Request
from fastapi.responses import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from anamnesis.kit.errors import AnamnesisError, Unauthorized
from services.gateway.dashboard import formats
from services.gateway.dashboard.assets import Assets, accepts_gzip
from services.gateway.dashboard.tabs import TABS
from services.gateway.headers import POLICY

TEMPLATES = Path(__file__).parent / "templates"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""What every page carries. Pages hold what others wrote and are never kept by a cache."""

Context = Mapping[str, object]
Csrf = Callable[[Request], str]


class Shell:
    """The pages' common frame. `csrf` gives the token that a browser sends back with everything that changes."""

    def __init__(self, assets: Assets, csrf: Csrf) -> None:
        self._assets = assets
        self._csrf = csrf
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(formats.FILTERS)

    def page(self, request: Request, template: str, tab: str, context: Context | None = None) -> Response:
        """A whole page, with the navigation standing on `tab`.

        It is sent as it is: it holds a secret (the token), and what holds a secret beside text that others chose is
        better not compressed.
        """
        body = self._render(request, template, {**(context or {}), "tab": tab, "csrf": self._csrf(request)})
        return Response(body, media_type="text/html", headers=HEADERS)

    def part(self, request: Request, template: str, context: Context | None = None) -> Response:
        """A piece of a page, for htmx."""
        return self._compressed(request, self._render(request, template, context or {}).strip())

    async def panel(self, request: Request, template: str, make: Callable[[], Awaitable[Context]]) -> Response:
        """A piece of a page whose data is fetched by `make`; where that fails, the piece says so and what to do.

        The answer is a 200 all the same, as the page got what it asked for; but for a missing key, which the page
        turns into the way to the login.
        """
        try:
            return self.part(request, template, await make())
        except Unauthorized:
            raise
        except AnamnesisError as error:
            return self.part(request, "parts/error.html", {"error": error})

    def _render(self, request: Request, template: str, context: Context) -> bytes:
        root = str(request.scope.get("root_path", "")).rstrip("/")

        def url(path: str) -> str:
            return root + path

        def static(name: str) -> str:
            return root + self._assets.path(name)

        given = {**context, "root": root, "url": url, "static": static, "groups": TABS}
        return self._templates.get_template(template).render(given).encode("utf-8", "replace")

    @staticmethod
    def _compressed(request: Request, body: bytes) -> Response:
        headers = {**HEADERS, "Vary": "Accept-Encoding"}
        if len(body) > 1024 and accepts_gzip(request):
            headers["Content-Encoding"], body = "gzip", gzip.compress(body, 5, mtime=0)
        return Response(body, media_type="text/html", headers=headers)
