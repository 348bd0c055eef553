"""`python -m services.local up|down|status|logs`: the services on this machine, without containers."""

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from anamnesis import installation
from anamnesis.kit.settings import load
from services.local import presence
from services.local.logfile import tail
from services.local.screen import Screen
from services.local.settings import LocalSettings
from services.local.supervisor import (
    CannotStart,
    Supervisor,
    command_for,
    require_free_ports,
    service_key,
    short,
    specs,
)

NAMES = ("memory", "ingest", "gateway")
NOT_RUNNING = 3  # exit status of `status`, as service managers have it


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 = done, 1 = something stands in the way, 2 = wrong arguments, 3 = not running."""
    options = _parser().parse_args(arguments)
    settings = load(LocalSettings)
    if options.command == "up":
        return _detach(settings) if options.detach else up(settings, detached=options.detached)
    settings = installation.located(settings)
    if options.command == "down":
        return down(settings)
    if options.command == "status":
        return status(settings)
    return logs(settings, options.service, options.lines, options.follow)


def up(settings: LocalSettings, detached: bool) -> int:
    """Run the services until told to stop."""
    screen = Screen()
    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        screen.line(f"The data directory {settings.data} cannot be made: {error.strerror}")
        return 1
    lock = presence.Lock(settings.data)
    if not lock.take():
        return _runs_already(settings, screen)
    try:
        require_free_ports(settings)
        services = specs(settings, service_key(settings))
        presence.note(settings.data)
        supervisor = Supervisor(settings, services, screen, on_ready=_let_go if detached else None)
        return asyncio.run(supervisor.run())
    except CannotStart as error:
        screen.line(f"Anamnesis cannot start: {error}")
        return 1
    finally:
        presence.clear(settings.data)
        lock.release()


def down(settings: LocalSettings) -> int:
    """Stop what runs in this data directory, and wait for its end."""
    running = presence.read(settings.data)
    screen = Screen()
    if running is None:
        if installation.held(settings.data):
            screen.line("Anamnesis is just starting or stopping; try again in a moment")
            return 1
        screen.line(f"Anamnesis does not run in {short(settings.data)}")
        return 0
    screen.begin("stopping")
    os.kill(running.pid, signal.SIGTERM)
    began = time.monotonic()
    dots = 0
    while installation.held(settings.data):
        waited = time.monotonic() - began
        if waited > _down_within(settings):
            screen.finish(f"still running after {waited:.0f} s (pid {running.pid}); see 'logs'")
            return 1
        if waited > 2 + dots:
            screen.dot()
            dots += 1
        time.sleep(0.05)
    screen.finish("stopped; the data stays")
    return 0


def status(settings: LocalSettings) -> int:
    """Say what runs: 0 = all ready, 1 = not all, 3 = nothing."""
    screen = Screen()
    running = presence.read(settings.data)
    if running is None:
        screen.line(f"Anamnesis does not run in {short(settings.data)}; './deploy.sh local' starts it")
        return NOT_RUNNING
    screen.line(f"Anamnesis at {running.address}, data in {short(settings.data)} (supervisor: pid {running.pid})")
    all_ready = True
    for name, service in running.services.items():
        ready = _ready(service.address)
        all_ready = all_ready and ready
        state = "ready" if ready else service.state
        again = f", started again {service.restarts} times" if service.restarts else ""
        screen.line(f"  {name:<8} {state:<10} {service.address}  pid {service.pid or '-'}{again}")
    return 0 if all_ready else 1


def logs(settings: LocalSettings, service: str | None, lines: int, follow: bool) -> int:
    """Print the end of the services' logs, and go on with what they write when asked to."""
    names = NAMES if service is None else (service,)
    paths = {name: settings.data / "logs" / f"{name}.log" for name in names}
    if not any(path.exists() for path in paths.values()):
        print(f"There are no logs in {short(settings.data / 'logs')} yet", file=sys.stderr)
        return 1
    screen = Screen()
    readers = {name: _new_lines(path) for name, path in paths.items()}
    for name, path in paths.items():
        if follow:
            next(readers[name])  # takes its place at the end before the last lines are read
        for line in tail(path, lines):
            screen.output(name, line)
    while follow:
        for name, reader in readers.items():
            for line in next(reader):
                screen.output(name, line)
        time.sleep(0.2)
    return 0


def _new_lines(path: Path) -> Iterator[list[str]]:
    """Whole lines added to a file since the last look, at most 1 MiB a look, through its rotations."""
    identity, offset, rest = None, None, b""
    while True:
        found = b""
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            present = os.fstat(file.fileno())
            if offset is None:
                offset = present.st_size
            elif identity not in (None, present.st_ino) or present.st_size < offset:
                offset = 0
            identity = present.st_ino
            file.seek(offset)
            found = file.read(1 << 20)
            offset += len(found)
        *whole, rest = (rest + found).split(b"\n")
        yield [line.decode("utf-8", "replace") for line in whole]


def _detach(settings: LocalSettings) -> int:
    """Start a supervisor of its own session, pass on what it says until it is ready, and leave it alone."""
    if installation.held(settings.data):
        return _runs_already(settings, Screen())
    command = (sys.executable, "-P", "-m", "services.local", "up", "--detached")
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    assert process.stdout is not None
    try:
        while piece := os.read(process.stdout.fileno(), 4096):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        return process.wait(_down_within(settings)) or 1
    # It has closed its output: it is ready, or it has ended.
    try:
        return process.wait(0.5)
    except subprocess.TimeoutExpired:
        process.returncode = 0  # ours no longer: nothing waits for it, and none is reported as left behind
        print("It runs in the background; './deploy.sh status', 'logs' and 'down' are there for it.")
        return 0


def _down_within(settings: LocalSettings) -> float:
    """Seconds that stopping may take: each service may use its whole bound, one after the other."""
    return len(NAMES) * settings.local_stop_within + 10.0


def _let_go() -> None:
    """Close the standard streams, which tells the one who started us that all is ready."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _runs_already(settings: LocalSettings, screen: Screen) -> int:
    running = presence.read(settings.data)
    where = f" at {running.address} (pid {running.pid})" if running is not None else ""
    stop = "'./deploy.sh down' stops it; what is set since counts from the next start"
    screen.line(f"Anamnesis already runs in {short(settings.data)}{where}; {stop}")
    if running is None or not running.ready:
        return 1
    screen.line(f"'{command_for(settings.data)} login' makes a link that logs you in")
    return 0


def _ready(address: str) -> bool:
    try:
        return httpx.get(address + "/ready", timeout=3.0, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up", help="start the services and watch over them")
    starting.add_argument("--detach", action="store_true", help="return once they are ready; they go on")
    starting.add_argument("--detached", action="store_true", help=argparse.SUPPRESS)
    commands.add_parser("down", help="stop them; the data stays")
    commands.add_parser("status", help="what runs, and whether it is ready")
    reading = commands.add_parser("logs", help="the services' logs")
    reading.add_argument("service", nargs="?", choices=NAMES, help="one of them (default: all)")
    reading.add_argument("-n", "--lines", type=int, default=50, help="so many of the last lines (default: 50)")
    reading.add_argument("-f", "--follow", action="store_true", help="go on with what they write; Ctrl-C ends it")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
