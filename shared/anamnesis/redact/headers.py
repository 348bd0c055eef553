"""Credentials in HTTP headers and on command lines."""

import re
from collections.abc import Iterator

from anamnesis.redact.spans import Span
from anamnesis.redact.values import is_stand_in

_SCHEMES = rb"bearer|basic|token|digest|apikey|api-key|negotiate|ntlm|hmac|aws4-hmac-sha256|key"
_AUTHORIZATION = re.compile(
    rb"(?i)(?:authorization|proxy-authorization)\\*[\"'`]?\]?[ \t]*[:=,][ \t]*\\*[rbuf]?[\"'`]?(?:(?P<scheme>"
    + _SCHEMES
    + rb")[ \t]+)?(?P<value>[A-Za-z0-9._~+/$-]{6,8192}+={0,2})"
)
_BEARER = re.compile(rb"(?i)bearer[ \t]+([A-Za-z0-9._~+/:-]{12,8192}+={0,2})")
_COOKIE = re.compile(rb"(?i)(?:set-)?cookie\\*[\"']?:[ \t]*\\*[\"']?([A-Za-z0-9_.-]{1,64}=[^\r\n\"'\\]{8,8192})")
_COMMANDS = (
    (b"curl ", re.compile(rb"[ \t](?:-u|--user|--proxy-user)[ =]?[\"']?[^\s:\"'$]{1,128}:([^\s\"'$]{3,256})")),
    (b"sshpass", re.compile(rb"[ \t]-p[ \t]?[\"']?([^\s\"'$]{3,256})")),
    (b"mysql", re.compile(rb"[ \t]-p[\"']?([^\s\"'$]{3,128})")),
    (b"docker login", re.compile(rb"[ \t]-p[ =]?[\"']?([^\s\"'$]{3,256})")),
    (b"redis-cli", re.compile(rb"[ \t]-a[ \t]?[\"']?([^\s\"'$]{3,256})")),
)
_COMMAND = 512
"""Characters of a command line in which its password is looked for."""
_DIGIT = re.compile(rb"[0-9]")


def find_headers(flat: bytes, low: bytes) -> Iterator[Span]:
    """Authorization and cookie headers, bearer tokens anywhere, and passwords given to common commands."""
    at = low.find(b"authorization")
    while at >= 0:
        header = _AUTHORIZATION.match(flat, at)
        if header is not None and not is_stand_in(header["value"]) and _telling(header["value"], header["scheme"]):
            yield Span(header.start("value"), header.end("value"), "authorization")
        at = low.find(b"authorization", at + 13)
    at = low.find(b"bearer ")
    while at >= 0:
        bearer = _BEARER.match(flat, at)
        if bearer is not None and _DIGIT.search(bearer[1]) and not is_stand_in(bearer[1]):
            yield Span(bearer.start(1), bearer.end(1), "authorization")
        at = low.find(b"bearer ", at + 7)
    at = low.find(b"cookie")
    while at >= 0:
        cookie = _COOKIE.match(flat, at)
        if cookie is not None and not is_stand_in(cookie[1]):
            yield Span(cookie.start(1), cookie.end(1), "cookie")
        at = low.find(b"cookie", cookie.end() if cookie else at + 6)
    for anchor, pattern in _COMMANDS:
        at = flat.find(anchor)
        while at >= 0:
            stop = flat.find(b"\n", at, at + _COMMAND)
            match = pattern.search(flat, at, stop if stop >= 0 else min(len(flat), at + _COMMAND))
            if match is not None and not is_stand_in(match[1]):
                yield Span(match.start(1), match.end(1), "password")
            at = flat.find(anchor, at + len(anchor))


def _telling(value: bytes, scheme: bytes | None) -> bool:
    """Behind a scheme almost anything is a credential; without one it must not look like a name in code."""
    if scheme is not None:
        return _DIGIT.search(value) is not None or (len(value) >= 16 and not value.islower())
    return len(value) >= 16 and _DIGIT.search(value) is not None and b"(" not in value
