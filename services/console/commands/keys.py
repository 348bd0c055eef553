"""`anamnesis login` and `anamnesis keys`: ways in."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from services.console.commands.options import AsJson, Yes
from services.console.commands.running import confirm, run

if TYPE_CHECKING:
    from anamnesis.kit.client import ServiceClient
    from services.console.settings import ConsoleSettings


class KeyScope(StrEnum):
    read = "read"
    write = "write"
    admin = "admin"


def login(
    context: typer.Context,
    open_browser: Annotated[bool, typer.Option("--open", help="Also open it in the browser of this machine.")] = False,
) -> None:
    """Print a link that logs a browser in; it works once, within a day.

    Examples:

      anamnesis login

      anamnesis login --open
    """

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import keys

        await keys.login(client, open_browser)

    run(context, work)


def list_keys(context: typer.Context, as_json: AsJson = False) -> None:
    """List the keys that open something, sessions of browsers included.

    Example: anamnesis keys list
    """

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import keys

        await keys.list_(client, as_json)

    run(context, work)


def create_key(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What you know it by, such as the program that will use it.")],
    scope: Annotated[
        KeyScope, typer.Option("--scope", "-s", help="What it may do; each includes those before it.")
    ] = KeyScope.write,
    days: Annotated[float | None, typer.Option("--days", help="Days after which it ends; default: never.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key; it is shown this once.

    Examples:

      anamnesis keys create editor

      anamnesis keys create report --scope read --days 30
    """

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from anamnesis.contracts.keys import KeyCreate
        from services.console import keys

        wish = KeyCreate.model_validate({"name": name, "scope": scope.value, "expires_in_days": days})
        await keys.create(client, wish, as_json)

    run(context, work)


def revoke_key(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Its id, as 'anamnesis keys list' shows it.")],
    yes: Yes = False,
) -> None:
    """Revoke a key for good, and the sessions of browsers that were let in by it.

    Example: anamnesis keys revoke key_1a2b3c4d5e6f
    """
    confirm(yes, f"Revoke {key_id}?")

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import keys

        await keys.revoke(client, key_id)

    run(context, work)
