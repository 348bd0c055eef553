"""Values assigned to telling names: `password=`, `"api_key": "..."`, `--token X`, `DB_PASS: ...`.

The name is found first by a few fixed fragments; then the separator, the quoting and the value are
read from there. The value must look like a secret (`values`), by a rule that depends on the name.
"""

import re
from collections.abc import Iterator

from anamnesis.redact.spans import Span
from anamnesis.redact.values import (
    is_key,
    is_login,
    is_opaque,
    is_passphrase,
    is_password,
    is_stand_in,
    is_token,
)

# Fragments of lower-case names, and how the name goes on from there. Where one name holds two, the later one
# counts (`token_secret`): the earlier one is not followed by a separator.
_NAMES = (
    (b"pass", re.compile(rb"word|wd|phrase|wort|code|"), "password"),
    (b"pwd", re.compile(rb""), "password"),
    (b"psk", re.compile(rb""), "password"),
    (b"secret", re.compile(rb""), "secret"),
    (b"token", re.compile(rb""), "token"),
    (b"credential", re.compile(rb"s?"), "secret"),
    (b"key", re.compile(rb""), "key"),
    (b"_pat", re.compile(rb""), "token"),
    (b"auth", re.compile(rb""), "login"),
)
_NO_SECRET_KEYS = re.compile(
    rb"(?:public|primary|foreign|cache|sort|partition|hash|range|hot|object|storage|row|lookup|idempotency|dedupe|query|search"
    rb"|group|map|dict|index|unique|i18n|translation|s3|routing|shortcut|ssh|host|kms|arrow)[_-]?$"
)
_API_KEY = re.compile(
    rb"(?:api|access|secret|auth|account|encryption|signing|master|client|shared|license|app|webhook)[_-]?$"
)
_AFTER = re.compile(
    rb"""(?:[_-]?(?:[0-9]{1,3}|prod|production|dev|development|staging|stage|test|live|main|root|admin|value|base64|b64|raw|plain|plaintext|current|new|old|header|data))?
    (?P<close>\\*["'`]?\]?\*{0,2})
    (?:
      (?P<sep>[ \t]{0,4}(?::=|=>|={1,3}|:(?![/:]))\*{0,2}[ \t]{0,16})
      (?:(?:str|String|string|bytes|SecretStr|Optional\[str\]|str[ ]\|[ ]None|&str|char[ ]?\*)[ \t]*=[ \t]*)?
      (?:[rbuf]{1,2}(?=["']))?
    | (?P<prose>[ \t](?:is|was|to|is[ ]now)[ \t]*[:=]?[ \t]+)
    | (?P<flag>[ \t]{1,4}(?!value[ \t]?=))
    | (?P<xml>>)
    | (?P<entry>\\*["']?[ \t]*,?(?:[ \t]|\\n|\r?\n){0,32}\\*["']?[vV]alue\\*["']?[ \t]*[:=][ \t]*)
    | (?P<call>\([ \t]*)
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_QUOTE = re.compile(rb"\\*([\"'`])(?:\\*\1\\*\1)?|&quot;")
_BARE = {
    "password": re.compile(rb"[^\s\"'`,;<>{}\])\\|&]{1,256}+"),
    "token": re.compile(rb"[A-Za-z0-9+/_.~$%\[({@!#*-]{1,16384}+={0,2}"),
}
"""What an unquoted value is made of. Tokens hold no separator, so none is read twice; passwords may, and are short."""
_LINE = re.compile(rb"[^\r\n]{0,1024}")
_XML = re.compile(rb"([^<>\s]{4,1024})</")
_LINE_START = re.compile(
    rb"(?:^|[\n])[ \t0-9>|+:-]{0,12}(?:export|set|setx|ENV|ARG|declare -x)?[ \t]?[\"']?[A-Za-z0-9_.-]{0,64}$"
)
_TYPES = re.compile(rb"[A-Za-z_][\w.]*(?:\[[\w\[\], .|]*\]?)?[;,]?|[A-Za-z_]\w*[ ]*\|.*")
_COMMENT = re.compile(rb"[ \t](?:#|//)")
_MIXED = re.compile(rb"[A-Za-z].*[0-9!@#$%^&*+]|[0-9].*[A-Za-z]")
_SETTING = re.compile(rb"(?:^|[\s;&|(])(?:setx|ENV|(?P<word>set))(?: -g?x)?\Z")
_NETRC = re.compile(rb"machine\s{1,8}(?:localhost|[\w-]{1,64}[.:]\S{1,64})\s{1,8}login\s{1,8}\S{1,128}\s{1,8}\Z")
_SETTER = re.compile(rb"(?:[sS]et_?|[wW]ith_?)[A-Za-z_]{0,32}\Z|\.\Z")
_NAME_BEFORE = b"abcdefghijklmnopqrstuvwxyz0123456789_"
_BESIDE = re.compile(rb"[:=]| {1,3}=(?!=)")
_NO_PASSWORD = re.compile(rb"(?:by|com|sur|tres|over|under|en|low|high|band|im|get)\Z")
_IDENTIFIER = re.compile(rb"(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*)")
_WIFI = re.compile(rb"(?i)wifi(?:multi)?\.(?:begin|addap)\([ \t]{0,8}[^,\n()]{1,128},[ \t]{0,8}\"([^\"\n]{8,63})\"")
"""How sketches for microcontrollers join a network: its password is the second argument, and no name says so."""
_MAX_QUOTED = 4096
_LEFT = 96
"""How far before a name we look for what stands on its line."""


def find_assignments(flat: bytes, low: bytes) -> Iterator[Span]:
    """Every value that a telling name gives away. `low` is `flat` in lower case."""
    for fragment, rest, kind in _NAMES:
        at = low.find(fragment)
        while at >= 0:
            name = rest.match(low, at + len(fragment))
            end = name.end() if name else at + len(fragment)
            span = None
            if fragment != b"pass" or end > at + 4 or _is_name(flat, low, at):
                span = _read(flat, low, at, end, kind)
            if span is not None:
                yield span
            at = low.find(fragment, max(end, span.end if span else 0))
    at = low.find(b"wifi")
    while at >= 0:
        if (joined := _WIFI.match(flat, at)) is not None and not is_stand_in(joined[1]):
            yield Span(joined.start(1), joined.end(1), "password")
        at = low.find(b"wifi", at + 4)


def _is_name(flat: bytes, low: bytes, at: int) -> bool:
    """A bare `pass` is a word of every language; a name ends in it (`db_pass`, `"pass"`) or has its value beside it.

    `PASS: ...` is what test runners write.
    """
    if low[at - 1 : at] in (b"_", b"-", b'"', b"'"):
        return True
    if flat[at : at + 5] == b"PASS:":
        return False
    if _BESIDE.match(flat, at + 4) is not None and _NO_PASSWORD.search(low, max(0, at - 8), at) is None:
        return True
    return flat[at] == 80


def _is_word(flat: bytes, start: int, end: int) -> bool:
    """A `pass` of its own, which most often is a word."""
    before = flat[start - 1 : start]
    return end == start + 4 and not before.isalnum() and before not in (b"_", b"-", b'"', b"'")


def _read(flat: bytes, low: bytes, start: int, end: int, kind: str) -> Span | None:
    after = _AFTER.match(flat, end)
    if after is None:
        return None
    strict = False
    if kind == "key":
        left = low[max(0, start - 24) : start]
        if _NO_SECRET_KEYS.search(left):
            return None
        named = _API_KEY.search(left) is not None
        strict = not named
        kind = "api-key" if named else "key"
    at = after.end()
    if kind == "login":
        return _login(flat, start, after)
    if after["xml"] is not None:
        value = _XML.match(flat, at)
        if after["close"] or value is None or not _secret(value[1], kind, bare=False, strict=strict):
            return None
        return Span(value.start(1), value.end(1), kind)
    if after["call"] is not None and not _SETTER.search(flat, max(0, start - _LEFT), start):
        return None
    quote = _QUOTE.match(flat, at)
    if quote is not None:
        closing = _closing(flat, quote.end(), quote[0])
        if closing is not None:
            value_of = flat[quote.end() : closing]
            assigned = after["sep"] is not None or after["entry"] is not None
            loose = assigned or after["call"] is not None or _is_flag(flat, start)
            if loose and _secret(value_of, kind, bare=False, strict=strict):
                return Span(quote.end(), closing, kind)
            if assigned and _unusual(value_of, kind, flat[start:end], low[max(0, start - 7) : start]):
                return Span(quote.end(), closing, kind)
            if (after["prose"] or after["flag"]) and _prose(value_of, kind):
                return Span(quote.end(), closing, kind)
            return None
        at = quote.end()
    bare = _BARE["password" if kind in ("password", "secret") else "token"].match(flat, at)
    if bare is None or after["call"] is not None:
        return None
    if after["flag"] is not None:
        return _flag(flat, start, bare, kind, strict)
    if after["prose"] is not None:
        value_of = bare[0].rstrip(b".!?,:")
        return Span(at, at + len(value_of), kind) if _prose(value_of, kind) else None
    if after["entry"] is not None:
        return Span(at, bare.end(), kind) if _secret(bare[0], kind, bare=False, strict=strict) else None
    if kind in ("password", "secret"):
        tight = b" " not in after["sep"]
        line = _whole_line(flat, low, start, end, at, tight) if tight or not _is_word(flat, start, end) else None
        if line is not None:
            return Span(at, at + len(line), kind)
        if (
            kind == "password"
            and flat[start : end + 1].isupper()
            and after[0] == b"="
            and is_password(bare[0], bare=False)
        ):
            return Span(at, bare.end(), kind)  # PGPASSWORD=... psql
    if _secret(bare[0], kind, bare=True, strict=strict) and flat[bare.end() : bare.end() + 1] not in (b"(", b"["):
        return Span(at, bare.end(), kind)
    return None


def _secret(value: bytes, kind: str, bare: bool, strict: bool) -> bool:
    if kind == "password":
        return is_password(value, bare)
    if strict:
        return is_key(value)
    if kind == "secret" and not bare and 6 <= len(value) <= 512 and b" " not in value:
        return not is_stand_in(value) and (is_token(value, bare) or value.isalnum())
    return is_token(value, bare)


def _unusual(value: bytes, kind: str, name: bytes, before: bytes) -> bool:
    """A quoted passphrase, or a `SECRET_KEY` of any characters."""
    if kind == "password":
        return (name.isupper() or name.lower().startswith(b"passw")) and is_passphrase(value)
    return kind == "api-key" and before.rstrip(b"_-").endswith(b"secret") and is_opaque(value)


def _login(flat: bytes, start: int, after: "re.Match[bytes]") -> Span | None:
    """`"auth": "..."` of a registry's configuration, and `_auth=...` of npm's."""
    if after["sep"] is None or flat[start - 1 : start] not in (b'"', b"_"):
        return None
    quote = _QUOTE.match(flat, after.end())
    value = _BARE["token"].match(flat, quote.end() if quote else after.end())
    return Span(value.start(), value.end(), "login") if value is not None and is_login(value[0]) else None


def _closing(flat: bytes, start: int, quote: bytes) -> int | None:
    """Where the quoted value ends: the same quote, not escaped, on the same line."""
    stop = flat.find(b"\n", start, start + _MAX_QUOTED)
    stop = min(len(flat), start + _MAX_QUOTED) if stop < 0 else stop
    at = flat.find(quote, start, stop)
    while at > start and flat[at - 1 : at] == b"\\":
        at = flat.find(quote, at + 1, stop)
    return at if at > start else None


def _is_flag(flat: bytes, start: int) -> bool:
    """A name with two dashes before it."""
    word = flat[max(0, start - 32) : start].rpartition(b" ")[2]
    return word.lstrip(b"'\"").startswith(b"--")


def _flag(flat: bytes, start: int, bare: "re.Match[bytes]", kind: str, strict: bool) -> Span | None:
    """A value behind a space: `--password X`, `ENV NAME X`, `aws configure set NAME X`, the login of a .netrc."""
    value = bare[0]
    if not _is_flag(flat, start):
        before = flat[max(0, start - _LEFT) : start].rpartition(b" ")[0]
        setting = _SETTING.search(before) if before.endswith((b"set", b"setx", b"ENV", b"-x", b"-gx")) else None
        if setting is None and not _in_netrc(flat, start, bare.start()):
            return None
        if setting is not None and setting["word"] is not None and not _prose(value, kind):
            return None
    if value.startswith(b"-") or is_stand_in(value) or len(value) < 4 or b"(" in value:
        return None
    if kind != "password" and not _secret(value, kind, bare=True, strict=strict):
        return None
    return Span(bare.start(), bare.end(), kind)


def _in_netrc(flat: bytes, start: int, end: int) -> bool:
    return flat[start:end] == b"password " and _NETRC.search(flat, max(0, start - 320), start) is not None


def _prose(value: bytes, kind: str) -> bool:
    """`the password is X`: only what no sentence would say."""
    if kind == "password":
        return len(value) >= 5 and is_password(value, bare=False) and _MIXED.search(value) is not None
    return kind in ("api-key", "token", "secret") and len(value) >= 12 and is_token(value, bare=True)


def _whole_line(flat: bytes, low: bytes, start: int, end: int, at: int, tight: bool) -> bytes | None:
    """The value of a line of an .env, ini, properties or YAML file: all that stands behind the separator."""
    before = _LINE_START.search(flat[max(0, start - _LEFT) : start])
    rest = _LINE.match(flat, at)
    if before is None or rest is None:
        return None
    value = _COMMENT.split(rest[0].partition(b"\\n")[0], 1)[0].rstrip()
    if len(value) < 4 or len(value) > 512 or any(c in value for c in b" \t\"'`()[]{}<>") or is_stand_in(value):
        return None
    if value[-1:] in b",;" or _names_itself(value, low, start, end):
        return None
    shouting = flat[start : start + 4].isupper()
    if not (tight or shouting) and _TYPES.fullmatch(value) is not None and not value.islower():
        return None
    if not tight and not shouting and b"." in value and _TYPES.fullmatch(value) is not None:
        return None
    return value


def _names_itself(value: bytes, low: bytes, start: int, end: int) -> bool:
    """`self.db_password = db_password`: the value is the name, or another name that ends in the same word."""
    identifier = _IDENTIFIER.fullmatch(value)
    if identifier is None:
        return False
    name, fragment = identifier[1], low[start:end]
    left = low[max(0, start - 64) : start]
    if name.lower() == left[len(left.rstrip(_NAME_BEFORE)) :] + fragment:
        return True
    at = len(name) - len(fragment)
    return name.lower().endswith(fragment) and at > 0 and (name[at - 1 : at] == b"_" or name[at : at + 1].isupper())
