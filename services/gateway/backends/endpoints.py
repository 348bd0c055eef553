"""Endpoints from the settings: what they are called, and where they are."""

from collections.abc import Iterable

from yarl import URL

from services.gateway.backends.base import Endpoint


def endpoint(given: str) -> Endpoint:
    """`url` or `label=url`. Raises `ValueError` for anything else.

    Without a label an endpoint is called by its host and port, never by its whole URL, which may hold a password.
    """
    label, equals, address = given.partition("=")
    if not equals or "/" in label:
        label, address = "", given
    url = URL(address.strip())
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("expected http://HOST:PORT or LABEL=http://HOST:PORT")
    host = f"[{url.host}]" if ":" in url.host else url.host
    name = label.strip() or (host if url.is_default_port() else f"{host}:{url.port}")
    if not name.isprintable() or not name.isascii() or " " in name or len(name) > 100:
        raise ValueError("a label has at most 100 printable characters without blanks")
    return Endpoint(name, str(url).rstrip("/"))


def endpoints(given: Iterable[str], path: str = "") -> tuple[Endpoint, ...]:
    """Each under a name of its own; `path` is added to their URLs."""
    made: dict[str, Endpoint] = {}
    for one in map(endpoint, given):
        name, number = one.name, 1
        while name in made:
            number += 1
            name = f"{one.name}-{number}"
        made[name] = Endpoint(name, one.url + path)
    return tuple(made.values())
