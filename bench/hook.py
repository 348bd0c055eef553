"""How long the command hook takes, beside a bare Python and curl, against a gateway that answers at once.

    python -m bench.hook [RUNS]

Times are those of the `python3` on the path; where that is a wrapper, its start is in all of them.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.integrations.claude_code.hooking import HOOK, KEY, PYTHON, answering, gateway
from tests.integrations.claude_code.payloads import payload

RESULTS = Path(__file__).parent / "results" / "hook.json"


def measure(runs: int) -> dict[str, float]:
    """Milliseconds, the median of `runs`, taken in turns so that all meet the same machine."""
    with tempfile.TemporaryDirectory() as home, gateway(answering(b"{}")) as url:
        environment = {"HOME": home, "PATH": os.environ["PATH"], "ANAMNESIS_URL": url, "MEMORY_KEY": KEY}
        curl = ["curl", "-s", "-m", "3", "-H", f"X-API-Key: {KEY}", "--data-binary", "@-", f"{url}/hooks/SessionStart"]
        commands = {
            "python3 -c pass": ["python3", "-c", "pass"],
            "python3 -S -I -c pass": [*PYTHON, "-c", "pass"],
            "python3 -S -I -c import http.client": [*PYTHON, "-c", "import http.client"],
            "curl": curl,
            "hook UserPromptSubmit": [*PYTHON, str(HOOK), "UserPromptSubmit"],
            "hook Stop": [*PYTHON, str(HOOK), "Stop"],
        }
        bodies = {name: payload(name.split()[-1], "/x.jsonl") for name in commands if name.startswith("hook")}
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, command in commands.items():
                body = bodies.get(name, b"{}")
                began = time.perf_counter()
                subprocess.run(command, input=body, env=environment, capture_output=True, check=True)
                taken[name].append((time.perf_counter() - began) * 1000)
    return {name: round(statistics.median(times), 1) for name, times in taken.items()}


def main() -> None:
    found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
    bare = found["python3 -c pass"]
    for name, milliseconds in found.items():
        sys.stdout.write(f"{name:<38}{milliseconds:7.1f} ms  {milliseconds / bare:5.2f} x python3 -c pass\n")
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
