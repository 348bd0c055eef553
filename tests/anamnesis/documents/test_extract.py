"""The process that reads: where a document may come from, what it may cost, and what the process cannot do."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from anamnesis.documents import DocumentRefused, Limits, extract
from anamnesis.documents.extract import MAX_DATA
from tests.anamnesis.documents import making

PAGE = b"<title>T</title><h1>A</h1><p>text"


def refused(data: bytes, name: str, limits: Limits = Limits()) -> str:  # noqa: B008 -- immutable
    with pytest.raises(DocumentRefused) as caught:
        extract(data, name, limits)
    return caught.value.reason


def test_a_document_comes_as_bytes_a_path_or_a_descriptor(tmp_path: Path) -> None:
    """All three are the same; a descriptor stays open."""
    path = tmp_path / "page"
    path.write_bytes(PAGE)
    wanted = extract(PAGE, "a.html")
    assert extract(path, "a.html") == wanted
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert extract(descriptor, "a.html") == wanted
        os.fstat(descriptor)
    finally:
        os.close(descriptor)
    assert (wanted.title, wanted.sections[0].headings) == ("T", ("A",))


def test_a_path_that_is_missing_is_an_error_of_the_system(tmp_path: Path) -> None:
    """The caller knows what it named."""
    with pytest.raises(FileNotFoundError):
        extract(tmp_path / "none", "a.html")


@pytest.mark.parametrize("name", ["a.txt", "b.md"])
def test_plain_text_needs_no_process(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is only decoded."""
    monkeypatch.setattr(subprocess, "Popen", None)
    document = extract("Größe\n\nzwei".encode("cp1252"), name, Limits(characters=8))
    assert ([one.text for one in document.sections], document.truncated) == (["Größe\n\nz"], True)
    assert refused(b"a\0b", name) == "binary"


def test_kinds_and_sizes_are_bounded() -> None:
    """Before anything is read."""
    assert refused(b"", "a.exe") == "kind"
    assert refused(bytes(MAX_DATA + 1), "a.pdf") == "too-large"


@pytest.mark.parametrize("name", ["a.html", "a.pdf", "a.docx"])
def test_a_parse_that_does_not_end_is_ended(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock, with its process and all that it has started."""
    noted = tmp_path / "pid"
    _instead(
        tmp_path,
        monkeypatch,
        f"import os, subprocess, time\nchild = subprocess.Popen(['sleep', '600'])\n"
        f"with open({str(noted)!r}, 'w') as file:\n    file.write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n",
    )
    begun = time.monotonic()
    assert refused(b"x" * (1 << 20), name, Limits(seconds=3.0)) == "too-slow"
    assert time.monotonic() - begun < 30
    for pid in map(int, noted.read_text().split()):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_busy_parse_is_ended_too() -> None:
    """A page whose parts are looked at for ever: the limit is the one that was asked for."""
    page = making.pdf(*("line\n" * 40 for _ in range(200)))
    begun = time.monotonic()
    assert refused(page, "a.pdf", Limits(seconds=0.05)) == "too-slow"
    assert time.monotonic() - begun < 20


def test_memory_is_bounded() -> None:
    """A document that takes more than it may is refused, and nothing of ours grows."""
    page = b"<p>" + b"<b>a</b>" * 400_000
    assert refused(page, "a.html", Limits(memory_bytes=160 << 20)) in ("memory", "broken")


def test_an_answer_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not more is taken from the process than a document can hold."""
    _instead(tmp_path, monkeypatch, "import sys\nwhile True:\n    sys.stdout.write('x' * 65536)\n")
    assert refused(PAGE, "a.html", Limits(characters=1000)) == "too-large"


@pytest.mark.parametrize(
    "answer", ["", "[]", "null", "{}", '{"refused": 1}', '{"sections": [[1]]}', "[" * 100_000, "\\xff", "NaN"]
)
def test_an_answer_that_is_none_is_a_damaged_document(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the process was taken over by what it read."""
    _instead(tmp_path, monkeypatch, f"import sys\nsys.stdout.write({answer!r})\n")
    assert refused(PAGE, "a.html") == "broken"


def test_a_crash_is_a_damaged_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser in C may end its process."""
    _instead(tmp_path, monkeypatch, "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    assert refused(PAGE, "a.html") == "broken"


def test_the_process_inherits_no_descriptor_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its input and its output, and no environment of ours."""
    noted = tmp_path / "noted"
    held = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setenv("ANAMNESIS_SERVICE_KEY", "a secret")
    _instead(
        tmp_path,
        monkeypatch,
        f"import os\nseen = [one for one in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + one)]\n"
        f"with open({str(noted)!r}, 'w') as file:\n    file.write(repr((seen, dict(os.environ), os.getcwd())))\n",
    )
    try:
        assert refused(PAGE, "a.html") == "broken"
    finally:
        os.close(held)
    seen, environment, place = eval(noted.read_text())  # what our own script wrote
    assert set(seen) <= {"0", "1", "2"}
    assert set(environment) <= {"PYTHONPATH", "PATH", "LC_CTYPE"}
    assert place == "/"


def test_the_process_can_write_no_file(tmp_path: Path) -> None:
    """Once it is restricted, a byte in a file is an error, and so are many open ones and much memory."""
    script = (
        "import sys\nfrom anamnesis.documents.limits import Limits\nfrom anamnesis.documents.reader import restrict\n"
        "restrict(Limits(memory_bytes=256 << 20))\nfailed = []\n"
        "try:\n    with open(sys.argv[1], 'wb', buffering=0) as file:\n        file.write(b'x')\n"
        "except OSError:\n    failed.append('write')\n"
        "try:\n    held = [open('/dev/null') for _ in range(100)]\nexcept OSError:\n    failed.append('open')\n"
        "held = []\ntry:\n    bytearray(512 << 20)\nexcept MemoryError:\n    failed.append('memory')\n"
        "print(*failed)\n"
    )
    target = tmp_path / "written"
    done = subprocess.run(
        [sys.executable, "-c", script, target], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["write", "open", "memory"]
    assert target.read_bytes() == b""


def test_nothing_is_left_behind() -> None:
    """Neither a process, nor a thread, nor a descriptor, also after refusals."""
    here = psutil.Process()
    extract(PAGE, "a.html")
    threads, descriptors, children = threading.active_count(), here.num_fds(), len(here.children())
    for _ in range(2):
        extract(PAGE, "a.html")
        refused(b"", "a.pdf")
        refused(PAGE, "a.html", Limits(seconds=0.01))
    assert threading.active_count() <= threads  # one of another test's may have ended
    assert (here.num_fds(), len(here.children())) == (descriptors, children)


def _instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Another program is started where the reader would be."""
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{script}")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
