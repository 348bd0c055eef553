"""`anamnesis push` and `upload`: files of this machine, and documents, for a memory that may be anywhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.console.commands.options import AsJson
from services.console.commands.running import run

if TYPE_CHECKING:
    from anamnesis.kit.client import ServiceClient
    from services.console.settings import ConsoleSettings


def push(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Directories or files: code, Markdown and documents in them.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Sources in a file, JSON or TOML, as the crawler's configuration is."),
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option("--instance", "-i", help="Name of this machine (ANAMNESIS_INGEST_INSTANCE); else its host name."),
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="Project of the paths; else that of their repository.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", "-t", help="Tag for the paths; again for more.")] = None,
    transcripts: Annotated[
        bool, typer.Option("--transcripts", help="Also what Claude Code has kept, as 'anamnesis ingest' reads it.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Stay: what changes is read at once, and all every 5 minutes.")
    ] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Read everything again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be read, and read nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read files on this machine and remember what is in them: for a memory that does not see this disk.

    What was read before is not read again: a changed file supersedes its old episodes, a deleted one is marked. Secrets
    are redacted here, before anything leaves this machine; what may hold credentials, or Git ignores, is not read.

    Examples:

      anamnesis push ~/notes ~/src/shop --dry-run

      anamnesis push --config sources.toml --watch --transcripts
    """

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import push as command

        wishes = command.Wishes(
            instance=instance or settings.instance,
            config=config,
            project=project,
            tags=tuple(tag or ()),
            transcripts=transcripts,
            watch=watch,
            anew=anew,
            dry=dry_run,
            as_json=as_json,
        )
        await command.push(client, settings, paths or (), wishes)

    run(context, work, away=dry_run)


def upload(
    context: typer.Context,
    files: Annotated[list[Path] | None, typer.Argument(help="Documents: .docx, .pdf, .md, .txt, .html.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="An address that the service fetches one from.")] = None,
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="Where it belongs; default: the name of this directory.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", "-t", help="Tag for what is handed in; again for more.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hand documents to the service, which reads them and keeps their parts.

    Examples:

      anamnesis upload report.pdf notes.docx --project shop

      anamnesis upload --url https://docs.example/page.html
    """
    if not files and url is None:
        raise typer.BadParameter("name a file, or an address with --url")

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from anamnesis.contracts.documents import IngestUrl
        from services.console import upload as command

        where = project or Path.cwd().name or "documents"
        if files:
            await command.files(client, files, command.Belonging(where, tuple(tag or ())), as_json)
        if url is not None:
            await command.url(client, IngestUrl(url=url, project=where, tags=tuple(tag or ())), as_json)

    run(context, work)
