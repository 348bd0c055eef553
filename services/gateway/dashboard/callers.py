"""Who asks: pages fetch their data with the identity of whoever looks at them, never with the gateway's own."""

from fastapi import Request
from pydantic import SecretStr

from anamnesis.contracts.keys import Identity, Scope
from anamnesis.kit.auth import RANK, presented_key
from anamnesis.kit.client import ServiceClient


class Callers:
    """The services behind, spoken to on behalf of a request's caller."""

    def __init__(self, memory: ServiceClient, ingest: ServiceClient) -> None:
        """Both are opened and closed by the app."""
        self._memory = memory
        self._ingest = ingest

    def memory(self, request: Request) -> ServiceClient:
        return self._memory.with_key(_key(request))

    def ingest(self, request: Request) -> ServiceClient:
        return self._ingest.with_key(_key(request))


def may(request: Request, scope: Scope) -> bool:
    """Whether the caller's key reaches so far: what a page offers. What is done is decided where it is done."""
    identity: Identity | None = getattr(request.state, "identity", None)
    return identity is not None and RANK[identity.scope] >= RANK[scope]


def _key(request: Request) -> SecretStr | None:
    key = presented_key(request)
    return SecretStr(key) if key else None
