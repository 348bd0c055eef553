"""Options that several commands share, and what is made of them."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from anamnesis.contracts.episodes import EpisodeFilter

Project = Annotated[str | None, typer.Option("--project", "-p", help="Only this project.")]
Instance = Annotated[str | None, typer.Option("--instance", "-i", help="Only this machine or assistant.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", "-t", help="Only with this tag; again for more, all of them.")]
MOMENT = "a date, a time, 90m, 12h, 7d, 3w, today, yesterday, monday"
Since = Annotated[str | None, typer.Option("--since", help=f"At or after: {MOMENT}.", metavar="WHEN")]
Until = Annotated[str | None, typer.Option("--until", help="Before, written as for --since.", metavar="WHEN")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def moment(option: str, text: str | None) -> "datetime | None":
    from datetime import datetime

    from anamnesis.kit.errors import BadRequest
    from services.console.moments import parse

    if text is None:
        return None
    try:
        return parse(text, datetime.now().astimezone())
    except ValueError as error:
        raise BadRequest(f"{option}: {error}") from None


def where(
    project: str | None, instance: str | None, tag: list[str] | None, since: str | None, until: str | None
) -> "EpisodeFilter":
    from anamnesis.contracts.episodes import EpisodeFilter

    return EpisodeFilter(
        project_filter=project,
        instance_filter=instance,
        tag_filter=tuple(tag or ()),
        since=moment("--since", since),
        until=moment("--until", until),
    )
