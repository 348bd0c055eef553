"""The `anamnesis` command line: what can be said, and nothing of how it is done.

Commands import what they need when they run, because `anamnesis --help` and completion in a shell
must not wait for it.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, NoReturn

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from anamnesis.contracts.episodes import EpisodeFilter
    from anamnesis.kit.client import ServiceClient
    from services.console.settings import ConsoleSettings

HELP = """A memory that lasts for language-model assistants.

Examples:

  anamnesis ingest ~/.claude/projects

  anamnesis recall "how did we fix the flaky upload test?"

  anamnesis status

The key comes from --key, ANAMNESIS_API_KEY, or api.key in the data directory of the services on this machine.
"""

BROKEN_PIPE = 141
"""The status of what ends because nobody reads it any more, as shells know it."""

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
app.add_typer(episodes_app, name="episodes")
keys_app = typer.Typer(
    help="List, make and revoke API keys.\n\nExample: anamnesis keys list",
    no_args_is_help=True,
    rich_markup_mode=MARKUP,
)
app.add_typer(keys_app, name="keys")

Project = Annotated[str | None, typer.Option("--project", "-p", help="Only this project.")]
Instance = Annotated[str | None, typer.Option("--instance", "-i", help="Only this machine or assistant.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", "-t", help="Only with this tag; again for more, all of them.")]
MOMENT = "a date, a time, 90m, 12h, 7d, 3w, today, yesterday, monday"
Since = Annotated[str | None, typer.Option("--since", help=f"At or after: {MOMENT}.", metavar="WHEN")]
Until = Annotated[str | None, typer.Option("--until", help="Before, written as for --since.", metavar="WHEN")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


class Given(NamedTuple):
    """What stands before the command."""

    url: str | None
    key: str | None


class KeyScope(StrEnum):
    read = "read"
    write = "write"
    admin = "admin"


class OnConflict(StrEnum):
    skip = "skip"
    update = "update"


@app.callback()
def common(
    context: typer.Context,
    url: Annotated[str | None, typer.Option("--url", help="Address of the gateway (ANAMNESIS_URL).")] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="API key; better: ANAMNESIS_API_KEY, which no other user sees.")
    ] = None,
) -> None:
    context.obj = Given(url, key)


@app.command()
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

        wishes = command.Wishes(instance or settings.instance, tuple(exclude or ()), everything, anew, as_json)
        await command.ingest(client, settings, paths or (), wishes)

    _run(context, work)


@app.command()
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
            since=_moment("--since", since),
            until=_moment("--until", until),
            include_superseded=superseded,
            floor=floor,
            explain=explain,
        )
        await command.recall(client, request, as_json)

    _run(context, work)


@app.command()
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """What runs, what it holds, and what it is doing.

    Example: anamnesis status --json
    """

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import status as command

        await command.status(client, as_json)

    _run(context, work)


@app.command()
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

    _run(context, work)


@app.command()
def forget(
    context: typer.Context,
    episode_id: Annotated[str, typer.Argument(help="The episode's id, as 'anamnesis recall' shows it.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Forget an episode and all that was derived from it, for good, with a receipt.

    Example: anamnesis forget ep_20261103_laptop_flaky_1a2b3c4d
    """
    _confirm(yes, f"Forget {episode_id} and what was derived from it, for good?")

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import episodes

        await episodes.forget(client, episode_id, as_json)

    _run(context, work)


@app.command()
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

    _run(context, work)


@keys_app.command("list")
def list_keys(context: typer.Context, as_json: AsJson = False) -> None:
    """List the keys that open something, sessions of browsers included.

    Example: anamnesis keys list
    """

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import keys

        await keys.list_(client, as_json)

    _run(context, work)


@keys_app.command("create")
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

    _run(context, work)


@keys_app.command("revoke")
def revoke_key(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Its id, as 'anamnesis keys list' shows it.")],
    yes: Yes = False,
) -> None:
    """Revoke a key for good, and the sessions of browsers that were let in by it.

    Example: anamnesis keys revoke key_1a2b3c4d5e6f
    """
    _confirm(yes, f"Revoke {key_id}?")

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import keys

        await keys.revoke(client, key_id)

    _run(context, work)


@episodes_app.command("list")
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

        await episodes.list_(client, _filter(project, instance, tag, since, until), skip, limit, as_json)

    _run(context, work)


