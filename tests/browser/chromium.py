"""The Chromium of this machine: where it is, and how a test starts it."""

import os
import shutil
import subprocess

VARIABLE = "ANAMNESIS_TEST_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Missing(Exception):
    """There is no Chromium; the message says how to get one."""


def find() -> str:
    """The path of the binary. Raises `Missing`."""
    named = os.environ.get(VARIABLE)
    found = named or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        raise Missing(f"there is no Chromium on this machine: install one, or name one by {VARIABLE}")
    return found


def arguments() -> list[str]:
    """Root's Chromium does not start with its sandbox."""
    return [*ARGUMENTS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]


def fetch() -> str:
    """The path of the binary, installed from Debian's packages where there is none and we may. Raises `Missing`."""
    try:
        return find()
    except Missing:
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise
    install = ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "--quiet"], install):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=environment)
        except subprocess.TimeoutExpired as error:
            raise Missing(f"{command[1]} of apt-get took too long") from error
        if done.returncode and command is install:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise Missing(f"apt-get cannot install chromium: {last}")
    return find()
