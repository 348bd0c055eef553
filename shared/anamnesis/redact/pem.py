"""Private keys in PEM, whole or cut off at either end, plain or with escaped newlines."""

import re
from collections.abc import Iterator

from anamnesis.redact.spans import Span

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{0,40})PRIVATE KEY( BLOCK)?-----")
_END = re.compile(rb"-----END ([A-Z0-9 ]{0,40})PRIVATE KEY( BLOCK)?-----")
_BREAK = re.compile(rb"\r?\n|(?:\\+r)?\\+n|\\+r")
_BODY = re.compile(rb"[^A-Za-z0-9]{0,24}(?:[0-9]{1,6}[^A-Za-z0-9]{1,4})?[A-Za-z0-9+/=]{16,}+[^A-Za-z0-9]{0,8}")
_TAIL = re.compile(rb"[^A-Za-z0-9]{0,24}(?:[0-9]{1,6}[^A-Za-z0-9]{1,4})?[A-Za-z0-9+/]{1,76}={1,2}[^A-Za-z0-9]{0,8}")
_CUT_OFF = re.compile(rb"[^A-Za-z0-9]{0,24}[A-Za-z0-9+/=]{16,}")
_HEADER = re.compile(rb"[^A-Za-z0-9]{0,24}(?:Proc-Type|DEK-Info|Version|Comment|Charset|Hash):.{0,120}")
_BLANK = re.compile(rb"[^A-Za-z0-9]{0,24}(?:[0-9]{1,6}[^A-Za-z0-9]{0,4})?")
_PUTTY = re.compile(rb"Private-Lines: [0-9]{1,4}((?:\r?\n[A-Za-z0-9+/=]{1,64})+)")
_JWK = re.compile(rb"\\*\"(?:d|p|q|dp|dq|qi|k)\\*\"[ \t]*:[ \t]*\\*\"([A-Za-z0-9_-]{20,4096})")


def find_private_keys(flat: bytes) -> Iterator[Span]:
    """Every private key. A key without its end runs as far as its lines look like base64, and one
    without its beginning is followed backwards in the same way."""
    done = 0
    if b"PRIVATE KEY" in flat:
        at = flat.find(b"-----")
        while at >= 0:
            begin = _BEGIN.match(flat, at)
            if begin is not None:
                done = _end_of_key(flat, begin.end())
                yield Span(at, done, "private-key")
            elif (end := _END.match(flat, at)) is not None:
                yield Span(_start_of_key(flat, at, done), end.end(), "private-key")
                done = end.end()
            at = flat.find(b"-----", max(done, at + 1))
    if b"PuTTY-User-Key-File" in flat:
        for match in _PUTTY.finditer(flat):
            yield Span(match.start(1), match.end(1), "private-key")
    if b'"kty' in flat:
        for match in _JWK.finditer(flat):
            yield Span(match.start(1), match.end(1), "private-key")


def _end_of_key(flat: bytes, start: int) -> int:
    """Just behind the END line, or behind the last line that looks like part of a key."""
    limit = flat.find(b"-----BEGIN", start)
    limit = len(flat) if limit < 0 else limit
    at, end = start, start
    while at < limit:
        break_ = _BREAK.search(flat, at, limit)
        stop = break_.start() if break_ else limit
        closing = _END.search(flat, at, stop)
        if closing is not None:
            return closing.end()
        if _part_of_key(flat, at, stop) or (at == start and flat[at:stop].strip() == b""):
            end = stop
        elif not _BLANK.fullmatch(flat, at, stop):
            run = _CUT_OFF.match(flat, at, stop)
            return run.end() if run else end
        at = break_.end() if break_ else limit
    return end


def _start_of_key(flat: bytes, end: int, floor: int) -> int:
    """The first of the lines before `end` that look like part of a key; not before `floor`."""
    start = end
    while start > floor:
        stop = start
        while stop > floor and (flat[stop - 1 : stop] in (b"\n", b"\r") or flat[stop - 2 : stop] in (rb"\n", rb"\r")):
            stop -= 1 if flat[stop - 1 : stop] in (b"\n", b"\r") else 2
        line = flat.rfind(b"\n", floor, stop) + 1
        escaped = flat.rfind(rb"\n", max(floor, line), stop)
        line = max(floor, line, escaped + 2 if escaped >= 0 else 0)
        if line >= stop or not _part_of_key(flat, line, stop):
            break
        start = line
    return start


def _part_of_key(flat: bytes, start: int, stop: int) -> bool:
    return any(pattern.fullmatch(flat, start, stop) is not None for pattern in (_BODY, _TAIL, _HEADER))