@episodes_app.command()
def show(context: typer.Context, episode_id: str, as_json: AsJson = False) -> None:
    """Show one episode, whole.

    Example: anamnesis episodes show ep_20261103_laptop_flaky_1a2b3c4d
    """

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import episodes

        await episodes.show(client, episode_id, as_json)

    _run(context, work)


@episodes_app.command()
def delete(
    context: typer.Context,
    episode_ids: list[str],
    may_return: Annotated[bool, typer.Option("--may-return", help="Let the next ingest bring it back.")] = False,
    yes: Yes = False,
) -> None:
    """Delete episodes; they do not come back with the next ingest.

    Example: anamnesis episodes delete ep_20261103_laptop_flaky_1a2b3c4d
    """
    _confirm(yes, f"Delete {len(episode_ids)} episodes?" if len(episode_ids) > 1 else f"Delete {episode_ids[0]}?")

    async def work(client: "ServiceClient", settings: "ConsoleSettings") -> None:
        from services.console import episodes

        await episodes.delete(client, episode_ids, may_return)

    _run(context, work)


@episodes_app.command()
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

        await transfer.export(client, _filter(project, instance, tag, since, until), output)

    _run(context, work)


@episodes_app.command("import")
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

    _run(context, work)


def _run(context: typer.Context, work: Callable[["ServiceClient", "ConsoleSettings"], Awaitable[None]]) -> None:
    """Do the work with a client; what goes wrong becomes one line and exit status 1, a wrong option 2."""
    from pydantic import BaseModel, SecretStr, ValidationError

    from anamnesis import installation
    from anamnesis.kit.client import ServiceClient
    from anamnesis.kit.errors import AnamnesisError, Unauthorized, Unavailable
    from anamnesis.kit.settings import load, presentable
    from services.console.settings import ConsoleSettings, gateway, key

    class _Health(BaseModel):
        status: str

    settings = installation.located(load(ConsoleSettings))
    given: Given = context.obj
    url = _address(given.url or gateway(settings))

    async def all_of_it() -> None:
        secret = SecretStr(given.key) if given.key else key(settings)
        if not presentable(secret.get_secret_value()):
            _fail("this is no API key: a key has 16 to 200 printable characters without blanks", 2)
        async with ServiceClient(url, secret, read=300.0) as client:
            await client.request("GET", "/health", _Health, deadline=5.0)  # at once, where reads would be tried again
            await work(client, settings)

    try:
        asyncio.run(all_of_it())
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads this has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that nothing is written at the end either
        raise typer.Exit(BROKEN_PIPE) from None
    except Unavailable as error:
        _fail(f"{error.message}{' (./deploy.sh local starts it)' if 'is it running' in error.message else ''}")
    except Unauthorized as error:
        hint = "" if "--key" in error.message else f" (--key, ANAMNESIS_API_KEY or {settings.data / 'api.key'})"
        _fail(error.message + hint)
    except AnamnesisError as error:
        _fail(error.message)
    except ValidationError as error:
        problem = error.errors()[0]
        _fail(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}")
    except OSError as error:
        _fail(f"{error.filename or 'output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _fail(message: str, status: int = 1) -> NoReturn:
    typer.echo(f"anamnesis: {' '.join(message.split())}", err=True)
    raise typer.Exit(status)


def _address(text: str) -> str:
    """An address as a client can use it."""
    from pydantic import HttpUrl, TypeAdapter, ValidationError

    try:
        return str(TypeAdapter(HttpUrl).validate_python(text))
    except ValidationError:
        _fail(f"{text!r} is no address of a gateway; expected http://HOST:PORT (--url or ANAMNESIS_URL)", 2)


def _confirm(yes: bool, question: str) -> None:
    if not yes and not typer.confirm(question):
        raise typer.Exit(1)


def _moment(option: str, text: str | None) -> "datetime | None":
    from datetime import datetime

    from anamnesis.kit.errors import BadRequest
    from services.console.moments import parse

    if text is None:
        return None
    try:
        return parse(text, datetime.now().astimezone())
    except ValueError as error:
        raise BadRequest(f"{option}: {error}") from None


def _filter(
    project: str | None, instance: str | None, tag: list[str] | None, since: str | None, until: str | None
) -> "EpisodeFilter":
    from anamnesis.contracts.episodes import EpisodeFilter

    return EpisodeFilter(
        project_filter=project,
        instance_filter=instance,
        tag_filter=tuple(tag or ()),
        since=_moment("--since", since),
        until=_moment("--until", until),
    )


def main() -> None:
    app(prog_name="anamnesis")


if __name__ == "__main__":
    main()
