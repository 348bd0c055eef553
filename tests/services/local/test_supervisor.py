"""The supervisor over small real processes: order, restarts, giving up, and leaving nobody behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from anamnesis import installation
from services.local import presence
from services.local.presence import Presence
from tests.ports import free_ports

DRIVE = Path(__file__).with_name("drive.py")
ROOT = Path(__file__).parents[3]


class Driven:
    """A supervisor in a process of its own."""

    def __init__(self, data: Path, services: list[str]) -> None:
        self.data = data
        self.log = data.with_suffix(".out")
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(DRIVE), str(data), *services],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}"},
            )

    def output(self) -> str:
        return self.log.read_text()

    def state(self) -> Presence:
        return Presence.model_validate_json((self.data / "local.json").read_bytes())

    def until(self, condition: Callable[[], bool], seconds: float = 15.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(FileNotFoundError):
                if condition():
                    return
            time.sleep(0.02)
        raise AssertionError(f"it did not happen; the output:\n{self.output()}")

    def until_ready(self) -> Presence:
        self.until(lambda: self.state().ready)
        return self.state()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(15)


Drive = Callable[..., Driven]


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    """Starts supervisors; whatever a test leaves of them is killed."""
    begun: list[Driven] = []

    def start(*services: str) -> Driven:
        begun.append(Driven(tmp_path / f"data{len(begun)}", list(services)))
        return begun[-1]

    yield start
    for driven in begun:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(driven.process.pid).children(recursive=True):
                process.kill()
        driven.process.kill()
        driven.process.wait(10)


def test_services_start_in_order_and_stop_in_reverse(drive: Drive) -> None:
    """Each service is started when the one before it is ready; one signal stops all, last first."""
    a, b = free_ports(2)
    driven = drive(f"memory:{a}", f"gateway:{b}")
    driven.until_ready()
    assert driven.stop() == 0
    moments = re.findall(r"^(\w+) +(starting|stopping)", driven.output(), re.MULTILINE)
    assert moments == [("memory", "starting"), ("gateway", "starting"), ("gateway", "stopping"), ("memory", "stopping")]
    assert driven.output().index(f"hello from {a}") < driven.output().index(f"hello from {b}")


def test_ctrl_c_stops_all(drive: Drive) -> None:
    """SIGINT ends the services in good order, and the whole with status 0."""
    (a,) = free_ports(1)
    driven = drive(f"memory:{a}")
    pid = driven.until_ready().services["memory"].pid
    assert driven.stop(signal.SIGINT) == 0
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert "goodbye" in (driven.data / "logs" / "memory.log").read_text()


def test_a_crashed_service_comes_back(drive: Drive) -> None:
    """A service that is killed is started again and ready again; the others go on."""
    a, b = free_ports(2)
    driven = drive(f"memory:{a}", f"gateway:{b}")
    before = driven.until_ready()
    pid = before.services["memory"].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    driven.until(lambda: (now := driven.state().services["memory"]).restarts == 1 and now.state == "running")
    after = driven.state()
    assert after.services["memory"].pid != pid
    assert after.services["gateway"].pid == before.services["gateway"].pid
    assert "killed by SIGKILL" in driven.output()


def test_one_crash_while_starting_is_overcome(drive: Drive, tmp_path: Path) -> None:
    """A service that fails once at its first start is started again, and the start goes on."""
    a, b = free_ports(2)
    driven = drive(f"memory:{a}:crash-once={tmp_path / 'once'}", f"gateway:{b}")
    assert driven.until_ready().services["memory"].restarts == 1


@pytest.mark.slow
def test_a_service_that_keeps_crashing_is_given_up(drive: Drive) -> None:
    """After some quick crashes in a row the whole stops with status 1 and shows the service's last lines."""
    a, b = free_ports(2)
    driven = drive(f"memory:{a}", f"ingest:{b}:crash")
    assert driven.process.wait(40) == 1
    output = driven.output()
    assert "ingest crashed 6 times in a row" in output
    assert "ingest does not start" in output
    assert f"    hello from {b}" in output
    assert output.rindex("memory  stopping") > output.index("ingest crashed 6 times")


