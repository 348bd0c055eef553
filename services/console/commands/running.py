"""Does the work of a command with a client; what goes wrong becomes one line and an exit status."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import typer

if TYPE_CHECKING:
    from anamnesis.kit.client import ServiceClient
    from services.console.settings import ConsoleSettings

BROKEN_PIPE = 141
"""The status of what ends because nobody reads it any more, as shells know it."""


class Given(NamedTuple):
    """What stands before the command."""

    url: str | None
    key: str | None


def run(
    context: typer.Context,
    work: Callable[["ServiceClient", "ConsoleSettings"], Awaitable[None]],
    *,
    away: bool = False,
) -> None:
    """Do the work with a client; what goes wrong becomes one line and exit status 1, a wrong option 2.

    With `away` there is something to do without the gateway or a key for it.
    """
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
        try:
            secret = SecretStr(given.key) if given.key else key(settings)
        except Unauthorized:
            if not away:
                raise
            secret = None
        if secret is not None and not presentable(secret.get_secret_value()):
            fail("this is no API key: a key has 16 to 200 printable characters without blanks", 2)
        async with ServiceClient(url, secret, read=300.0) as client:
            if not away:  # at once, where reads would be tried again
                await client.request("GET", "/health", _Health, deadline=5.0)
            await work(client, settings)

    try:
        asyncio.run(all_of_it())
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads this has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that nothing is written at the end either
        raise typer.Exit(BROKEN_PIPE) from None
    except Unavailable as error:
        fail(f"{error.message}{' (./deploy.sh local starts it)' if 'is it running' in error.message else ''}")
    except Unauthorized as error:
        hint = "" if "--key" in error.message else f" (--key, ANAMNESIS_API_KEY or {settings.data / 'api.key'})"
        fail(error.message + hint)
    except AnamnesisError as error:
        fail(error.message)
    except ValidationError as error:
        problem = error.errors()[0]
        fail(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}")
    except OSError as error:
        fail(f"{error.filename or 'output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(message: str, status: int = 1) -> NoReturn:
    typer.echo(f"anamnesis: {' '.join(message.split())}", err=True)
    raise typer.Exit(status)


def _address(text: str) -> str:
    """An address as a client can use it."""
    from pydantic import HttpUrl, TypeAdapter, ValidationError

    try:
        return str(TypeAdapter(HttpUrl).validate_python(text))
    except ValidationError:
        fail(f"{text!r} is no address of a gateway; expected http://HOST:PORT (--url or ANAMNESIS_URL)", 2)


def confirm(yes: bool, question: str) -> None:
    if not yes and not typer.confirm(question):
        raise typer.Exit(1)
