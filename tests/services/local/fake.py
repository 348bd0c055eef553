"""A small service for the supervisor's tests: `fake.py PORT [behaviour...]`.

It answers /ready on the port. Behaviours: `crash` ends at once, `bad` ends as with bad settings,
`crash-once=FILE` ends at once the first time, `stubborn` ignores SIGTERM, `never` is never ready,
`busy=SECONDS` is ready after so long and tells until then how far it is, `child=FILE` starts a process
of its own and writes its pid, `say=TEXT` prints it for the person.
"""

import http.server
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

BEHAVIOURS = dict(argument.partition("=")[::2] for argument in sys.argv[2:])
BEGAN = time.monotonic()


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        lasted = time.monotonic() - BEGAN
        busy = lasted < float(BEHAVIOURS.get("busy", 0))
        told = {"error": {"code": "unavailable", "message": f"fetching, {lasted:.0f} MB so far", "detail": None}}
        body = json.dumps(told).encode() if busy else b""
        self.send_response(503 if busy or "never" in BEHAVIOURS else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    behaviours = BEHAVIOURS
    print(f"hello from {sys.argv[1]}", file=sys.stderr, flush=True)
    if "say" in behaviours:
        print(behaviours["say"], flush=True)
    if "crash" in behaviours:
        sys.exit(9)
    if "bad" in behaviours:
        sys.exit(2)
    if "crash-once" in behaviours and not Path(behaviours["crash-once"]).exists():
        Path(behaviours["crash-once"]).touch()
        sys.exit(9)
    if "child" in behaviours:
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path(behaviours["child"]).write_text(str(sleeper.pid))

    def stop(*_: object) -> None:
        print("goodbye", file=sys.stderr, flush=True)
        if "stubborn" not in behaviours:
            sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answers)
    server.timeout = 0.1
    until = time.monotonic() + 60
    while time.monotonic() < until:
        server.handle_request()


main()
