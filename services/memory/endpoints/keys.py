"""API keys over HTTP: listing, making and revoking them, and whose a key is."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import StringConstraints

from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.keys import Identity, KeyCheck, KeyCreate, KeyCreated, KeyKind, KeyList, KeysRevoked, Scope
from anamnesis.kit.auth import Needs
from anamnesis.kit.errors import Forbidden, NotFound
from services.memory.keys import StoredKeys

KeyId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$"), Path()]
REFUSED = {"model": ErrorEnvelope}


def routes(keys: StoredKeys, on_revoked: Callable[[], None]) -> APIRouter:
    """`on_revoked` is called when what is known of keys must be asked for again."""
    router = APIRouter(prefix="/api/keys", tags=["keys"])

    @router.get("", dependencies=[Depends(Needs(Scope.ADMIN))])
    async def list_() -> KeyList:
        """Every key that opens something, and never the key itself."""
        return KeyList(keys=await keys.list())

    @router.post("", status_code=201, responses={403: REFUSED, 409: REFUSED})
    async def create(wish: KeyCreate, caller: Annotated[Identity, Depends(Needs(Scope.ADMIN))]) -> KeyCreated:
        """Make a key; it is shown this once."""
        if (wish.kind is not KeyKind.API or wish.parent is not None) and caller.scope is not Scope.SERVICE:
            raise Forbidden("sessions of browsers are made by logging in; leave out 'kind' and 'parent'")
        created = await keys.create(wish)
        on_revoked()  # it may have taken the place of a session
        return created

    @router.post("/check", dependencies=[Depends(Needs(Scope.SERVICE))], responses={403: REFUSED, 404: REFUSED})
    async def check(request: KeyCheck) -> Identity:
        """Whose key has this hash; for the other services."""
        identity = await keys.identify(request.hash)
        if identity is None:
            raise NotFound("no key has this hash")
        return identity

    @router.delete("/{key_id}", dependencies=[Depends(Needs(Scope.ADMIN))], responses={404: REFUSED, 409: REFUSED})
    async def revoke(key_id: KeyId) -> KeysRevoked:
        """Revoke a key, and the sessions of browsers that were let in by it."""
        revoked = await keys.revoke(key_id)
        on_revoked()
        return KeysRevoked(key_ids=revoked)

    return router
