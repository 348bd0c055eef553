"""Log files stay within their bound, and their ends can be read and followed."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from services.local.__main__ import _new_lines
from services.local.logfile import LogFile, tail


def test_files_rotate_at_the_bound(tmp_path: Path) -> None:
    """No file grows past the bound, three are kept, and the newest lines are in the present one."""
    log = LogFile(tmp_path / "x.log", 1000)
    for number in range(200):
        log.write(b"%4d %s\n" % (number, b"x" * 44))
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["x.log", "x.log.1", "x.log.2"]
    assert all(file.stat().st_size <= 1000 for file in files)
    assert tail(tmp_path / "x.log", 1)[0].startswith(" 199")


def test_a_log_goes_on_after_a_restart(tmp_path: Path) -> None:
    """A new run appends to the file of the one before."""
    for word in (b"one\n", b"two\n"):
        log = LogFile(tmp_path / "x.log", 1000)
        log.write(word)
        log.close()
    assert tail(tmp_path / "x.log", 10) == ["one", "two"]


def test_a_log_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    """A log in a place that cannot be had loses its lines and raises nothing."""
    (tmp_path / "file").write_text("in the way")
    LogFile(tmp_path / "file" / "x.log", 1000).write(b"lost\n")


@given(
    lines=st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=50)),
    count=st.integers(0, 20),
)
def test_the_tail_is_the_end(tmp_path_factory, lines: list[str], count: int) -> None:  # type: ignore[no-untyped-def]
    """`tail` gives the last lines in their order."""
    path: Path = tmp_path_factory.mktemp("tail") / "x.log"
    path.write_text("".join(line + "\n" for line in lines))
    assert tail(path, count) == (lines[-count:] if count else [])


def test_following_sees_each_line_once_through_a_rotation(tmp_path: Path) -> None:
    """A reader that follows gets whole lines, each once, also after the file has been set aside."""
    path = tmp_path / "x.log"
    path.write_bytes(b"before\n")
    reader = _new_lines(path)
    assert next(reader) == []
    with path.open("ab") as file:
        file.write(b"one\ntw")
    assert next(reader) == ["one"]
    with path.open("ab") as file:
        file.write(b"o\n")
    assert next(reader) == ["two"]
    path.rename(tmp_path / "x.log.1")
    path.write_bytes(b"three\n")
    assert next(reader) == ["three"]
