"""What is settled before anything starts: ports, the key between services, and where all is reached."""

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.local import presence
from services.local.__main__ import _down_within
from services.local.settings import LocalSettings
from services.local.supervisor import CannotStart, greeting, reachable, require_free_ports, service_key, specs

ROOT = Path(__file__).parents[3]


def test_a_taken_port_is_named_with_what_to_do(tmp_path: Path) -> None:
    """A port in use stops the start with the port, the service, and the variable that moves it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=f"{port} for ingest .*ANAMNESIS_INGEST_PORT"):
            require_free_ports(LocalSettings(data_dir=tmp_path, gateway_port=1 + 40000, ingest_port=port))


def test_the_service_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    """The key between services lasts over starts, is for its owner alone, and a given one is used instead."""
    settings = LocalSettings(data_dir=tmp_path)
    key = service_key(settings)
    assert service_key(settings) == key
    assert (tmp_path / "service.key").stat().st_mode & 0o777 == 0o600
    given = LocalSettings(data_dir=tmp_path, service_key=SecretStr("anm_the-given-one"))
    assert service_key(given) == "anm_the-given-one"


def test_services_are_told_where_the_others_are(tmp_path: Path) -> None:
    """Every service gets the data directory, the key and the addresses of the ports that were chosen."""
    settings = LocalSettings(data_dir=tmp_path, memory_port=4012, ingest_port=4013, gateway_port=4010)
    memory, ingest, gateway = specs(settings, "the-key")
    assert [one.address for one in (memory, ingest, gateway)] == [
        "http://127.0.0.1:4012",
        "http://127.0.0.1:4013",
        "http://127.0.0.1:4010",
    ]
    for one in (memory, ingest, gateway):
        assert one.environment["ANAMNESIS_SERVICE_KEY"] == "the-key"
        assert one.environment["ANAMNESIS_DATA_DIR"] == str(tmp_path)
        assert one.environment["ANAMNESIS_MEMORY_URL"] == memory.address
        assert one.environment["ANAMNESIS_INGEST_URL"] == ingest.address


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("box", "box")],
)
def test_a_bound_address_is_reached_from_this_machine(host: str, address: str) -> None:
    """An address that means `all` is reached by loopback."""
    assert reachable(host) == address


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A directory with a package of its own that is called `services`."""
    (tmp_path / "here" / "services").mkdir(parents=True)
    (tmp_path / "here" / "services" / "__init__.py").write_text('raise SystemExit("code of this directory")\n')
    return tmp_path / "here"


def test_services_never_run_code_of_the_present_directory(foreign: Path, tmp_path: Path) -> None:
    """Wherever they are started, services are ours: here each of them only complains about its port."""
    for spec in specs(LocalSettings(data_dir=tmp_path), "the-key"):
        wrong = {"PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}", f"ANAMNESIS_{spec.name.upper()}_PORT": "none"}
        done = subprocess.run(
            spec.command,
            cwd=foreign,
            env={**spec.environment, **wrong},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, "_PORT = 'none'" in done.stderr) == (2, True), done.stderr


def test_the_background_never_runs_code_of_the_present_directory(foreign: Path, tmp_path: Path) -> None:
    """The supervisor that goes to the background is ours too: here it only complains about a port that is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANAMNESIS_", "PYTHON"))},
            "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}",
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "ANAMNESIS_DATA_DIR": str(tmp_path / "data"),
            "ANAMNESIS_MEMORY_PORT": str(taken.getsockname()[1]),
        }
        command = (sys.executable, "-P", "-m", "services.local", "up", "--detach")
        done = subprocess.run(
            command, cwd=foreign, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert "for memory cannot be used" in done.stdout
    assert not (tmp_path / "state").exists()


def test_stopping_may_take_as_long_as_its_services(tmp_path: Path) -> None:
    """`down` waits longer than all services together may take, whatever is set."""
    assert _down_within(LocalSettings(data_dir=tmp_path)) > 3 * 90
    assert _down_within(LocalSettings(data_dir=tmp_path, local_stop_within=500)) > 3 * 500


def test_printed_commands_name_the_data_where_it_would_not_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What finds the data by itself is printed bare; where other services run at the usual place, it is named."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    data, usual = tmp_path / "my data", tmp_path / ".local/share/anamnesis"
    data.mkdir()
    usual.mkdir(parents=True)
    settings = LocalSettings(data_dir=data)
    presence.note(data)
    link = "http://127.0.0.1:1/login?token=x"
    assert "ANAMNESIS_DATA_DIR=" not in greeting(settings, "http://127.0.0.1:1", link)
    lock = presence.Lock(usual)
    assert lock.take()
    try:
        said = greeting(settings, "http://127.0.0.1:1", link)
    finally:
        lock.release()
    lines = [line.strip() for line in said.splitlines() if "DATA_DIR" in line]
    assert len(lines) == 4
    assert all(shlex.split(line)[0] == f"ANAMNESIS_DATA_DIR={data}" for line in lines[:3])
    assert f"{lines[0].split(' ingest')[0]} login" in lines[3]


def test_the_greeting_ends_with_the_one_address_to_open(tmp_path: Path) -> None:
    """The last address is the link that logs in; where there is none, it is the bare one and how to get a link."""
    settings = LocalSettings(data_dir=tmp_path)
    link = "http://127.0.0.1:1/login?token=x"
    *_, opening, hint = greeting(settings, "http://127.0.0.1:1", link).strip().splitlines()
    assert opening == f"Open {link}"
    assert "works once" in hint
    assert " login' makes another" in hint
    *_, opening, hint = greeting(settings, "http://127.0.0.1:1", None).strip().splitlines()
    assert opening == "Open http://127.0.0.1:1"
    assert " login' makes a link" in hint
