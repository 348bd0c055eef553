"""`anamnesis connect` and `disconnect`: memory in the configuration of other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.console.commands.options import Yes
from services.console.commands.running import confirm, run
from services.console.connect.client import Client

if TYPE_CHECKING:
    from anamnesis.kit.client import ServiceClient
    from services.console.connect.clients import Where
    from services.console.connect.connection import Wish
    from services.console.settings import ConsoleSettings

Program = Annotated[
    Client, typer.Argument(metavar="claude-code|codex|cursor|mcp", help="The program; mcp = any other that knows MCP.")
]
InProject = Annotated[
    bool,
    typer.Option("--project/--user", help="For the project in this directory alone, or for all of yours (default)."),
]
Dry = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]


def connect(
    context: typer.Context,
    client: Program,
    in_project: InProject = False,
    client_key: Annotated[
        str | None,
        typer.Option("--client-key", help="A key that is made already; - reads it from standard input."),
    ] = None,
    dry_run: Dry = False,
    yes: Yes = False,
) -> None:
    """Give a program on this machine the memory: shows what would change, asks, and can be undone.

    The program gets a key of its own, which is in no file that may be shared.

    Examples:

      anamnesis connect claude-code

      anamnesis connect codex --project --dry-run
    """

    async def work(gateway: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console.connect import connection

        where, wish = _asked(gateway, client, in_project, client_key, dry_run)
        await connection.connect(gateway, where, wish, lambda question: confirm(yes, question))

    run(context, work, away=dry_run or client_key is not None)


def disconnect(
    context: typer.Context, client: Program, in_project: InProject = False, dry_run: Dry = False, yes: Yes = False
) -> None:
    """Take out what 'anamnesis connect' has written for a program, and revoke its key.

    Example: anamnesis disconnect claude-code
    """

    async def work(gateway: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console.connect import connection

        where, wish = _asked(gateway, client, in_project, None, dry_run)
        await connection.disconnect(gateway, where, wish, lambda question: confirm(yes, question))

    run(context, work, away=True)


def _asked(
    gateway: "ServiceClient", client: Client, in_project: bool, client_key: str | None, dry: bool
) -> "tuple[Where, Wish]":
    import os
    import sys

    from pydantic import SecretStr

    from services.console.connect.clients import Where
    from services.console.connect.connection import Wish
    from services.console.connect.record import folder_of

    given = sys.stdin.readline(1000).strip() if client_key == "-" else client_key
    project = Path.cwd() if in_project and client is not Client.mcp else None
    home = Path.home()
    folder = folder_of(client.value, project, os.environ, home)
    where = Where(gateway.base_url, folder, project, home, os.environ)
    return where, Wish(client, SecretStr(given) if given else None, dry)
