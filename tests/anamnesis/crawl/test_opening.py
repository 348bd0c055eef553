"""Files are opened where a scan saw them, and nowhere else."""

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from anamnesis.contracts.crawler import Source, SourceKind
from anamnesis.crawl.found import Found
from anamnesis.crawl.opening import Refused, opened, read
from tests.anamnesis.crawl.trees import looked, one, write

TEACHINGS = Source(name="t", kind=SourceKind.TEACHINGS)
LIMIT = 1 << 20


def found(root: Path, name: str = "a.md") -> Found:
    write(root, f"d/e/{name}", text="within")
    return one(looked(root, TEACHINGS), name)


def contents(file: Found) -> bytes:
    with opened(file) as descriptor:
        return read(descriptor, LIMIT)


def refusal(file: Found) -> str:
    with pytest.raises(Refused) as refused, opened(file):
        pass
    return refused.value.reason


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "outside/d/e/a.md", "outside/e/a.md", "outside/a.md", text="without")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_a_file_is_read(root: Path) -> None:
    """What was found is read whole, and no descriptor stays open."""
    file = found(root)
    before = len(os.listdir("/dev/fd"))
    assert contents(file) == b"within"
    assert len(os.listdir("/dev/fd")) == before


def _link_file(root: Path) -> None:
    (root / "d/e/a.md").unlink()
    (root / "d/e/a.md").symlink_to(root.parent / "outside/a.md")


def _link_directory(root: Path) -> None:
    (root / "d/e").rename(root / "kept")
    (root / "d/e").symlink_to(root.parent / "outside")


def _link_upper_directory(root: Path) -> None:
    (root / "d").rename(root / "kept")
    (root / "d").symlink_to(root.parent / "outside/d")


def _link_root(root: Path) -> None:
    root.rename(root.parent / "kept")
    root.symlink_to(root.parent / "outside")


def _replace_directory(root: Path) -> None:
    (root / "d").rename(root / "kept")
    write(root, "d/e/a.md", text="another")


def _replace_file(root: Path) -> None:
    write(root, "d/e/b.md", text="another")
    (root / "d/e/b.md").rename(root / "d/e/a.md")


def _hard_link_outside(root: Path) -> None:
    (root / "d/e/a.md").unlink()
    (root / "d/e/a.md").hardlink_to(root.parent / "outside/a.md")


def _fifo(root: Path) -> None:
    (root / "d/e/a.md").unlink()
    os.mkfifo(root / "d/e/a.md")


def _socket(root: Path) -> None:
    (root / "d/e/a.md").unlink()
    here = os.open(root / "d/e", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"/proc/self/fd/{here}/a.md")  # a socket's whole path must be short
    os.close(here)


def _directory(root: Path) -> None:
    (root / "d/e/a.md").unlink()
    (root / "d/e/a.md").mkdir()


def _gone(root: Path) -> None:
    (root / "d/e/a.md").unlink()


def _directory_gone(root: Path) -> None:
    (root / "d/e").rename(root / "kept")


def _directory_became_a_file(root: Path) -> None:
    (root / "d/e").rename(root / "kept")
    (root / "d/e").touch()


@pytest.mark.parametrize(
    ("swap", "reason"),
    [
        (_link_file, "symbolic-link"),
        (_link_directory, "symbolic-link"),
        (_link_upper_directory, "symbolic-link"),
        (_link_root, "symbolic-link"),
        (_replace_directory, "changed"),
        (_replace_file, "changed"),
        (_hard_link_outside, "changed"),
        (_fifo, "not-regular"),
        (_socket, "not-regular"),
        (_directory, "not-regular"),
        (_gone, "vanished"),
        (_directory_gone, "vanished"),
        (_directory_became_a_file, "vanished"),
    ],
)
def test_what_was_swapped_is_refused(root: Path, swap: Callable[[Path], None], reason: str) -> None:
    """Whatever takes the place of a file or of a directory above it after a scan, it is not opened."""
    file = found(root)
    swap(root)
    before = len(os.listdir("/dev/fd"))
    assert refusal(file) == reason
    assert len(os.listdir("/dev/fd")) == before


