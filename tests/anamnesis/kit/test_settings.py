"""Settings: read from the environment, wrong ones named with what was expected."""

import pytest
from pydantic import Field, SecretStr

from anamnesis.kit.settings import Settings, load


class Example(Settings):
    port: int = Field(default=1, ge=1, le=10)
    """A port."""
    token: SecretStr = Field(default=SecretStr("x" * 20), min_length=8)
    """A secret."""


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
