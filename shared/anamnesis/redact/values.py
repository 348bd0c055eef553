"""Whether a value can be a secret at all: placeholders, references and code are not."""

import base64
import math
import re
from collections import Counter
from itertools import pairwise

_PLACEHOLDERS = frozenset(
    b"""
    access_token any api_key apikey argon2 auth base64 bearer bool boolean bytes change-me change_me changeme char const
    credential credentials default dummy empty enabled example false field file float foo bar hash hashed hidden hunter
    include input int integer invalid key masked md5 missing mypassword n/a name nil no none null number object off omit
    on optional pass passphrase passwd password placeholder private public pwd redacted replace-me replaceme required
    revoked same-origin secret set sha1 sha256 sha512 str string tbd test text todo token true type undefined unknown
    unset user username utf-8 utf8 value varchar wrong yes
    """.split()
)
_MASK = re.compile(rb"[*xX.?#_\-]+|[*.?#]{3,}.*")
_REFERENCE = re.compile(
    rb"\${1,2}(?:[({<?]|[0-9]?\Z|[A-Za-z_]+[0-9]?(?:\Z|->|[].:/$[]))|@(?:[({]|Microsoft\.|[A-Za-z_]+[0-9]?\Z)|"
    rb"%[A-Za-z_(]|\{|<|!(?:Ref|Sub|GetAtt|secret|vault|env)\b|#\{|ENC\[|env[:.(]|(?:vault|op|ssm|awssm|arn|secretref|file|gcp|azure|keyring|https?):|"
    rb"(?:os|process|import\.meta|Deno|System)\.(?:environ|env|getenv)|getenv|secrets?\.|vars?\.|inputs\.|env\.|config\."
)
_ADVICE = re.compile(
    rb"(?i)(?:your|insert|replace|enter|put|add|paste|type|choose)(?:[ _-]|$)"
    rb"|.*(?:your[_-]|[_-]here$|placeholder|changeme|example\.(?:com|org))"
)
_PATH = re.compile(
    rb"(?:~|\.{1,2})?/[\w.@-]+(?:/[\w.@-]+)+/?|(?:~|\.{1,2})/[\w.-]+|[\w./-]+\.(?:json|ya?ml|txt|pem|key|crt|py|ts|js|go|rs|toml|env|md)"
)
_WORDS = re.compile(rb"[A-Za-z]+(?:[_.:/-][A-Za-z]+)*")
_CONSTANT = re.compile(rb"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
_DOTTED = re.compile(rb"[A-Za-z_]\w*(?:\??\.[A-Za-z_]\w*)+")
_SNAKE = re.compile(rb"_*[a-z]+\d{0,2}(?:_[a-z]*\d{0,2})*")
_CAMEL = re.compile(rb"[A-Za-z][a-z]+(?:[A-Z][a-z]*\d?)+|[A-Z][a-z]+\d?")
_QUANTITY = re.compile(rb"[-+]?[0-9][0-9_.,:]*(?:ms|s|m|h|d|k|K|M|B|%|kb|mb|px)?")
_NAMED = re.compile(rb"(?:[A-Z]{2,}[0-9]{0,2}|[A-Z]?[a-z]{2,}[0-9]{0,2}|[_.:/-])++")
"""Words and numbers side by side, as in `PKCS7PrivateKeyTypes`; of random characters few make such words."""
_UUID = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_DIGIT = re.compile(rb"[0-9]")
_LETTER = re.compile(rb"[A-Za-z]")
_MESSAGE = re.compile(
    rb"(?i)\b(?:pass|invalid|required?\b|must|please|enter|incorrect|wrong|match|should|cannot|reset|forgot|change|confirm"
    rb"|your?\b|is\b|are\b|not\b|for\b|the\b|an?\b|to\b)"
)
_DENSE = re.compile(rb"[A-Za-z0-9+/=_~.-]+")


def is_stand_in(value: bytes) -> bool:
    """Nothing to hide: a mask, a placeholder, a reference to where the secret is, or our own marker."""
    return (
        value.lower() in _PLACEHOLDERS
        or b"[REDACTED" in value
        or _MASK.fullmatch(value) is not None
        or _REFERENCE.match(value) is not None
        or _ADVICE.match(value) is not None
        or _PATH.fullmatch(value) is not None
        or _CONSTANT.fullmatch(value) is not None
    )


def is_code(value: bytes) -> bool:
    """Looks like an expression, an identifier or a type rather than like a value."""
    return (
        b"(" in value
        or b"[" in value
        or _DOTTED.fullmatch(value) is not None
        or _SNAKE.fullmatch(value) is not None
        or _CAMEL.fullmatch(value) is not None
    )


def is_password(value: bytes, bare: bool) -> bool:
    """A password is whatever somebody chose; without quotes it must not look like code."""
    if not 4 <= len(value) <= 512 or is_stand_in(value):
        return False
    if bare:
        if value.isalnum() and len(value) >= 6 and _DIGIT.search(value) is not None:
            return True  # `hunter2` could name a variable, but more people have it for a password
        return not is_code(value) and (_DIGIT.search(value) is not None or not value.isalpha())
    return value.count(b" ") == 0


def is_passphrase(value: bytes) -> bool:
    """Three words or more that are no sentence about passwords."""
    return len(value) <= 128 and value.count(b" ") >= 2 and _MESSAGE.search(value) is None and not is_stand_in(value)


def is_opaque(value: bytes) -> bool:
    """A long value of any characters but blanks that nobody reads: the secret keys of web frameworks."""
    return (
        16 <= len(value) <= 512
        and not any(c <= 32 for c in value)
        and _DIGIT.search(value) is not None
        and _LETTER.search(value) is not None
        and entropy(value) >= 3.5
        and not is_stand_in(value)
    )


def is_login(value: bytes) -> bool:
    """Base64 of `user:password`, as registries keep it."""
    try:
        user, colon, password = base64.b64decode(value, validate=True).partition(b":")
    except ValueError:
        return False
    return bool(user and colon and password) and (user + password).isascii()


def is_token(value: bytes, bare: bool) -> bool:
    """A token or API key: letters and digits, no sentence, no quantity, no dotted path."""
    if not 8 <= len(value) <= 16_384 or is_stand_in(value) or _DENSE.fullmatch(value) is None:
        return False
    if _QUANTITY.fullmatch(value) is not None or _DOTTED.fullmatch(value) is not None:
        return False
    if _WORDS.fullmatch(value) is not None:
        return len(value) >= 24 and entropy(value) >= 4.0
    if bare and len(value) < 20 and (_SNAKE.fullmatch(value) is not None or _CAMEL.fullmatch(value) is not None):
        return False
    return _DIGIT.search(value) is not None and _LETTER.search(value) is not None


def is_key(value: bytes) -> bool:
    """The value of some `..._key`: only what is plainly random."""
    return (
        len(value) >= 20
        and is_token(value, bare=False)
        and _DIGIT.search(value) is not None
        and _NAMED.fullmatch(value) is None
        and _UUID.fullmatch(value) is None
        and entropy(value) >= 3.0
        and value.count(b"-") + value.count(b"_") + value.count(b"/") <= len(value) // 8
    )


def entropy(value: bytes) -> float:
    """Shannon entropy of the bytes, in bits a byte."""
    total = len(value)
    return -sum(n / total * math.log2(n / total) for n in Counter(value).values()) if total else 0.0


def is_random(value: bytes) -> bool:
    """A run that only a random source would write: mixed case and digits, well shuffled. Hexadecimal is left alone,
    since hashes and ids are written that way."""
    if len(value) < 20 or not (value.lower() != value and value.upper() != value) or len(_DIGIT.findall(value)) < 2:
        return False
    kinds = [b"0" if 48 <= c < 58 else b"A" if c < 91 else b"a" for c in value]
    changes = sum(a != b for a, b in pairwise(kinds))
    return changes >= len(value) // 4 and entropy(value) >= (4.2 if len(value) >= 32 else 3.7)
