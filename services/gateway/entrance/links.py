"""Links that log a browser in, once. They are kept in memory alone: a gateway that starts again knows none."""

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import NamedTuple

from anamnesis.contracts.base import now

LIFETIME = timedelta(hours=24)
MOST = 100  # links that may be open; one more and the oldest is worth nothing


class Ticket(NamedTuple):
    """What is known of a link: never the token itself."""

    hash: bytes
    expires_at: datetime
    parent: str | None = None
    """The id of the key that made it: what comes in by it goes with that key."""


class Links:
    """The links that nobody has used yet."""

    def __init__(self, lifetime: timedelta = LIFETIME, most: int = MOST) -> None:
        self._lifetime = lifetime
        self._most = most
        self._open: list[Ticket] = []

    def make(self, parent: str | None = None) -> tuple[str, datetime]:
        """A fresh token of 256 random bits, and until when it is good."""
        token = secrets.token_urlsafe(32)
        ticket = Ticket(_hash(token), now() + self._lifetime, parent)
        self.put_back(ticket)
        return token, ticket.expires_at

    def take(self, token: str) -> Ticket | None:
        """Use a token up; none = it is unknown, used, or too old."""
        wanted = _hash(token)
        self._open = [ticket for ticket in self._open if ticket.expires_at > now()]
        found = [ticket for ticket in self._open if hmac.compare_digest(ticket.hash, wanted)]
        for ticket in found:
            self._open.remove(ticket)
        return found[0] if found else None

    def put_back(self, ticket: Ticket) -> None:
        """Let it be used after all: what it was taken for did not come about."""
        self._open = sorted([*self._open, ticket], key=lambda one: one.expires_at)[-self._most :]


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
