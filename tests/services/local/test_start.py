"""What is settled before anything starts: ports, the key between services, and where all is reached."""

import socket
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.local.settings import LocalSettings
from services.local.supervisor import CannotStart, reachable, require_free_ports, service_key, specs


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
    given = LocalSettings(data_dir=tmp_path, service_key=SecretStr("given"))
    assert service_key(given) == "given"


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
