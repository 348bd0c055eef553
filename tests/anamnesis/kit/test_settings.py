"""Settings: read from the environment, wrong ones named with what was expected."""

import pytest
from pydantic import Field, HttpUrl, SecretStr

from anamnesis.kit.settings import Settings, load


class Example(Settings):
    port: int = Field(default=1, ge=1, le=10)
    """A port."""
    token: SecretStr = Field(default=SecretStr("x" * 20), min_length=8)
    """A secret."""


@pytest.mark.parametrize("key", ["short", "x" * 201, "anm_with a blank inside", "anm_ümlaut-is-no-ascii"])
def test_a_key_that_could_never_be_presented_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    """A key that no header can carry, or that is too short, would lock its owner out or let anybody in."""
    monkeypatch.setenv("ANAMNESIS_SERVICE_KEY", key)
    with pytest.raises(SystemExit):
        load(Example)
    said = capsys.readouterr().err
    assert "ANAMNESIS_SERVICE_KEY = (hidden): Value error, a key has 16 to 200" in said
    assert key not in said


def test_blanks_around_a_key_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an editor leaves around a key is not part of it, as it is not in a header."""
    monkeypatch.setenv("ANAMNESIS_SERVICE_KEY", " anm_0123456789abcdef ")
    key = load(Example).service_key
    assert key is not None
    assert key.get_secret_value() == "anm_0123456789abcdef"


def test_an_unknown_level_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A level of logging that does not exist is an error, not another level."""
    monkeypatch.setenv("ANAMNESIS_LOG_LEVEL", "verbose")
    with pytest.raises(SystemExit):
        load(Example)


def test_the_address_that_is_bound_is_a_name_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bound to an address of the LAN, a service answers under it."""
    monkeypatch.setenv("ANAMNESIS_HOST", "192.168.1.5")
    assert "192.168.1.5" in load(Example).own_hosts


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list is one variable, split at commas."""
    monkeypatch.setenv("ANAMNESIS_ALLOWED_HOSTS", "a.example, b.example,")
    assert load(Example).allowed_hosts == ("a.example", "b.example")


def test_a_wrong_value_stops_the_start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The message holds the key, the value and what was expected; a secret's value is hidden."""
    monkeypatch.setenv("ANAMNESIS_PORT", "77")
    monkeypatch.setenv("ANAMNESIS_TOKEN", "hunter2")
    with pytest.raises(SystemExit) as ended:
        load(Example)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "ANAMNESIS_PORT = '77': Input should be less than or equal to 10" in said
    assert "ANAMNESIS_TOKEN = (hidden)" in said
    assert "hunter2" not in said


class Places(Settings):
    place: HttpUrl = HttpUrl("http://localhost")
    """An address."""
    count: int = 1
    """A number."""


@pytest.mark.parametrize(
    "given", ["https://carla:hunter2@host:nine", "x=http://a:hunter2@b,http://c:hunter2@d:z", "https://c:hunter2/@h:z"]
)
def test_the_password_of_an_address_is_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    """What is wrong with an address is told without who may use it."""
    monkeypatch.setenv("ANAMNESIS_PLACE", given)
    monkeypatch.setenv("ANAMNESIS_COUNT", given)
    with pytest.raises(SystemExit):
        load(Places)
    said = capsys.readouterr().err
    assert "ANAMNESIS_PLACE = " in said
    assert "ANAMNESIS_COUNT = " in said
    assert "hunter2" not in said
