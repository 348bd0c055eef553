"""`anamnesis recall`, `status`, `reembed` and `forget`: what is remembered, and what becomes of it."""

from typing import TYPE_CHECKING, Annotated

import typer

from services.console.commands.options import AsJson, Instance, Project, Since, Tags, Until, Yes, moment
from services.console.commands.running import confirm, run

if TYPE_CHECKING:
    from anamnesis.kit.client import ServiceClient
    from services.console.settings import ConsoleSettings


def recall(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="What you want to know, in your own words.")],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=100, help="At most so many.")] = 5,
    project: Project = None,
    instance: Instance = None,
    tag: Tags = None,
    since: Since = None,
    until: Until = None,
    floor: Annotated[
        float | None,
        typer.Option("--floor", min=0.0, max=1.0, help="Least relevance; 0 = show the nearest in any case."),
    ] = None,
    superseded: Annotated[bool, typer.Option("--superseded", help="Also what has been superseded.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show every term of every score.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask what is remembered.

    Examples:

      anamnesis recall "how did we fix the flaky upload test?"

      anamnesis recall "database migration" --project shop --since 7d --explain
    """

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from anamnesis.contracts.episodes import SearchRequest
        from services.console import recall as command

        request = SearchRequest(
            query_text=question,
            top_k=top_k,
            project_filter=project,
            instance_filter=instance,
            tag_filter=tuple(tag or ()),
            since=moment("--since", since),
            until=moment("--until", until),
            include_superseded=superseded,
            floor=floor,
            explain=explain,
        )
        await command.recall(client, request, as_json)

    run(context, work)


def status(context: typer.Context, as_json: AsJson = False) -> None:
    """What runs, what it holds, and what it is doing.

    Example: anamnesis status --json
    """

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import status as command

        await command.status(client, as_json)

    run(context, work)


def reembed(
    context: typer.Context,
    action: Annotated[
        str, typer.Argument(metavar="MODEL|status|pause|resume", help="The model to move to, or what to do.")
    ],
    checkpoint_every: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Episodes between two checkpoints.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show the progress until it ends.")] = True,
) -> None:
    """Move the store to another embedding model without downtime.

    Searches stay on the old model until every episode has its new vectors.

    Examples:

      anamnesis reembed BAAI/bge-large-en-v1.5

      anamnesis reembed status --no-wait
    """

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import embedding

        await embedding.reembed(client, action, checkpoint_every, wait)

    run(context, work)


def forget(
    context: typer.Context,
    episode_id: Annotated[str, typer.Argument(help="The episode's id, as 'anamnesis recall' shows it.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Forget an episode and all that was derived from it, for good, with a receipt.

    Example: anamnesis forget ep_20261103_laptop_flaky_1a2b3c4d
    """
    confirm(yes, f"Forget {episode_id} and what was derived from it, for good?")

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import episodes

        await episodes.forget(client, episode_id, as_json)

    run(context, work)
