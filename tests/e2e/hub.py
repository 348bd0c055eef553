"""A hub of models on the loopback: as much of its interface as a download needs, held up when a test wants it."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECE = 1 << 20  # bytes


class Hub:
    """Serves one model's files. Of its weights it gives `allowed` bytes, and waits until it may go on."""

    def __init__(self, repo: str, files: dict[str, bytes]) -> None:
        self.repo = repo
        self.files = files
        self.allowed = 0
        self.asked: list[str] = []
        """The files that were fetched, again and again where they were."""
        self.changed = threading.Condition()
        self.closing = False

    def allow(self, size: int) -> None:
        with self.changed:
            self.allowed = size
            self.changed.notify_all()

    def await_room(self, sent: int) -> bool:
        """Wait until more than `sent` bytes may go; false = the test is over."""
        with self.changed:
            self.changed.wait_for(lambda: self.closing or self.allowed > sent)
        return not self.closing

    @classmethod
    def of(cls, repo: str, directory: Path, changed: dict[str, bytes]) -> "Hub":
        found = {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}
        return cls(repo, {**found, **changed})


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """The hub's address, while it serves."""

    class Answers(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = self.path.split("?")[0]
            prefix = f"/{hub.repo}/resolve/"
            if path.startswith(f"/api/models/{hub.repo}/tree/"):
                tree = [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in hub.files.items()
                ]
                self._send(json.dumps(tree).encode(), body)
            elif path.startswith(f"/api/models/{hub.repo}"):
                siblings = [{"rfilename": name} for name in hub.files]
                self._send(json.dumps({"id": hub.repo, "sha": COMMIT, "siblings": siblings}).encode(), body)
            elif path.startswith(prefix) and (name := path.removeprefix(prefix).partition("/")[2]) in hub.files:
                if body:
                    hub.asked.append(name)
                self._send(hub.files[name], body, held=name.endswith(".safetensors"))
            else:
                self.send_error(404)

        def _send(self, data: bytes, body: bool, held: bool = False) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "application/json")
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            sent = 0
            while body and sent < len(data):
                if held and not hub.await_room(sent):
                    return
                piece = data[sent : min(sent + PIECE, hub.allowed) if held else None]
                self.wfile.write(piece)
                sent += len(piece)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who fetches may go away
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        with hub.changed:
            hub.closing = True
            hub.changed.notify_all()
        server.shutdown()
        server.server_close()
