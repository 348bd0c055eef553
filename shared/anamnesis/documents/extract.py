"""Reads a document in a process of its own, which may be killed: whatever a file does, it does there.

Plain text and Markdown are only decoded, which takes no parser and so no process.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from anamnesis.documents.document import Document, DocumentKind, DocumentRefused, Section, kind_of
from anamnesis.documents.limits import Limits
from anamnesis.documents.text import decoded, tidy

MAX_DATA = 50 << 20  # bytes of a document
_BYTES_A_CHARACTER = 12  # of JSON at most: `\uXXXX` twice
_GRACE = 5.0  # seconds for a process to end once its answer is complete


def extract(source: bytes | Path | int, name: str, limits: Limits = Limits()) -> Document:  # noqa: B008 -- immutable
    """The text of a document: its bytes, its path, or an open descriptor. Blocks; call it from a thread.

    Raises `DocumentRefused` whatever is wrong with it, and `OSError` where it cannot be opened.
    """
    kind = kind_of(name)
    if kind is None:
        raise DocumentRefused("kind", "this is no document that can be read; .docx, .pdf, .html, .md and .txt are")
    data = _bytes(source)
    if len(data) > MAX_DATA:
        raise DocumentRefused("too-large", f"a document may hold at most {MAX_DATA >> 20} MB")
    if kind in (DocumentKind.MD, DocumentKind.TXT):
        text = decoded(data)
        if text is None:
            raise DocumentRefused("binary", "this is no text; is its name right?")
        short = text[: limits.characters]
        return Document(kind, "", (Section(short),), truncated=len(short) < len(text))
    return _read(_in_a_process(data, kind, limits), kind)


def _bytes(source: bytes | Path | int) -> bytes:
    if isinstance(source, bytes):
        return source
    with open(os.dup(source) if isinstance(source, int) else source, "rb") as file:
        return file.read(MAX_DATA + 1)


def _in_a_process(data: bytes, kind: DocumentKind, limits: Limits) -> bytes:
    """What the reading process answers. Raises `DocumentRefused` where it ends otherwise."""
    process = subprocess.Popen(  # noqa: S603 -- our own module, and no word of a user among its arguments
        [sys.executable, "-B", "-P", "-s", "-X", "utf8", "-m", "anamnesis.documents.reader", kind, *map(str, limits)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.defpath},
        start_new_session=True,
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(process)

    clock = threading.Timer(limits.seconds, end)
    feeder = threading.Thread(target=_feed, args=(process, data), daemon=True)
    most = limits.characters * _BYTES_A_CHARACTER + (1 << 20)
    clock.start()
    feeder.start()
    try:
        assert process.stdout is not None
        answer = process.stdout.read(most + 1)
        if len(answer) > most:
            raise DocumentRefused("too-large", "this document holds more text than can be taken")
        try:
            code = process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
    finally:
        clock.cancel()
        clock.join()
        _kill(process)
        process.wait()
        feeder.join()
        if process.stdout is not None:
            process.stdout.close()
    if late.is_set() or code == -signal.SIGXCPU:
        raise DocumentRefused(
            "too-slow",
            f"reading this document took more than {limits.seconds:g} seconds; split it",
        )
    if code:
        raise DocumentRefused("broken", "this document is damaged, or takes more memory than it may")
    return answer


def _feed(process: "subprocess.Popen[bytes]", data: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(data)
        process.stdin.close()
    except OSError:  # it has ended: its answer says why
        return


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """With all that it may have started."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _read(answer: bytes, kind: DocumentKind) -> Document:
    try:
        told = json.loads(answer)
        if "refused" in told:
            raise DocumentRefused(str(told["refused"][0]), str(told["refused"][1]))
        sections = tuple(
            Section(str(text), tuple(tidy(str(one)) for one in headings), None if page is None else int(page))
            for text, headings, page in told["sections"]
        )
        pages = told["pages"]
        return Document(
            kind, tidy(str(told["title"])), sections, None if pages is None else int(pages), bool(told["truncated"])
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DocumentRefused("broken", "this document is damaged") from None
