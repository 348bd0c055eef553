"""`anamnesis login` and `anamnesis keys`: a way in for a browser, and keys for programs."""

import webbrowser
from urllib.parse import quote

from anamnesis.contracts.keys import KeyCreate, KeyCreated, KeyList, KeysRevoked, LoginLink
from anamnesis.kit.client import ServiceClient
from services.console import output


async def login(client: ServiceClient, open_browser: bool) -> None:
    """Print a link that logs a browser in, and open it when asked to."""
    link = await client.request("POST", "/api/login-links", LoginLink)
    address = client.base_url + link.path
    output.lines([address])
    if not open_browser:
        output.note(f"It works once, until {output.when(link.expires_at)}.")
    elif not webbrowser.open(address):
        output.note("No browser could be opened here; open the address yourself. It works once.")


async def list_(client: ServiceClient, as_json: bool) -> None:
    found = await client.get("/api/keys", KeyList)
    if as_json:
        output.lines([found.model_dump_json(indent=2)])
        return
    output.table(
        [
            output.Column("KEY"),
            output.Column("NAME", wide=True),
            output.Column("SCOPE"),
            output.Column("KIND"),
            output.Column("CREATED"),
            output.Column("LAST USED"),
            output.Column("EXPIRES"),
        ],
        [
            (
                key.key_id,
                key.name,
                key.scope.value,
                key.kind.value,
                output.when(key.created_at),
                output.when(key.last_used) if key.last_used is not None else "never",
                output.when(key.expires_at) if key.expires_at is not None else "never",
            )
            for key in found.keys
        ],
    )


async def create(client: ServiceClient, wish: KeyCreate, as_json: bool) -> None:
    """Make a key; alone on standard output, so that it can go where it is needed without being seen."""
    made = await client.request("POST", "/api/keys", KeyCreated, body=wish)
    if as_json:
        output.lines([made.model_dump_json(indent=2)])
        return
    output.lines([made.key])
    until = f" until {output.when(made.expires_at)}" if made.expires_at is not None else ""
    output.note(f"{made.key_id} may {made.scope.value}{until}. It is shown this once.")


async def revoke(client: ServiceClient, key_id: str) -> None:
    revoked = await client.request("DELETE", "/api/keys/" + quote(key_id, safe=""), KeysRevoked)
    output.say(f"{key_id} opens nothing any more")
    if len(revoked.key_ids) > 1:
        output.note(f"Logged out with it: {', '.join(revoked.key_ids[1:])}")