def test_bad_settings_are_not_tried_again(drive: Drive) -> None:
    """A service that says its settings are wrong is not started again; its words are shown."""
    (a,) = free_ports(1)
    driven = drive(f"memory:{a}:bad")
    assert driven.process.wait(15) == 1
    assert "exit status 2" in driven.output()
    assert f"    hello from {a}" in driven.output()
    assert "again" not in driven.output()


def test_a_service_that_is_never_ready_ends_the_start(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a service is not ready in time, the start fails with its name and the end of its log."""
    monkeypatch.setenv("START_WITHIN", "4")
    a, b = free_ports(2)
    driven = drive(f"memory:{a}:never", f"gateway:{b}")
    assert driven.process.wait(15) == 1
    assert "memory was not ready within 4 s" in driven.output()
    assert f"    hello from {a}" in driven.output()
    assert "gateway" not in driven.output()


@pytest.mark.slow
def test_a_service_that_tells_of_progress_is_waited_for(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is not ready in time, but says why and has ever more to say, is not given up; its words show."""
    monkeypatch.setenv("START_WITHIN", "4")
    (a,) = free_ports(1)
    driven = drive(f"memory:{a}:busy=13")
    driven.until(lambda: driven.state().ready, 60)
    assert re.search(r"memory  \| fetching, \d+ MB so far", driven.output())


def test_a_service_that_does_not_stop_is_killed(drive: Drive, tmp_path: Path) -> None:
    """Past its bound a service is killed with all that it started."""
    (a,) = free_ports(1)
    driven = drive(f"memory:{a}:stubborn,child={tmp_path / 'child'}")
    pid = driven.until_ready().services["memory"].pid
    assert pid is not None
    assert driven.stop() == 0
    assert "did not stop in time, killed" in driven.output()
    assert not psutil.pid_exists(pid)
    assert not _alive(int((tmp_path / "child").read_text()))


def test_services_end_with_a_supervisor_that_is_killed(drive: Drive) -> None:
    """When the supervisor dies by kill -9 its services end too."""
    a, b = free_ports(2)
    driven = drive(f"memory:{a}", f"gateway:{b}")
    pids = [service.pid for service in driven.until_ready().services.values()]
    driven.process.kill()
    driven.process.wait(5)
    driven.until(lambda: not any(pid is not None and _alive(pid) for pid in pids))


def test_what_a_service_prints_for_people_reaches_no_file(drive: Drive) -> None:
    """Standard output (the first key) is shown once; log files hold standard error alone, mode 600."""
    (a,) = free_ports(1)
    driven = drive(f"memory:{a}:say=the-first-key")
    driven.until_ready()
    driven.stop()
    assert "the-first-key" in driven.output()
    log = driven.data / "logs" / "memory.log"
    assert "the-first-key" not in log.read_text()
    assert f"hello from {a}" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_lines_carry_the_name_of_their_service(drive: Drive) -> None:
    """Each line of a service stands behind its name."""
    a, b = free_ports(2)
    driven = drive(f"memory:{a}", f"gateway:{b}")
    driven.until_ready()
    driven.stop()
    assert f"memory  | hello from {a}\n" in driven.output()
    assert f"gateway | hello from {b}\n" in driven.output()


def test_the_lock_lives_as_long_as_its_holder(tmp_path: Path) -> None:
    """One directory has one supervisor; after its end, however it came, the next may start."""
    first, second = presence.Lock(tmp_path), presence.Lock(tmp_path)
    assert not installation.held(tmp_path)
    assert first.take()
    assert installation.held(tmp_path)
    assert not second.take(patience=0.1)
    first.release()
    assert not installation.held(tmp_path)
    assert second.take()
    second.release()


def test_a_description_of_another_process_is_not_believed(tmp_path: Path) -> None:
    """A file whose pid belongs to a younger process, or that nobody holds the lock for, describes nobody."""
    mine = Presence(pid=os.getpid(), begun=presence.begun(os.getpid()), address="x", ready=True, services={})
    presence.write(tmp_path, mine)
    assert presence.read(tmp_path) is None
    lock = presence.Lock(tmp_path)
    assert lock.take()
    assert presence.read(tmp_path) == mine
    presence.write(tmp_path, mine.model_copy(update={"begun": "1"}))
    assert presence.read(tmp_path) is None
    lock.release()


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
