"""`anamnesis ingest`: what is read on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.console.commands.options import AsJson
from services.console.commands.running import run

if TYPE_CHECKING:
    from anamnesis.kit.client import ServiceClient
    from services.console.settings import ConsoleSettings


def ingest(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Transcripts, or directories with some; default: where Claude Code keeps them (CLAUDE_CONFIG_DIR)."
        ),
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option("--instance", "-i", help="Name of this machine (ANAMNESIS_INGEST_INSTANCE); else its host name."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", "-x", help="Leave out this project; * is for anything.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Read everything again, and keep also what seems not worth it.")
    ] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Read everything again.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what went wrong; for hooks.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read Claude Code transcripts on this machine and remember what matters in them.

    What was read before is not read again, so repeat it as often as you like. Secrets are redacted here,
    before anything leaves this machine.

    Examples:

      anamnesis ingest

      anamnesis ingest ~/.claude/projects

      anamnesis ingest session.jsonl --instance laptop --exclude 'secret-*'
    """

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import ingest as command

        wishes = command.Wishes(instance or settings.instance, tuple(exclude or ()), everything, anew, as_json, quiet)
        await command.ingest(client, settings, paths or (), wishes)

    run(context, work)
