"""Whether a request comes from a page of ours: what a browser says about it, which a page cannot forge."""

from urllib.parse import urlsplit

from starlette.requests import Request


def same_origin(request: Request) -> bool:
    """`Sec-Fetch-Site` and `Origin`, as far as they were sent, must both say so, and one of them must be there.

    The scheme is left out: behind a proxy that ends TLS it is not known here. Names are those that `TrustedHosts`
    lets through, and browsers of today take a page over HTTP for another site than the same over HTTPS.
    """
    site = request.headers.get("sec-fetch-site")
    if site not in (None, "same-origin", "none"):
        return False
    origins = request.headers.getlist("origin")
    if not origins:
        return site == "same-origin"
    try:
        claimed = urlsplit(origins[0])
    except ValueError:
        return False
    host = request.headers.get("host", "").lower()
    return len(origins) == 1 and claimed.scheme in ("http", "https") and claimed.netloc.lower() == host != ""
