"""The `.env` file: what is written is what is read, and nothing of the machine's own is lost."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.envfile import BadName, BadValue, check_name, merge, quote, write

NAMES = st.from_regex(r"ANAMNESIS_[A-Z0-9_]{1,20}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="'\"\\$#~ !{}"), max_size=60).filter(
    lambda value: "`" not in value
)


def read(text: str) -> dict[str, str]:
    """What a shell makes of the file: an independent reader of every variable that it sets."""
    script = f"set -a\n{text}\nexec env -0"
    out = subprocess.run(["/bin/bash", "-c", script], capture_output=True, check=True, timeout=10, env={}).stdout
    pairs = (entry.split("=", 1) for entry in out.decode().split("\0") if entry)
    return {name: value for name, value in pairs if name not in ("_", "PWD", "SHLVL", "PATH")}


@settings(max_examples=50)
@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_reads_back(values: dict[str, str]) -> None:
    """Whatever text a value is, a reader gets the same text back; nothing in it is expanded or run."""
    text, _ = merge("", values)
    assert read(text) == values


def test_backtick() -> None:
    """A backtick is kept literally, and refused where no quoting means the same to every reader."""
    assert read(merge("", {"ANAMNESIS_A": "`touch x` $(touch x)"})[0]) == {"ANAMNESIS_A": "`touch x` $(touch x)"}
    with pytest.raises(BadValue, match="backtick"):
        quote("it's `x`")


@settings(max_examples=50)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=6), st.dictionaries(NAMES, VALUES, max_size=4))
def test_merge_keeps_the_rest(present: list[tuple[str, str]], values: dict[str, str]) -> None:
    """A merge sets what it is given and leaves every other variable as it reads now."""
    before = "# mine\n" + "".join(f"export {name}={quote(value)}\n\n" for name, value in present)
    after, changes = merge(before, values)
    assert read(after) == {**dict(present), **values}
    assert after.startswith("# mine\n")
    assert set(changes.added) | set(changes.changed) | set(changes.unchanged) == set(values)
    assert set(changes.kept) == {name for name, _ in present} - set(values)
    assert merge(after, values)[0] == after


def test_repeated_line_is_replaced_once() -> None:
    """Where a name stands twice, readers took the last line: neither old value survives."""
    text, changes = merge("ANAMNESIS_A=1\nB=2\nANAMNESIS_A=3\n", {"ANAMNESIS_A": "new"})
    assert text == "ANAMNESIS_A=new\nB=2\n"
    assert changes.changed == ("ANAMNESIS_A",)


def test_quoted_lines_belong_together() -> None:
    """A value over several lines is replaced as a whole, and lines inside it are no variables."""
    text, _ = merge(
        "ANAMNESIS_PEM='one\nANAMNESIS_FAKE=x\nthree'\nB=2\n", {"ANAMNESIS_PEM": "new", "ANAMNESIS_FAKE": "y"}
    )
    assert text == "ANAMNESIS_PEM=new\nB=2\nANAMNESIS_FAKE=y\n"


def test_unclosed_quote_stays_a_line() -> None:
    """A quote that is never closed does not swallow the rest of the file."""
    text, _ = merge("A='broken\nANAMNESIS_B=2\n", {"ANAMNESIS_B": "3"})
    assert text == "A='broken\nANAMNESIS_B=3\n"


@pytest.mark.parametrize("name", ["", "lower", "1A", "A B", "A=B", "A\nB", "A" * 101, "Ä"])
def test_what_is_no_name_is_refused(name: str) -> None:
    """Only capitals, digits and underscores make a name."""
    with pytest.raises(BadName, match="no variable name"):
        check_name(name)


@pytest.mark.parametrize("value", ["\0", "a\rb", "a\nb", "\x1b[2J", "\x7f"])
def test_control_characters_are_refused(value: str) -> None:
    """A value cannot carry what terminals or parsers act on."""
    with pytest.raises(BadValue):
        quote(value)


def test_written_for_the_owner_alone(tmp_path: Path) -> None:
    """The file is mode 600 whatever it was before, a link stays a link, and no temporary file is left."""
    real = tmp_path / "real"
    real.write_text("OLD=1\n")
    real.chmod(0o644)
    link = tmp_path / ".env"
    link.symlink_to(real)
    write(link, "NEW=1\n")
    assert real.read_text() == "NEW=1\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert link.is_symlink()
    assert sorted(os.listdir(tmp_path)) == [".env", "real"]


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """When the new text cannot be written, the old file is whole and nothing else lies around."""
    path = tmp_path / ".env"
    path.write_text("OLD=1\n")
    with pytest.raises(UnicodeEncodeError):
        write(path, "NEW=\udc80\n")
    assert path.read_text() == "OLD=1\n"
    assert os.listdir(tmp_path) == [".env"]
