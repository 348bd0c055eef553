"""`anamnesis episodes`: list, show, delete, export and import them."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.console.commands.options import AsJson, Instance, Project, Since, Tags, Until, Yes, where
from services.console.commands.running import confirm, run

if TYPE_CHECKING:
    from anamnesis.kit.client import ServiceClient
    from services.console.settings import ConsoleSettings


class OnConflict(StrEnum):
    skip = "skip"
    update = "update"


def list_(
    context: typer.Context,
    project: Project = None,
    instance: Instance = None,
    tag: Tags = None,
    since: Since = None,
    until: Until = None,
    skip: Annotated[int, typer.Option(min=0, max=10_000_000, help="Leave out so many of the newest.")] = 0,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List episodes, newest first.

    Example: anamnesis episodes list --project shop --since monday
    """

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import episodes

        await episodes.list_(client, where(project, instance, tag, since, until), skip, limit, as_json)

    run(context, work)


def show(context: typer.Context, episode_id: str, as_json: AsJson = False) -> None:
    """Show one episode, whole.

    Example: anamnesis episodes show ep_20261103_laptop_flaky_1a2b3c4d
    """

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import episodes

        await episodes.show(client, episode_id, as_json)

    run(context, work)


def delete(
    context: typer.Context,
    episode_ids: list[str],
    may_return: Annotated[bool, typer.Option("--may-return", help="Let the next ingest bring it back.")] = False,
    yes: Yes = False,
) -> None:
    """Delete episodes; they do not come back with the next ingest.

    Example: anamnesis episodes delete ep_20261103_laptop_flaky_1a2b3c4d
    """
    confirm(yes, f"Delete {len(episode_ids)} episodes?" if len(episode_ids) > 1 else f"Delete {episode_ids[0]}?")

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import episodes

        await episodes.delete(client, episode_ids, may_return)

    run(context, work)


def export(
    context: typer.Context,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: standard output.")
    ] = None,
    project: Project = None,
    instance: Instance = None,
    tag: Tags = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Write episodes as JSON lines.

    Examples:

      anamnesis episodes export -o backup.jsonl

      anamnesis episodes export --project shop | jq .summary
    """

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import transfer

        await transfer.export(client, where(project, instance, tag, since, until), output)

    run(context, work)


def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="JSON lines as exported; - reads standard input.", allow_dash=True)],
    on_conflict: Annotated[OnConflict, typer.Option(help="What happens to an id that exists.")] = OnConflict.skip,
) -> None:
    """Read episodes from JSON lines; safe to repeat.

    Example: anamnesis episodes import backup.jsonl
    """

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import transfer

        await transfer.import_(client, None if str(file) == "-" else file, on_conflict.value)

    run(context, work)
