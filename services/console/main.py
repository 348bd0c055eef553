"""The `anamnesis` command line: what can be said, and nothing of how it is done.

Commands import what they need when they run, because `anamnesis --help` and completion in a shell
must not wait for it.
"""

import sys
from typing import Annotated, Literal

import typer

from services.console.commands import asking, connecting, episodes, ingesting, keys, pushing
from services.console.commands.running import Given

HELP = """A memory that lasts for language-model assistants.

Examples:

  anamnesis ingest ~/.claude/projects

  anamnesis recall "how did we fix the flaky upload test?"

  anamnesis status

The key comes from --key, ANAMNESIS_API_KEY, or api.key in the data directory of the services on this machine.
"""

# Boxes and colours are for eyes; a pipe gets plain text.
MARKUP: Literal["rich"] | None = "rich" if sys.stdout.isatty() else None
app = typer.Typer(
    help=HELP,
    rich_markup_mode=MARKUP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
episodes_app = typer.Typer(
    help="List, show, delete, export and import episodes.\n\nExample: anamnesis episodes list --since 7d",
    no_args_is_help=True,
    rich_markup_mode=MARKUP,
)
keys_app = typer.Typer(
    help="List, make and revoke API keys.\n\nExample: anamnesis keys list",
    no_args_is_help=True,
    rich_markup_mode=MARKUP,
)
for command in (
    ingesting.ingest,
    pushing.push,
    pushing.upload,
    asking.recall,
    asking.status,
    asking.reembed,
    asking.forget,
    keys.login,
    connecting.connect,
    connecting.disconnect,
):
    app.command()(command)
episodes_app.command("list")(episodes.list_)
episodes_app.command()(episodes.show)
episodes_app.command()(episodes.delete)
episodes_app.command()(episodes.export)
episodes_app.command("import")(episodes.import_)
keys_app.command("list")(keys.list_keys)
keys_app.command("create")(keys.create_key)
keys_app.command("revoke")(keys.revoke_key)
app.add_typer(episodes_app, name="episodes")
app.add_typer(keys_app, name="keys")


@app.callback()
def common(
    context: typer.Context,
    url: Annotated[str | None, typer.Option("--url", help="Address of the gateway (ANAMNESIS_URL).")] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="API key; better: ANAMNESIS_API_KEY, which no other user sees.")
    ] = None,
) -> None:
    context.obj = Given(url, key)


def main() -> None:
    app(prog_name="anamnesis")


if __name__ == "__main__":
    main()