def test_devices_are_refused(root: Path) -> None:
    """A device is never opened, not even one that says it was found as a file."""
    file = found(root)._replace(path="/dev/zero", root="/dev")
    assert refusal(file) == "not-regular"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "{root}/../outside/a.md", "{root}/d/./e/a.md", "{root}//d/e/a.md", "{root}x/a.md"]
)
def test_paths_that_lead_elsewhere_are_refused(root: Path, path: str) -> None:
    """A path that does not go straight down from its root is not even tried."""
    assert refusal(found(root)._replace(path=path.format(root=root))) == "outside-root"


def test_a_hard_link_is_the_file_it_is(root: Path) -> None:
    """One that was there at the scan is read: who could make it could have copied the file."""
    (root / "l.md").hardlink_to(root.parent / "outside/a.md")
    assert contents(one(looked(root, TEACHINGS), "l.md")) == b"without"


@pytest.mark.parametrize("level", ["file", "directory"])
def test_a_race_is_never_won(root: Path, level: str) -> None:
    """While somebody swaps a file, or a directory, for a link and back, nothing outside is ever read."""
    file = found(root)
    inside, outside = (root / "d/e/a.md", "outside/a.md") if level == "file" else (root / "d", "outside/d")
    kept, link = root / "kept", root / "link"
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            link.symlink_to(root.parent / outside)
            inside.rename(kept)
            link.rename(inside)
            inside.unlink()
            kept.rename(inside)

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen: Counter[bytes | str] = Counter()
    until = time.monotonic() + 30
    try:
        while min(seen[b"within"], seen["symbolic-link"]) < 200 and time.monotonic() < until:
            try:
                seen[contents(file)] += 1
            except Refused as refused:
                seen[refused.reason] += 1
    finally:
        over.set()
        swapper.join(10)
    assert seen.keys() <= {b"within", "symbolic-link", "vanished"}


@pytest.mark.parametrize(("part", "outside"), [("a.md", "outside/a.md"), ("e", "outside/e"), ("d", "outside/d")])
def test_a_swap_at_the_last_moment_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, part: str, outside: str
) -> None:
    """A link that takes a name's place right before that name is opened is not followed."""
    file = found(root)
    place = Path(file.path[: file.path.index(f"/{part}") + len(part) + 1])
    genuine = os.open

    def swapping(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == part and not place.is_symlink():
            place.rename(root / "kept")
            place.symlink_to(root.parent / outside)
        return genuine(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swapping)
    assert refusal(file) == "symbolic-link"


def test_a_file_that_is_too_long_is_refused(root: Path) -> None:
    """A limit is what is read at most; a file of that very length is read."""
    file = found(root)
    with opened(file) as descriptor:
        assert read(descriptor, 6) == b"within"
        with pytest.raises(Refused, match="too-large"):
            read(descriptor, 5)


@pytest.mark.parametrize("change", ["grow", "shrink", "same-length"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """What is written to in the middle of reading is given back by the next scan, not in two halves."""
    file = found(root)
    (root / "d/e/a.md").write_bytes(b"x" * (3 << 20))
    os.utime(file.path, ns=(1, 1))
    genuine = os.pread
    reads = 0

    def pread(descriptor: int, size: int, at: int) -> bytes:
        nonlocal reads
        reads += 1
        if reads == 2:
            with open(file.path, "r+b") as writer:
                if change == "grow":
                    writer.seek(0, os.SEEK_END)
                    writer.write(b"more")
                elif change == "shrink":
                    writer.truncate(10)
                else:
                    writer.write(b"y")
        return genuine(descriptor, size, at)

    monkeypatch.setattr(os, "pread", pread)
    with opened(file) as descriptor, pytest.raises(Refused, match="changed"):
        read(descriptor, 10 << 20)


def test_an_error_within_is_the_readers_own(root: Path) -> None:
    """What fails while a file is open is not taken for a refusal."""
    with pytest.raises(FileNotFoundError), opened(found(root)):
        raise FileNotFoundError("something else")


def test_a_mount_may_number_its_files_anew(root: Path) -> None:
    """Where a file has another number at every look, its size and time say that it is the one."""
    file = found(root)
    assert contents(file._replace(inode=file.inode + 1)) == b"within"
    assert refusal(file._replace(inode=file.inode + 1, size=1)) == "changed"
