"""Small files that are replaced whole, for their owner alone."""

import os
import stat
from pathlib import Path

import pytest

from anamnesis.kit import files


def test_a_file_is_its_owners_alone_whatever_it_was_before(tmp_path: Path) -> None:
    """A file that others could read is replaced by one that they cannot, whatever the mask of the process."""
    path = tmp_path / "api.key"
    path.write_text("old")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        files.replace(path, "new\n")
    finally:
        os.umask(before)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new\n", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_crash_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """A half-written file of an earlier process, with a mode of its own, is not written into."""
    (tmp_path / "api.key.new").write_text("half")
    (tmp_path / "api.key.new").chmod(0o666)
    files.replace(tmp_path / "api.key", "whole")
    assert (tmp_path / "api.key").read_text() == "whole"
    assert stat.S_IMODE((tmp_path / "api.key").stat().st_mode) == 0o600


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails before the new one is safe leaves the old one as it was."""
    path = tmp_path / "api.key"
    files.replace(path, "old")

    def fail(_: int) -> None:
        raise OSError("no room")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no room"):
        files.replace(path, "new")
    assert path.read_text() == "old"
