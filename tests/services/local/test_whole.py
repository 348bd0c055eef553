"""The real services under the supervisor, used as a new user would, by the commands alone."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from anamnesis import installation
from services.local import presence
from tests.ports import free_ports

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

EXCHANGES = [
    (
        "How do we fix the flaky upload test? It fails once in ten runs on the build machines.",
        "The test waited two seconds for the storage server. I made it wait for the server's ready line instead, "
        "and the flaky upload test passed five hundred runs in a row.",
    ),
    (
        "Which index does the orders table need for the monthly report?",
        "A composite index over customer and month; the report fell from forty seconds to half a second.",
    ),
    (
        "Please write down how the espresso machine in the kitchen is descaled.",
        "Fill the tank with citric acid solution, run two empty shots, wait twenty minutes, and rinse three times.",
    ),
]


class Machine(NamedTuple):
    """A home of its own, with the services' settings for it."""

    home: Path
    environment: dict[str, str]
    printed: str
    """What the start said."""

    @property
    def data(self) -> Path:
        return self.home / "data"

    def run(self, *command: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def local(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("services.local", *arguments)

    def anamnesis(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("services.console.main", *arguments)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Services started in the background once, with some transcripts to read."""
    home = tmp_path_factory.mktemp("home")
    ports = free_ports(3)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANAMNESIS_")},
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}",
        "ANAMNESIS_DATA_DIR": str(home / "data"),
        "ANAMNESIS_GATEWAY_PORT": str(ports[0]),
        "ANAMNESIS_MEMORY_PORT": str(ports[1]),
        "ANAMNESIS_INGEST_PORT": str(ports[2]),
    }
    folder = home / "projects" / "-srv-shop"
    folder.mkdir(parents=True)
    with (folder / "session.jsonl").open("w") as file:
        for number, exchange in enumerate(EXCHANGES):
            for who, text in zip(("user", "assistant"), exchange, strict=True):
                record = {
                    "type": who,
                    "uuid": f"{who}-{number}",
                    "sessionId": "session",
                    "timestamp": f"2026-10-0{number + 1}T10:00:00.000Z",
                    "cwd": "/srv/shop",
                    "message": {"role": who, "content": [{"type": "text", "text": text}]},
                }
                file.write(json.dumps(record) + "\n")
    one = Machine(home, environment, "")
    started = one.local("up", "--detach")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        assert f"Anamnesis is ready at http://127.0.0.1:{ports[0]}" in started.stdout
        yield one._replace(printed=started.stdout)
    finally:
        one.local("down")


def test_what_was_read_is_recalled(machine: Machine) -> None:
    """After an ingest the right exchange comes first, from the question alone, with no settings repeated."""
    done = machine.anamnesis("ingest", "projects")
    assert done.returncode == 0, done.stderr
    assert "new episodes\t3\n" in done.stdout
    found = machine.anamnesis("recall", "how did we fix the flaky upload test?", "--json")
    assert found.returncode == 0, found.stderr
    first = json.loads(found.stdout)["results"][0]
    assert "ready line" in first["summary"] + first["raw_exchange"]
    assert first["project"] == "shop"
    again = machine.anamnesis("ingest", "projects")
    assert "0 with something new" in again.stdout


def test_the_printed_commands_work_as_they_are(machine: Machine) -> None:
    """The three lines to try, typed in another shell and directory, find services with data and ports of their own."""
    (machine.home / ".claude").mkdir()
    (machine.home / ".claude" / "projects").symlink_to(machine.home / "projects")
    elsewhere = machine.home / "elsewhere"
    elsewhere.mkdir()
    lines = re.findall(r"^  (.* (?:ingest|recall|status)\b.*)$", machine.printed, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line],
            env={name: value for name, value in machine.environment.items() if not name.startswith("ANAMNESIS_")},
            cwd=elsewhere,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert "recall" not in line or "ready line" in done.stdout


def test_the_printed_address_logs_in_once(machine: Machine) -> None:
    """The address at the end of the start opens the login page, and its form lets one browser in, to the dashboard."""
    lines = [line for line in machine.printed.splitlines() if line.startswith("Open ")]
    assert len(lines) == 1
    _enter(lines[0].removeprefix("Open "), 303)
    _enter(lines[0].removeprefix("Open "), 401)
    another = machine.anamnesis("login")
    assert another.returncode == 0, another.stderr
    _enter(another.stdout.strip(), 303)
    again = machine.local("up", "--detach")
    assert " login' makes a link" in again.stdout


def _enter(address: str, status: int) -> None:
    """Open the address and send the form of the page, as a browser does."""
    url = httpx.URL(address)
    with httpx.Client(trust_env=False, timeout=30) as browser:
        assert 'name="token"' in browser.get(url).text
        origin = f"{url.scheme}://{url.netloc.decode()}"
        form = {"token": url.params["token"]}
        entered = browser.post(f"{origin}/login", data=form, headers={"Origin": origin})
        assert entered.status_code == status
        assert ("anamnesis_session" in entered.cookies) == (status == 303)
        for page in ("/dashboard", "/chat"):
            shown = browser.get(f"{origin}{page}", headers={"Accept": "text/html"})
            assert shown.status_code == (200 if status == 303 else 303), shown.text
            assert ('<nav id="nav"' in shown.text) == (status == 303)


def test_it_is_found_again_without_settings(machine: Machine) -> None:
    """`status` needs no data directory to find what was started last."""
    bare = {name: value for name, value in machine.environment.items() if not name.startswith("ANAMNESIS_")}
    found = machine._replace(environment=bare).local("status")
    assert found.returncode == 0, found.stdout
    assert found.stdout.startswith("Anamnesis at http://127.0.0.1:")


def test_status_shows_what_runs_and_what_is_held(machine: Machine) -> None:
    """Both statuses succeed: that of the processes and that of the memory."""
    machine.anamnesis("ingest", "projects")
    processes = machine.local("status")
    assert processes.returncode == 0, processes.stdout
    assert [line.split()[:2] for line in processes.stdout.splitlines()[1:]] == [
        ["memory", "ready"],
        ["ingest", "ready"],
        ["gateway", "ready"],
    ]
    memory = machine.anamnesis("status")
    assert memory.returncode == 0, memory.stderr
    assert "episodes\t3 from 2026-10-01" in memory.stdout


def test_episodes_leave_and_come_back(machine: Machine, tmp_path: Path) -> None:
    """What is exported can be deleted and imported; what is forgotten leaves a receipt and stays away."""
    machine.anamnesis("ingest", "projects")
    backup = tmp_path / "backup.jsonl"
    assert machine.anamnesis("episodes", "export", "-o", str(backup)).returncode == 0
    ids = [json.loads(line)["episode_id"] for line in backup.read_text().splitlines()]
    assert len(ids) == 3
    assert machine.anamnesis("episodes", "delete", ids[0], "--may-return", "--yes").returncode == 0
    assert "created\t1\n" in machine.anamnesis("episodes", "import", str(backup)).stdout
    receipt = machine.anamnesis("forget", ids[1], "--yes")
    assert "0 by id, 0 by content, 0 vectors" in receipt.stdout
    blocked = machine.anamnesis("episodes", "import", str(backup))
    assert "kept away by the blocklist\t1\n" in blocked.stdout
    assert machine.anamnesis("episodes", "show", ids[1]).returncode == 1


def test_a_second_start_says_that_it_runs(machine: Machine) -> None:
    """Starting again in the same data directory changes nothing and names the address."""
    again = machine.local("up", "--detach")
    assert again.returncode == 0
    assert "already runs" in again.stdout


def test_a_killed_memory_comes_back_with_everything(machine: Machine) -> None:
    """After a kill -9 of memory it is started again, and answers from what it had acknowledged."""
    machine.anamnesis("ingest", "projects")
    running = presence.read(machine.data)
    assert running is not None
    pid = running.services["memory"].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 90
    while machine.local("status").returncode != 0 or _pid(machine) == pid:
        assert time.monotonic() < until, machine.local("logs").stdout
        time.sleep(0.2)
    listed = machine.anamnesis("episodes", "list", "--json")
    assert json.loads(listed.stdout)["total"] >= 2


def test_logs_hold_no_text_and_no_key(machine: Machine) -> None:
    """What was asked, remembered or used as a key stands in no log."""
    machine.anamnesis("ingest", "projects")
    machine.anamnesis("recall", "how did we fix the flaky upload test?")
    logged = machine.local("logs", "-n", "100000").stdout
    key = (machine.data / "api.key").read_text().strip()
    service_key = (machine.data / "service.key").read_text().strip()
    token = re.search(r"token=([A-Za-z0-9_-]+)", machine.printed)
    assert token is not None
    for secret in (key, service_key, token[1], "flaky", "espresso", "citric"):
        assert secret not in logged
    assert "gateway |" in logged


def test_down_stops_all_and_a_new_start_has_all(machine: Machine) -> None:
    """`down` ends every process; the next start takes seconds and still has what was kept."""
    machine.anamnesis("ingest", "projects")
    before = json.loads(machine.anamnesis("episodes", "list", "--json").stdout)
    assert machine.local("down").returncode == 0
    assert not installation.held(machine.data)
    assert machine.local("status").returncode == 3
    assert machine.local("down").returncode == 0
    assert "cannot reach" in machine.anamnesis("status").stderr
    assert machine.local("up", "--detach").returncode == 0
    assert json.loads(machine.anamnesis("episodes", "list", "--json").stdout) == before


def _pid(machine: Machine) -> int | None:
    running = presence.read(machine.data)
    return running.services["memory"].pid if running is not None else None
