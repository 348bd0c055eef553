"""Where people may be sent: our own pages, and nowhere else."""

import re
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

HOME = "/dashboard"
LONGEST = 2_000  # characters of a place
_PAGE = re.compile(r"(/|/(dashboard|chat)(/[^?#]*)?)(\?[^#]*)?(#.*)?")
_PLAIN = re.compile(r"[\x21-\x5b\x5d-\x7e]+")  # no blanks, no control characters, no backslash, nothing beyond ASCII


def safe(place: str | None) -> str:
    """A place below the gateway's root where that is a page of ours, else the dashboard."""
    if not place or len(place) > LONGEST or not _PLAIN.fullmatch(place):
        return HOME
    found = _PAGE.fullmatch(place)
    if found is None or "//" in found[1] or {".", ".."} & set(found[1].split("/")):
        return HOME
    return place


def redirect(request: Request, place: str) -> Response:
    """303 to a place below the gateway's root."""
    return RedirectResponse(str(request.scope.get("root_path", "")) + place, status_code=303)


def wants_page(request: Request) -> bool:
    """Whether somebody looks at this in a browser; a script's part of a page is none."""
    return "text/html" in request.headers.get("accept", "") and "hx-request" not in request.headers


def to_login(request: Request) -> Response | None:
    """For who has no key: the way to the login page, where a page was asked for."""
    path = quote(request.scope["path"], safe="/")
    if request.method != "GET" or not wants_page(request) or not _PAGE.fullmatch(path):
        return None
    query = request.scope["query_string"].decode("latin-1")
    return redirect(request, "/login?next=" + quote(safe(f"{path}?{query}" if query else path), safe=""))
