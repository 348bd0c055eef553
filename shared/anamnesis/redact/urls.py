"""Passwords and signatures inside URLs."""

import re
from collections.abc import Iterator

from anamnesis.redact.spans import MARK, Span
from anamnesis.redact.values import is_random, is_stand_in

_USER = rb"://(?:[^\s/?#\"'`<>\\:]|\\(?![nrt])){0,256}+:"
_LOGIN = re.compile(_USER + rb"([^\s\"'`<>\\/]{1,512})@")
_DATABASE = re.compile(
    rb"(?i)(?:postgres(?:ql)?|mysql|mariadb|mongodb|rediss?|amqps?|mssql|clickhouse|ftp|sftp|smtps?|ldaps?)(?:\+[a-z0-9]{1,16})?$"
)
_LOOSE = re.compile(_USER + rb"([^\s\"'`<>\\@]{1,256})@")
_USER_ONLY = re.compile(rb"://([A-Za-z0-9_.~-]{20,512})@")
_HEX_TOKEN = re.compile(rb"[0-9a-f]{40}")
_GO_DATABASES = (b"@tcp(", b"@unix(")
_DELIMITER = re.compile(rb"[\s\"'`=(/]")
_GO_LOGIN = re.compile(rb"[\w.-]{1,64}:(.{1,128})")
_SIGNED = (b"sig=", b"signature=", b"security-token=")
_IN_QUERY = re.compile(rb"[?&;][A-Za-z-]{0,16}\Z")
_SIGNATURE = re.compile(rb"([A-Za-z0-9%+/=_.~-]{16,4096})")
_SLACK_HOOK = re.compile(rb"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9_/-]{16,256})")
_ZAPIER_HOOK = re.compile(rb"hooks\.zapier\.com/hooks/(?:catch|standard)/([0-9]{3,12}/[A-Za-z0-9_/-]{5,64})")
_DISCORD_HOOK = re.compile(rb"/api/webhooks/[0-9]{8,24}/([A-Za-z0-9_-]{40,128})")
_TEAMS_HOOK = re.compile(rb"webhook\.office\.com/webhookb2/([A-Za-z0-9@/_-]{40,512})")


def find_urls(flat: bytes, low: bytes) -> Iterator[Span]:
    """Passwords before the `@`, signed queries, and webhooks, whose path is the secret."""
    at = flat.find(b"://")
    while at >= 0:
        login = _LOGIN.match(flat, at)
        if login is None and _DATABASE.search(flat[max(0, at - 32) : at]):
            login = _LOOSE.match(flat, at)
        if login is not None and not is_stand_in(login[1]) and not flat.endswith(MARK, at, login.start(1)):
            yield Span(login.start(1), login.end(1), "url-password")
        user = _USER_ONLY.match(flat, at)
        if user is not None and (is_random(user[1].replace(b"-", b"")) or _HEX_TOKEN.fullmatch(user[1])):
            yield Span(user.start(1), user.end(1), "url-password")
        at = flat.find(b"://", at + 3)
    for anchor in _GO_DATABASES if b"@" in flat else ():
        at = flat.find(anchor)
        while at >= 0:
            login = _GO_LOGIN.fullmatch(_DELIMITER.split(flat[max(0, at - 200) : at])[-1])
            if login is not None and not is_stand_in(login[1]):
                yield Span(at - len(login[1]), at, "url-password")
            at = flat.find(anchor, at + len(anchor))
    for anchor, pattern, kind in (
        (b"hooks.slack.com/", _SLACK_HOOK, "slack-webhook"),
        (b"hooks.zapier.com/", _ZAPIER_HOOK, "zapier-webhook"),
        (b"/api/webhooks/", _DISCORD_HOOK, "discord-webhook"),
        (b"webhook.office.com/", _TEAMS_HOOK, "teams-webhook"),
    ):
        if anchor in flat:
            for match in pattern.finditer(flat):
                yield Span(match.start(1), match.end(1), kind)
    for name in _SIGNED:
        at = low.find(name)
        while at >= 0:
            signed = _SIGNATURE.match(flat, at + len(name))
            if signed is not None and _IN_QUERY.search(flat, max(0, at - 24), at) and not is_stand_in(signed[1]):
                yield Span(signed.start(1), signed.end(1), "url-signature")
            at = low.find(name, at + len(name))
