"""Starts the services one after the other, watches them, and stops them in reverse order."""

import asyncio
import os
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from anamnesis import installation
from anamnesis.contracts.keys import LoginLink
from anamnesis.kit import files
from anamnesis.kit.auth import new_key
from anamnesis.kit.errors import from_wire
from services.local import presence
from services.local.child import Child, Spec, State
from services.local.logfile import LogFile
from services.local.screen import Screen
from services.local.settings import LocalSettings

PROBE = 2.0  # seconds for one answer to a probe
PAUSE = 0.2  # seconds between two probes
SILENT = 2.0  # seconds that a wait may take before dots are shown
TELL = 10.0  # seconds between two times that it is shown what a service waits for


class CannotStart(Exception):
    """Why the services cannot run, in words for the person who starts them."""


def specs(settings: LocalSettings, service_key: str) -> list[Spec]:
    """The services in the order of their start: each needs those before it."""
    host = reachable(settings.host)
    ports = {"memory": settings.memory_port, "ingest": settings.ingest_port, "gateway": settings.gateway_port}
    urls = {name: f"http://{host}:{port}" for name, port in ports.items()}
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",  # code comes from where it is installed, never from the present directory
        "ANAMNESIS_DATA_DIR": str(settings.data.resolve()),
        "ANAMNESIS_SERVICE_KEY": service_key,
        "ANAMNESIS_MEMORY_URL": urls["memory"],
        "ANAMNESIS_INGEST_URL": urls["ingest"],
    }
    return [Spec(name, (sys.executable, "-m", f"services.{name}"), environment, url) for name, url in urls.items()]


def reachable(host: str) -> str:
    """The address to reach a service that binds `host` from this machine."""
    if host in ("0.0.0.0", ""):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def service_key(settings: LocalSettings) -> str:
    """The key between the services: as given, else kept in `service.key` (mode 600), made when there is none."""
    if settings.service_key is not None:
        return settings.service_key.get_secret_value()
    path = settings.data / "service.key"
    try:
        kept = path.read_text().strip()
    except FileNotFoundError:
        kept = ""
    if kept:
        return kept
    key = new_key()
    files.replace(path, key + "\n")
    return key


def require_free_ports(settings: LocalSettings) -> None:
    """Raise `CannotStart` for a port that something else listens on."""
    for name in ("memory", "ingest", "gateway"):
        port: int = getattr(settings, f"{name}_port")
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, port))
            except OSError as error:
                raise CannotStart(
                    f"{settings.host}:{port} for {name} cannot be used ({error.strerror}). Stop what uses it "
                    f"(lsof -i :{port} shows it), or choose another port: ANAMNESIS_{name.upper()}_PORT=..."
                ) from None


