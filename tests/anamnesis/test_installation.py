"""Which data directory is meant when nobody says, and whether services run in it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from anamnesis import installation
from anamnesis.kit.settings import Settings
from services.local import presence

Hold = Callable[[Path], None]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, with nothing set."""
    for name in ("ANAMNESIS_DATA_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def hold(request: pytest.FixtureRequest) -> Hold:
    """Locks a data directory as a running supervisor does."""

    def take(data: Path) -> None:
        data.mkdir(parents=True, exist_ok=True)
        lock = presence.Lock(data)
        assert lock.take()
        request.addfinalizer(lock.release)

    return take


def test_the_usual_place_without_anything_else(home: Path) -> None:
    """Where nothing was ever started, the usual directory is meant."""
    assert installation.found() == home / ".local/share/anamnesis"


def test_the_last_start_is_remembered(home: Path, hold: Hold) -> None:
    """The directory of the last start is found, after it has stopped too, and as long as it is there."""
    data = home / "elsewhere and more"
    data.mkdir()
    presence.note(data)
    assert installation.found() == data
    assert installation.note().stat().st_mode & 0o777 == 0o600
    data.rmdir()
    assert installation.found() == home / ".local/share/anamnesis"


def test_what_runs_at_the_usual_place_comes_first(home: Path, hold: Hold) -> None:
    """Services in the usual directory are found, whatever was started elsewhere."""
    (home / "elsewhere").mkdir()
    presence.note(home / "elsewhere")
    hold(home / ".local/share/anamnesis")
    assert installation.found() == home / ".local/share/anamnesis"


def test_what_is_set_is_meant(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that was set is taken, and no other."""
    (home / "elsewhere").mkdir()
    presence.note(home / "elsewhere")
    assert installation.located(Settings()).data == home / "elsewhere"
    monkeypatch.setenv("ANAMNESIS_DATA_DIR", "~/mine")
    assert installation.located(Settings()).data == home / "mine"


@pytest.mark.parametrize("content", [b"", b"relative/path\n", b"/no\0path\n", b"/dev/null\n", b"\xff" * 6000])
def test_a_note_that_names_no_directory_is_passed_over(home: Path, content: bytes) -> None:
    """Whatever stands in the note, a command still knows where to look."""
    installation.note().parent.mkdir(parents=True)
    installation.note().write_bytes(content)
    assert installation.found() == home / ".local/share/anamnesis"


def test_the_note_keeps_to_the_place_that_is_set_for_state(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_STATE_HOME moves the note; a relative one counts for nothing, as its specification says."""
    assert installation.note() == home / ".local/state/anamnesis/data"
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    assert installation.note() == home / "state/anamnesis/data"
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert installation.note() == home / ".local/state/anamnesis/data"


def test_a_place_that_cannot_be_written_stops_nothing(home: Path) -> None:
    """Where the note cannot be left, the start goes on without it."""
    (home / ".local").write_text("in the way")
    presence.note(home)
    assert not installation.note().exists()


def test_held_only_while_a_supervisor_lives(home: Path) -> None:
    """A lock file that nobody holds says nothing."""
    assert not installation.held(home)
    lock = presence.Lock(home)
    assert lock.take()
    assert installation.held(home)
    lock.release()
    assert not installation.held(home)
