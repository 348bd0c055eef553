"""`python leash.py SUPERVISOR COMMAND...`: become COMMAND, and end when the process SUPERVISOR ends.

The kernel sends the signal however the supervisor dies, kill -9 included, so that no service is left
behind alone. A program of its own because code between fork and exec is not safe beside threads; it
imports next to nothing because every start waits for it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(supervisor: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != supervisor:  # it died before the line above
            raise SystemExit(1)
    os.execv(command[0], command)  # noqa: S606 - the command is the one our own supervisor gave


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