class Supervisor:
    """The services of one machine. `run` returns the exit status of the whole."""

    def __init__(
        self,
        settings: LocalSettings,
        services: Sequence[Spec],
        screen: Screen,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        """With `on_ready` it goes to the background: the services' logs are not shown, their files have them."""
        self._settings = settings
        self._screen = screen
        self._on_ready = on_ready
        self._ready = False
        self._stop = asyncio.Event()
        self._begun = presence.begun(os.getpid())
        self._children: list[Child] = []
        self._children.extend(self._child(spec) for spec in services)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._asked = 0

    async def run(self) -> int:
        """Start all, wait until told to stop, stop all. 0 = stopped on request, 1 = could not go on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        failure: str | None = None
        async with httpx.AsyncClient(timeout=PROBE, trust_env=False) as probe:
            watchers: list[asyncio.Task[None]] = []
            try:
                for child in self._children:
                    self._tasks[child.spec.name] = asyncio.create_task(child.run())
                    watchers.append(asyncio.create_task(self._watch(child, probe)))
                    await self._until_ready(child)
                    if self._stop.is_set():
                        break
                else:
                    self._ready = True
                    self._describe()
                    spec = self._children[-1].spec
                    self._screen.line(greeting(self._settings, spec.address, await login_link(spec, probe)))
                    if self._on_ready is not None:
                        self._on_ready()
                    failure = await self._until_the_end()
            except CannotStart as error:
                failure = str(error)
            finally:
                for watcher in watchers:
                    watcher.cancel()
                await asyncio.gather(*watchers, return_exceptions=True)
                await self._stop_all()
        if failure is not None:
            self._screen.line(f"Anamnesis has stopped: {failure}")
        return 0 if failure is None else 1

    def _child(self, spec: Spec) -> Child:
        return Child(
            spec,
            LogFile(self._settings.data / "logs" / f"{spec.name}.log", self._settings.local_log_bytes),
            on_output=self._output,
            on_message=self._screen.output,
            on_change=self._describe,
            stop_within=self._settings.local_stop_within,
        )

    async def _until_ready(self, child: Child) -> None:
        """Wait for the first readiness; raise `CannotStart` when it does not come.

        A service that says why it is not ready, and has something new to say, is at work (it fetches a model, and
        tells how much of it is there): only its silence is bounded.
        """
        began = heard = told = time.monotonic()
        said: set[str] = set()
        within = self._settings.local_start_within
        self._screen.begin(f"{child.spec.name:<8}starting")
        dots = 0
        while child.state is not State.RUNNING and not self._stop.is_set():
            await asyncio.sleep(0.05)
            waited = time.monotonic() - began
            if child.reason is not None:
                if child.reason not in said:
                    said.add(child.reason)
                    heard = time.monotonic()
                if time.monotonic() - told > TELL:
                    told = time.monotonic()
                    self._screen.output(child.spec.name, child.reason)
            if child.state is State.GIVEN_UP:
                self._screen.finish("failed")
                raise CannotStart(f"{child.spec.name} does not start. {self._last_words(child)}")
            if time.monotonic() - heard > within:
                self._screen.finish("failed")
                why = f": {child.reason}" if child.reason is not None else ""
                raise CannotStart(
                    f"{child.spec.name} was not ready within {within:.0f} s{why}. {self._last_words(child)}"
                )
            if waited > SILENT + dots:
                self._screen.dot()
                dots += 1
        if not self._stop.is_set():
            self._screen.finish(f"ready in {time.monotonic() - began:.1f} s")

    async def _until_the_end(self) -> str | None:
        """Wait for the request to stop (none), or for a service that is given up (why)."""
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({stop, *self._tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if self._stop.is_set():
            return None
        for child in self._children:
            if child.state is State.GIVEN_UP:
                return f"{child.spec.name} keeps crashing. {self._last_words(child)}"
        return "a service ended"

    async def _watch(self, child: Child, probe: httpx.AsyncClient) -> None:
        """After every start, ask until it is ready."""
        while True:
            if child.state is State.STARTING and child.pid is not None:
                asked = child.pid
                try:
                    answer = await probe.get(child.spec.address + "/ready")
                    if answer.status_code == httpx.codes.OK and child.pid == asked:
                        child.running()
                    elif answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                        child.reason = from_wire(answer.status_code, answer.content).message
                except httpx.HTTPError:
                    pass
            await asyncio.sleep(PAUSE)

    async def _stop_all(self) -> None:
        self._ready = False
        for child in reversed(self._children):
            task = self._tasks.get(child.spec.name)
            if task is None:
                continue
            self._screen.begin(f"{child.spec.name:<8}stopping")
            ended = await child.stop()
            await task
            self._screen.finish("stopped" if ended else "did not stop in time, killed")

    def _on_signal(self) -> None:
        self._asked += 1
        self._stop.set()
        if self._asked > 1:
            for child in reversed(self._children):
                child.kill()

    def _output(self, name: str, text: str) -> None:
        if self._on_ready is None:
            self._screen.output(name, text)

    def _last_words(self, child: Child) -> str:
        log = self._settings.data / "logs" / f"{child.spec.name}.log"
        if not child.last_lines:
            return f"It said nothing; its log is {log}"
        return f"The end of {log}:\n" + "\n".join(f"    {line}" for line in child.last_lines)

    def _describe(self) -> None:
        services = {
            child.spec.name: presence.ServiceState(
                state=child.state.value, pid=child.pid, restarts=child.restarts, address=child.spec.address
            )
            for child in self._children
        }
        description = presence.Presence(
            pid=os.getpid(),
            begun=self._begun,
            address=self._children[-1].spec.address,
            ready=self._ready,
            services=services,
        )
        presence.write(self._settings.data, description)


async def login_link(gateway: Spec, probe: httpx.AsyncClient) -> str | None:
    """An address that logs a browser in, once; none where the gateway gives none."""
    headers = {"Authorization": f"Bearer {gateway.environment.get('ANAMNESIS_SERVICE_KEY', '')}"}
    try:
        answer = await probe.post(gateway.address + "/api/login-links", headers=headers)
        return gateway.address + LoginLink.model_validate_json(answer.content).path if answer.is_success else None
    except (httpx.HTTPError, ValueError):
        return None


def greeting(settings: LocalSettings, address: str, link: str | None) -> str:
    """Where things are, three commands to try, and at the end the one address to open."""
    data = settings.data.resolve()
    command = command_for(data)
    return "\n".join(
        (
            "",
            f"Anamnesis is ready at {address}",
            "",
            f"  data  {short(data)}",
            f"  key   {short(data / 'api.key')}",
            f"  logs  {short(data / 'logs')}",
            "",
            "Try:",
            f"  {command} ingest ~/.claude/projects",
            f'  {command} recall "how did we fix the flaky upload test?"',
            f"  {command} status",
            "",
            f"Open {link or address}",
            f"  (the link works once; '{command} login' makes another)"
            if link is not None
            else f"  ('{command} login' makes a link that logs you in)",
            "",
        )
    )


def command_for(data: Path) -> str:
    """How to call the `anamnesis` command from here, so that it finds the services of this data directory."""
    command = shlex.quote(command_path())
    if installation.found().resolve() == data.resolve():
        return command
    return f"ANAMNESIS_DATA_DIR={shlex.quote(str(data.resolve()))} {command}"


def command_path() -> str:
    """How to call the `anamnesis` command from here."""
    command = Path(sys.executable).parent / "anamnesis"
    if (known := shutil.which("anamnesis")) is not None and Path(known) == command:
        return "anamnesis"
    try:
        return str(command.relative_to(Path.cwd()))
    except ValueError:
        return str(command)


def short(path: Path) -> str:
    """A path with the home directory as `~`."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return str(path)
