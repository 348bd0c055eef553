"""API keys: who may come in, and how far."""

from enum import StrEnum

from anamnesis.contracts.base import Contract, Moment, Name


class Scope(StrEnum):
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"
    SERVICE = "service"
    """Another service of the platform."""


class Identity(Contract):
    """Whose key it is. The key itself is known to its holder alone."""

    key_id: str
    name: Name
    scope: Scope


class KeyRecord(Contract):
    """A key as it is stored: the SHA-256 of 256 random bits, never the key."""

    key_id: str
    name: Name
    scope: Scope
    hash: str
    created_at: Moment


class KeyCheck(Contract):
    """A request of another service: whose key has this hash?"""

    hash: str
