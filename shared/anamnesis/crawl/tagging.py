"""Tags for documents by patterns over their names and contents.

Regular expressions come from people, and one may take longer than the universe lasts. Python's cannot be stopped from
within their own process, so they are searched for in another one (`matcher`), which is killed when time is up; the
document then has the tags of the other patterns.
"""

import contextlib
import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from anamnesis.contracts.crawler import TagPattern, TagPatterns
from anamnesis.kit.errors import Invalid

SECONDS = 2
"""For one pattern and one document."""
PATIENCE = 3
"""Documents with which a pattern may take too long before it is set aside."""
_START = 30.0
"""Seconds more that are waited for: a process that has just been started, on a machine with much else to do."""


class Tagged(NamedTuple):
    tags: tuple[str, ...]
    slow: tuple[str, ...] = ()
    """Patterns that took too long."""


class Tagger:
    """Finds the tags of documents; closes its process when it is left. Not for two threads at once."""

    none = Tagged(())

    def __init__(self, patterns: TagPatterns, seconds: int = SECONDS) -> None:
        self._patterns = patterns.patterns
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._misses: dict[str, int] = {}

    def __enter__(self) -> "Tagger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def tags(self, name: str, content: str) -> Tagged:
        tags: list[str] = []
        slow: list[str] = []
        texts: dict[str, tuple[str, ...]] = {"name": (name,), "content": (content,), "both": (name, content)}
        lowered = {where: tuple(map(str.casefold, some)) for where, some in texts.items()}
        sent: str | None = None
        for one in self._patterns:
            if one.syntax == "plain":
                if any(one.pattern.casefold() in text for text in lowered[one.where]):
                    tags += one.tags
                continue
            if self._misses.get(one.pattern, 0) >= PATIENCE:
                continue
            found = self._search(one, None if sent == one.where and self._process is not None else texts[one.where])
            sent = one.where
            if found is None:
                slow.append(one.pattern)
                self._misses[one.pattern] = self._misses.get(one.pattern, 0) + 1
            elif found:
                tags += one.tags
        return Tagged(tuple(dict.fromkeys(tags)), tuple(slow))

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        process.wait()

    def _search(self, pattern: TagPattern, texts: Sequence[str] | None) -> bool | None:
        """Whether a text holds a pattern; none where that took too long. `texts` are those to look in from now on."""
        started = self._process is None
        process = self._process = self._process or subprocess.Popen(  # noqa: S603 -- our own script, by its path
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("matcher.py")), str(self._seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        try:
            if texts is not None:
                process.stdin.write(json.dumps({"texts": texts}).encode() + b"\n")
            process.stdin.write(json.dumps({"pattern": pattern.pattern}).encode() + b"\n")
            process.stdin.flush()
            waiting = select.poll()
            waiting.register(process.stdout, select.POLLIN)
            # Its own alarm ends it in time; this is for the case that it cannot.
            waiting.poll((self._seconds + (_START if started or texts is not None else 1.0)) * 1000)
            os.set_blocking(process.stdout.fileno(), False)
            answer = os.read(process.stdout.fileno(), 1)
        except (BrokenPipeError, BlockingIOError):
            answer = b""
        if not answer:
            self.close()
            return None
        return answer == b"1"


def check(patterns: TagPatterns) -> None:
    """Raise `Invalid` where a regular expression is none, and say which and why."""
    for one in patterns.patterns:
        if one.syntax == "regex":
            try:
                re.compile(one.pattern, re.IGNORECASE)
            except (re.error, OverflowError, RecursionError) as error:
                raise Invalid(f"the pattern {one.pattern!r} is no regular expression: {error}; mend it") from None
