"""The gateway under a path of a reverse proxy (`https://example.com/anamnesis`), whether that cuts the path off or not.

Only what was set at the start counts: a header that names a path (`X-Forwarded-Prefix`) may come from anybody.
"""

from starlette.types import ASGIApp, Receive, Scope, Send


class SubPath:
    """ASGI middleware: from here on `path` is one of our own paths, and `root_path` is what addresses begin with."""

    def __init__(self, app: ASGIApp, root: str) -> None:
        """`root`: as `/anamnesis`, or empty for none; then what the server was told counts (`--root-path`)."""
        self._app = app
        self._root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            root = self._root or scope.get("root_path", "").rstrip("/")
            scope["root_path"] = root
            if root:
                scope["path"] = _below(scope["path"], root)
                scope["raw_path"] = _below(scope["raw_path"].decode("ascii"), root).encode("ascii")
        await self._app(scope, receive, send)


def _below(path: str, root: str) -> str:
    return path[len(root) :] or "/" if path == root or path.startswith(root + "/") else path
