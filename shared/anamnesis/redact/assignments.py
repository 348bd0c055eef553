"""Values assigned to telling names: `password=`, `"api_key": "..."`, `--token X`, `DB_PASS: ...`.

The name is found first by a few fixed fragments; then the separator, the quoting and the value are
read from there. The value must look like a secret (`values`), by a rule that depends on the name.
"""

import re
from collections.abc import Iterator

from anamnesis.redact.spans import Span
from anamnesis.redact.values import is_key, is_password, is_stand_in, is_token

# Fragments of lower-case names, and how the name goes on from there. Where one name holds two, the later one
# counts (`token_secret`): the earlier one is not followed by a separator.
_NAMES = (
    (b"pass", re.compile(rb"word|wd|phrase|wort|code|"), "password"),
    (b"pwd", re.compile(rb""), "password"),
    (b"secret", re.compile(rb""), "secret"),
    (b"token", re.compile(rb""), "token"),
    (b"credential", re.compile(rb"s?"), "secret"),
    (b"key", re.compile(rb""), "key"),
)
_NO_SECRET_KEYS = re.compile(
    rb"(?:public|primary|foreign|cache|sort|partition|hash|range|hot|object|storage|row|lookup|idempotency|dedupe|query|search"
    rb"|group|map|dict|index|unique|i18n|translation|s3|routing|shortcut|ssh|host|kms|arrow)[_-]?$"
)
_API_KEY = re.compile(
    rb"(?:api|access|secret|auth|account|encryption|signing|master|client|shared|license|app|webhook)[_-]?$"
)
_AFTER = re.compile(
    rb"""(?:[_-]?(?:[0-9]{1,3}|prod|production|dev|development|staging|stage|test|live|main|root|admin|value|base64|b64|raw|plain|plaintext|current|new|old|header))?
    (?P<close>\\*["'`]?\]?\*{0,2})
    (?:
      (?P<sep>[ \t]{0,4}(?::=|=>|={1,3}|:(?![/:]))\*{0,2}[ \t]{0,16})
      (?:(?:str|String|string|bytes|SecretStr|Optional\[str\]|str[ ]\|[ ]None|&str|char[ ]?\*)[ \t]*=[ \t]*)?
      (?:[rbuf]{1,2}(?=["']))?
    | (?P<prose>[ \t](?:is|was|to|is[ ]now)[ \t]*[:=]?[ \t]+)
    | (?P<flag>[ \t]{1,4})
    | (?P<xml>>)
    | (?P<entry>\\*["']?[ \t]*,?(?:[ \t]|\\n|\r?\n){0,32}\\*["']?[vV]alue\\*["']?[ \t]*[:=][ \t]*)
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_QUOTE = re.compile(rb"\\*[\"'`]|&quot;")
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
            # A bare `pass` is a word of every language; a name that ends in it says `db_pass`, `"pass"` or `PASS`.
            if fragment != b"pass" or end > at + 4 or low[at - 1 : at] in (b"_", b"-", b'"', b"'") or flat[at] == 80:
                span = _read(flat, low, at, end, kind)
            if span is not None:
                yield span
            at = low.find(fragment, max(end, span.end if span else 0))


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
    if after["xml"] is not None:
        value = _XML.match(flat, at)
        if after["close"] or value is None or not _secret(value[1], kind, bare=False, strict=strict):
            return None
        return Span(value.start(1), value.end(1), kind)
    quote = _QUOTE.match(flat, at)
    if quote is not None:
        closing = _closing(flat, quote.end(), quote[0])
        if closing is not None:
            value_of = flat[quote.end() : closing]
            loose = (after["flag"] is None and after["prose"] is None) or _is_flag(flat, start)
            if loose and _secret(value_of, kind, bare=False, strict=strict):
                return Span(quote.end(), closing, kind)
            if (after["prose"] or after["flag"]) and _prose(value_of, kind):
                return Span(quote.end(), closing, kind)
            return None
        at = quote.end()
    bare = _BARE["password" if kind in ("password", "secret") else "token"].match(flat, at)
    if bare is None:
        return None
    if after["flag"] is not None:
        return _flag(flat, start, bare, kind, strict)
    if after["prose"] is not None:
        value_of = bare[0].rstrip(b".!?,:")
        return Span(at, at + len(value_of), kind) if _prose(value_of, kind) else None
    if after["entry"] is not None:
        return Span(at, bare.end(), kind) if _secret(bare[0], kind, bare=False, strict=strict) else None
    if kind in ("password", "secret"):
        line = _whole_line(flat, start, at, tight=b" " not in after["sep"] if after["sep"] else False)
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


def _closing(flat: bytes, start: int, quote: bytes) -> int | None:
    """Where the quoted value ends: the same quote, not escaped, on the same line."""
    stop = flat.find(b"\n", start, start + _MAX_QUOTED)
    stop = min(len(flat), start + _MAX_QUOTED) if stop < 0 else stop
    at = flat.find(quote, start, stop)
    while at > start and flat[at - 1 : at] == b"\\":
        at = flat.find(quote, at + 1, stop)
    return at if at > start else None


def _is_flag(flat: bytes, start: int) -> bool:
    word = flat[max(0, start - 32) : start].rpartition(b" ")[2]
    return word.lstrip(b"'\"").startswith(b"--")


def _flag(flat: bytes, start: int, bare: "re.Match[bytes]", kind: str, strict: bool) -> Span | None:
    """`--password X`: a name with two dashes before, separated by a space."""
    if not _is_flag(flat, start):
        return None
    value = bare[0]
    if value.startswith(b"-") or is_stand_in(value) or len(value) < 4 or b"(" in value:
        return None
    if kind != "password" and not _secret(value, kind, bare=True, strict=strict):
        return None
    return Span(bare.start(), bare.end(), kind)


def _prose(value: bytes, kind: str) -> bool:
    """`the password is X`: only what no sentence would say."""
    if kind == "password":
        return len(value) >= 5 and is_password(value, bare=False) and _MIXED.search(value) is not None
    return kind in ("api-key", "token", "secret") and len(value) >= 12 and is_token(value, bare=True)


def _whole_line(flat: bytes, start: int, at: int, tight: bool) -> bytes | None:
    """The value of a line of an .env, ini, properties or YAML file: all that stands behind the separator."""
    before = _LINE_START.search(flat[max(0, start - _LEFT) : start])
    rest = _LINE.match(flat, at)
    if before is None or rest is None:
        return None
    value = _COMMENT.split(rest[0].partition(b"\\n")[0], 1)[0].rstrip()
    if len(value) < 4 or len(value) > 512 or any(c in value for c in b" \t\"'`()[]{}<>") or is_stand_in(value):
        return None
    if value[-1:] in b",;":
        return None
    shouting = flat[start : start + 4].isupper()
    if not (tight or shouting) and _TYPES.fullmatch(value) is not None and not value.islower():
        return None
    if not tight and not shouting and b"." in value and _TYPES.fullmatch(value) is not None:
        return None
    return value
