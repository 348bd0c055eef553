"""Searches texts for regular expressions in a process of its own, which may be killed.

Run as a script, with the standard library only. Asked by lines of JSON: `{"texts": [...]}` and then, as often as is
wanted, `{"pattern": "..."}`, answered by one byte: `1` found, `0` not found, `e` no valid pattern. A search that takes
too long ends the process, also when nobody is left to wait for it.
"""

import json
import re
import resource
import signal
import sys

MEMORY = 1 << 30  # bytes


def main(seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    texts: list[str] = []
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        if "texts" in asked:
            texts = asked["texts"]
            continue
        signal.alarm(seconds)  # the search holds the interpreter: only the system can end it
        try:
            found = re.compile(asked["pattern"], re.IGNORECASE)
            answer = b"1" if any(found.search(text) for text in texts) else b"0"
        except (re.error, OverflowError, RecursionError, MemoryError):
            answer = b"e"
        signal.alarm(0)
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
