"""The whole stack in a directory of its own: a copy of the project, its .env, its containers and volumes."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx

from tests.compose.engine import ROOT, Engine
from tests.ports import free_ports

PROJECT = "anamnesis-test"
PARTS = (
    ".dockerignore",
    "Dockerfile",
    "deploy",
    "deploy.sh",
    "docker-compose.yml",
    "requirements-light.lock",
    "requirements.lock",
    "services",
    "shared",
    "tests/compose",
    "tests/mongo_peer",
)
KEYS = ("ANAMNESIS_API_KEY", "ANAMNESIS_SERVICE_KEY", "ANAMNESIS_MONGODB_PASSWORD")
UNUSED = dict.fromkeys(KEYS, "not-used-here")
"""What Compose must be given to read its file, where `up` has made no .env yet."""
SSH_FILES = ("claude_key", "known_hosts")
MODEL = f"{PROJECT}-model"
REACHED = """
import time, urllib.error, urllib.request
deadline = time.monotonic() + 60
while True:
    try:
        urllib.request.urlopen("http://model:8000/v1/models", timeout=5).close()
        break
    except urllib.error.URLError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.1)
"""
T = TypeVar("T")


@dataclass
class Stack:
    """Builds, starts and removes it, by ./deploy.sh."""

    engine: Engine
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    started: str = ""
    """What `start` printed."""

    def prepare(self, transcripts: Path) -> None:
        """Copy the project, so that nobody's .env is touched, and choose names and ports of its own."""
        for part in PARTS:
            source, target = ROOT / part, self.directory / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        for name in SSH_FILES:
            (self.directory / name).write_text("not a real one\n")
            (self.directory / name).chmod(0o644)
        gateway, mongo = (3010, 5438) if self.engine.tool else free_ports(2)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ANAMNESIS_", "COMPOSE_", "AWS_"))}
        self.environment = {
            **inherited,
            **self.engine.environment,
            "COMPOSE_PROJECT_NAME": PROJECT,
            "COMPOSE_PROGRESS": "plain",
            "ANAMNESIS_TAG": "test",
            "MONGO_IMAGE": "anamnesis-mongo-peer:test",
            "CLAUDE_PROJECTS": str(transcripts),
            "ANAMNESIS_GATEWAY_PORT": str(gateway),
            "ANAMNESIS_MONGODB_PORT": str(mongo),
            "ANAMNESIS_OPENAI_URLS": "http://model:8000/v1",
            # What is asked here is whether things work, not how fast a busy machine is.
            "ANAMNESIS_RECALL_WAIT": "30",
            "ANAMNESIS_HOOK_WAIT": "30",
        }

    def build(self) -> None:
        """Build the images, the database's stand-in among them, before `up` finds them built."""
        self.run("docker", "compose", "-p", "anamnesis-peer", "-f", "tests/compose/peer.yml", "build", limit=600)
        self.run("docker", "compose", "build", limit=1200, **UNUSED)
        self.run("docker", "compose", "build", "gateway", limit=600, **UNUSED, **self.ssh)

    @property
    def ssh(self) -> dict[str, str]:
        """What makes of the gateway one that runs `claude` through SSH, in an image of its own."""
        key, hosts = (self.directory / name for name in SSH_FILES)
        return {
            "ANAMNESIS_TAG": "test-ssh",
            "ANAMNESIS_CLAUDE_CLI": "claude",
            "ANAMNESIS_CLAUDE_SSH": "me@127.0.0.1",
            "ANAMNESIS_CLAUDE_SSH_KEY": str(key),
            "ANAMNESIS_CLAUDE_SSH_KNOWN_HOSTS": str(hosts),
        }

    def deploy(self, verb: str, *arguments: str, limit: float = 400) -> str:
        """Call ./deploy.sh as a person does."""
        return self.run("./deploy.sh", verb, *arguments, limit=limit)

    def run(self, *command: str, limit: float = 60, **environment: str) -> str:
        """Run a command in the stack's directory; what it printed. A failure shows the end of what it printed."""
        done = subprocess.run(
            command,
            cwd=self.directory,
            env={**self.environment, **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit,
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(command[:6])} ended with {done.returncode}:\n{done.stdout[-6000:]}")
        return done.stdout

    def python(self, service: str, program: str) -> str:
        """Run a Python program in a service's container, with its rights."""
        return self.run("docker", "compose", "exec", "-T", service, "python", "-c", program)

    def inspect(self, service: str, template: str) -> str:
        """One fact that the engine knows of a service's container."""
        identity = self.run("docker", "compose", "ps", "--all", "--quiet", service).strip()
        return self.run("docker", "inspect", "--format", template, identity).strip()

    def setting(self, name: str) -> str:
        """A value of the stack's .env."""
        match = re.search(rf"^{name}=(.*)$", (self.directory / ".env").read_text(), re.MULTILINE)
        assert match, name
        return match[1]

    def talk(self, work: Callable[[httpx.Client], T]) -> T:
        """Do `work` with a client of the gateway that holds the API key."""

        def connected() -> T:
            url = f"http://127.0.0.1:{self.environment['ANAMNESIS_GATEWAY_PORT']}"
            key = {"Authorization": f"Bearer {self.setting('ANAMNESIS_API_KEY')}"}
            with httpx.Client(base_url=url, headers=key, timeout=30, trust_env=False) as client:
                return work(client)

        return self.engine.inside(connected)

    def browse(self, cookie: str, work: Callable[[httpx.Client], T]) -> T:
        """Do `work` as a browser does that has this session: with its cookie, and no key."""

        def visit(client: httpx.Client) -> T:
            del client.headers["Authorization"]
            client.headers["Origin"] = str(client.base_url).rstrip("/")
            client.cookies.set("anamnesis_session", cookie)
            return work(client)

        return self.talk(visit)

    @contextmanager
    def model(self) -> Iterator[None]:
        """A model that answers, in a container where only what has a way out can reach it."""
        program = (Path(__file__).parent / "model.py").read_text()
        place = ("--name", MODEL, "--network", f"{PROJECT}_outside", "--network-alias", "model")
        self.run("docker", "run", "--detach", *place, "--read-only", "anamnesis-gateway:test", "python", "-c", program)
        try:
            self.python("gateway", REACHED)
            yield
        finally:
            self.run("docker", "rm", "--force", MODEL)

    def wait_ready(self, limit: float = 120) -> float:
        """Wait until the gateway, and with it memory and the database, can work; the seconds that took."""
        started = time.monotonic()

        def poll(client: httpx.Client) -> float:
            while time.monotonic() - started < limit:
                try:
                    if client.get("/ready", timeout=5).status_code == 200:
                        return time.monotonic() - started
                except httpx.TransportError:
                    pass
                time.sleep(0.25)
            raise AssertionError(f"not ready within {limit:.0f} s:\n{self.logs()}")

        return self.talk(poll)

    def logs(self) -> str:
        return self.run("docker", "compose", "logs", "--no-color", "--tail", "40")

    def remove(self) -> None:
        """Remove containers, networks and volumes; a failure is shown and does not hide the test's own."""
        try:
            down = ("down", "--volumes", "--remove-orphans", "--timeout", "5")
            self.run("docker", "compose", *down, limit=120, **UNUSED)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            print(f"the test's containers may be left: {error}", file=sys.stderr)
