"""A container engine for the tests: the one that is installed, or one that a tool starts for them.

The tool (`ANAMNESIS_TEST_DOCKER_ENGINE`, by default `../shared/tools/docker-engine`) gives a machine without Docker an
engine: it starts once for building, on the host's network, and once for running, in a network namespace of its own.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[2]
NAMESPACE = "docker-engine"
CLONE_NEWNET = 0x40000000

T = TypeVar("T")


class NoEngine(RuntimeError):
    """There is no engine to be had here; the message says what is lacking."""


@dataclass(frozen=True)
class Engine:
    """How to build and run containers on this machine."""

    environment: Mapping[str, str]
    """What docker and compose need to know, besides the environment of this process."""
    tool: Path | None = None
    """The tool that started it; none where Docker is installed."""

    def build_mode(self) -> None:
        """Make ready for builds."""
        if self.tool:
            _call(self.tool, "stop")
            _call(self.tool, "build")
            _call(self.tool, "base")

    def run_mode(self) -> None:
        """Make ready for networks and published ports."""
        if self.tool:
            _call(self.tool, "stop")
            _call(self.tool, "run")

    def stop(self) -> None:
        """Stop what was started. Its newest images stay, so that the next run is quick; what they replaced goes."""
        if self.tool:
            for superseded in (["image", "prune", "--force"], ["builder", "prune", "--force", "--keep-storage", "3GB"]):
                environment = {**os.environ, **self.environment}
                subprocess.run(["docker", *superseded], capture_output=True, timeout=120, env=environment)
            _call(self.tool, "stop")

    def inside(self, work: Callable[[], T]) -> T:
        """Do `work` where 127.0.0.1 is the address that ports are published on."""
        with ThreadPoolExecutor(1, initializer=_enter if self.tool else None) as pool:
            return pool.submit(work).result()


def find() -> Engine:
    """The engine of this machine. Raises NoEngine."""
    probe = ["docker", "version", "--format", "{{.Server.Version}}"]
    if shutil.which("docker") and subprocess.run(probe, capture_output=True, timeout=60).returncode == 0:
        if subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=60).returncode:
            raise NoEngine("Docker is installed without its Compose plugin")
        return Engine({})
    tool = Path(os.environ.get("ANAMNESIS_TEST_DOCKER_ENGINE", ROOT.parent / "shared/tools/docker-engine"))
    if not os.access(tool, os.X_OK):
        raise NoEngine(f"no Docker engine answers, and there is no {tool.name} tool to start one")
    if os.geteuid() != 0:
        raise NoEngine(f"no Docker engine answers, and {tool.name} needs root to start one")
    _call(tool, "setup", limit=600)
    exports = _call(tool, "env").removeprefix("export ").split()
    environment = dict(export.split("=", 1) for export in exports)
    if subprocess.run(probe, capture_output=True, timeout=60, env={**os.environ, **environment}).returncode == 0:
        raise NoEngine(f"the engine of {tool.name} is in use by somebody else")
    # The tool's base image carries the wheels of this machine, and builds go over the host's network.
    return Engine({**environment, "BUILD_NETWORK": "host", "TORCH_INDEX_URL": ""}, tool)


def _call(tool: Path, verb: str, limit: float = 300) -> str:
    done = subprocess.run([tool, verb], capture_output=True, text=True, timeout=limit)
    if done.returncode:
        raise NoEngine(f"'{tool.name} {verb}' failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _enter() -> None:
    """Move this thread, and it alone, into the engine's network namespace."""
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(f"/run/netns/{NAMESPACE}", os.O_RDONLY)
    try:
        if library.setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(descriptor)
