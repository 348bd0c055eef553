"""API keys: who may come in, and how far."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from anamnesis.contracts.base import Contract, Moment, Name

MAX_DAYS = 36_500  # days that a key may last; past it, one without an end is meant


class Scope(StrEnum):
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"
    SERVICE = "service"
    """Another service of the platform."""


class KeyKind(StrEnum):
    API = "api"
    BROWSER = "browser"
    """The session of a browser: made by logging in, ended by logging out."""


class Identity(Contract):
    """Whose key it is. The key itself is known to its holder alone."""

    key_id: str
    name: Name
    scope: Scope
    kind: KeyKind = KeyKind.API
    expires_at: Moment | None = None
    """From then on it opens nothing; none = it has no end."""
    parent: str | None = None
    """The id of the key that a browser was let in by, itself or by a link; it ends when that one is revoked."""


class KeyInfo(Identity):
    """A key in the list of all."""

    created_at: Moment
    last_used: Moment | None = None
    """To the minute or so; none = never."""


class KeyRecord(KeyInfo):
    """A key as it is stored: the SHA-256 of 256 random bits, never the key."""

    hash: str


class KeyList(Contract):
    keys: tuple[KeyInfo, ...]
    """The oldest first; those that have expired are gone."""


class KeyCreate(Contract):
    """A wish for a new key."""

    name: Name
    scope: Literal[Scope.READ, Scope.WRITE, Scope.ADMIN]
    expires_in_days: float | None = Field(default=None, gt=0, le=MAX_DAYS)
    """None = it has no end."""
    kind: KeyKind = KeyKind.API
    """Sessions of browsers are made by the gateway alone."""
    parent: str | None = Field(default=None, max_length=100)
    """As in the record; for the gateway alone."""


class KeyCreated(KeyInfo):
    key: str
    """Shown this once."""


class KeysRevoked(Contract):
    key_ids: tuple[str, ...]
    """The key, and the sessions of browsers that were let in by it."""


class KeyCheck(Contract):
    """A request of another service: whose key has this hash?"""

    hash: str


class LoginLink(Contract):
    """A link that logs a browser in, once."""

    path: str
    """To be put behind the gateway's address."""
    expires_at: Moment


class Session(Contract):
    """Who the caller is."""

    identity: Identity
    csrf_token: str | None
    """To be sent as `X-CSRF-Token` with everything but GET; none = the caller shows its key and needs none."""
