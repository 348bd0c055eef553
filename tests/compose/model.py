"""A model for the stack's chats: a small server that speaks OpenAI's dialect and says what it was reminded of.

It runs in a container of its own, from the text of this file, so it needs nothing but Python.
"""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = "scripted-1"
MEMORY = re.compile(r"<anamnesis-memory>.*?\n\[1\][^\n]*\n(.*?)(?=\n\[2\]|\n</anamnesis-memory>)", re.DOTALL)


class Model(BaseHTTPRequestHandler):
    """Lists one model, and answers every question with the first memory that came with it, in two pieces."""

    def do_GET(self) -> None:
        self._send("application/json", json.dumps({"object": "list", "data": [{"id": NAME, "object": "model"}]}))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reminded = MEMORY.search(json.dumps(asked["messages"], ensure_ascii=False).replace("\\n", "\n"))
        pieces = ("I remember: ", reminded[1] if reminded else "nothing")
        choices = [
            *({"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in pieces),
            {"index": 0, "delta": {}, "finish_reason": "stop"},
        ]
        head = {"id": "c1", "object": "chat.completion.chunk", "model": NAME}
        frames = [json.dumps({**head, "choices": [choice]}) for choice in choices]
        self._send("text/event-stream", "".join(f"data: {frame}\n\n" for frame in (*frames, "[DONE]")))

    def _send(self, kind: str, body: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body.encode())


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8000), Model).serve_forever()
