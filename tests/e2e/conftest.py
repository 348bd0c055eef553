"""All services as real processes on free ports of the loopback, on a data directory of their own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
KEY = "anm_test-first-key-of-the-end-to-end-tests"
SERVICE_KEY = "anm_test-service-key-of-the-end-to-end-tests"
START = 180  # seconds that a service may take to be ready on a loaded machine
SERVICES = ("memory", "ingest", "gateway")


@dataclass
class Stack:
    """The services of one data directory. `start` and `kill` work on one of them."""

    data: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=lambda: dict(zip(SERVICES, free_ports(3), strict=True)))
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def url(self, service: str = "gateway") -> str:
        return f"http://127.0.0.1:{self.ports[service]}"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ANAMNESIS_")}
        ports = {f"ANAMNESIS_{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        return {
            **kept,
            **ports,
            "ANAMNESIS_DATA_DIR": str(self.data),
            "ANAMNESIS_API_KEY": KEY,
            "ANAMNESIS_SERVICE_KEY": SERVICE_KEY,
            "ANAMNESIS_URL": self.url(),
            "ANAMNESIS_MEMORY_URL": self.url("memory"),
            "ANAMNESIS_INGEST_URL": self.url("ingest"),
            "ANAMNESIS_TRANSCRIPT_ROOTS": str(self.data / "none"),
            "PYTHONUNBUFFERED": "1",
            **self.extra,
        }

    def start(self, *services: str) -> "Stack":
        """Start services (all by default) and wait until they are ready."""
        self.launch(*services or SERVICES)
        for service in services or SERVICES:
            self.await_ready(service)
        return self

    def launch(self, *services: str) -> None:
        """Start services without waiting for them."""
        for service in services:
            log = (self.data / f"{service}.log").open("ab")
            self.processes[service] = subprocess.Popen(
                [sys.executable, "-m", f"services.{service}"], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
            log.close()

    def await_ready(self, service: str, within: float = START) -> None:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if self.processes[service].poll() is not None:
                break
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url(service)}/ready", timeout=2, trust_env=False).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"{service} is not ready:\n{self.log(service)[-3000:]}")

    def log(self, service: str) -> str:
        return (self.data / f"{service}.log").read_text(errors="replace")

    def kill(self, service: str, number: int = signal.SIGKILL) -> int:
        """Send a signal and wait for the end; the exit code."""
        process = self.processes.pop(service)
        process.send_signal(number)
        return process.wait(timeout=120)

    def stop(self) -> None:
        for service in reversed(SERVICES):
            if service in self.processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.kill(service, signal.SIGTERM)

    def client(self, service: str = "gateway", timeout: float = 60) -> httpx.Client:
        return httpx.Client(base_url=self.url(service), headers={"X-API-Key": KEY}, timeout=timeout, trust_env=False)


@contextlib.contextmanager
def running(data: Path, *services: str | None, extra: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """A stack with these services started (all by default; none for `None`); nothing of it is left afterwards."""
    data.mkdir(parents=True, exist_ok=True)
    stack = Stack(data, extra or {})
    try:
        if services != (None,):
            stack.start(*filter(None, services))
        yield stack
    finally:
        stack.stop()
        for process in stack.processes.values():
            process.kill()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All services, started once for the tests that leave them running."""
    with running(tmp_path_factory.mktemp("stack")) as one:
        yield one
