"""The memory service as the holder of keys, for the services that keep none themselves."""

from anamnesis.contracts.keys import Identity, KeyCheck
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import Forbidden, NotFound, Unauthorized, Unavailable

LOOK_UP = 5.0  # seconds for one look-up, tries included; a caller waits for it


class RemoteKeys:
    """Asks memory whose key has a hash; `client` speaks to memory with the key between services."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    async def identify(self, hash: str) -> Identity | None:
        """The owner of the key, or none. Raises `Unavailable` while nobody can tell."""
        check = KeyCheck(hash=hash)
        try:
            return await self._client.request(
                "POST", "/api/keys/check", Identity, body=check, deadline=LOOK_UP, repeatable=True
            )
        except NotFound:
            return None
        except (Unauthorized, Forbidden):
            raise Unavailable(
                "memory does not know this service's own key; ANAMNESIS_SERVICE_KEY must be the same for all services"
            ) from None
