"""`python -m docs.generate`: writes what can be read off the code, so that it cannot go stale.

Makes `.env.example` from the settings classes, `docs/api.md` from the services' routes and contracts,
`docs/cli.md` from the command line, and the tree in `README.md` from the files' own first lines.
`tests/test_repository.py` fails when any of them differs from what this makes.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from docs.api_page import api
from docs.environment import environment
from docs.tree import ROOT, readme


def cli() -> str:
    """`docs/cli.md`."""
    from services.console.main import app

    parts = ["# The `anamnesis` command", "Made by `python -m docs.generate`; the command says the same with `--help`."]
    for name, command in commands(typer.main.get_command(app)):
        parts.append(f"## `anamnesis{name}`")
        parts.append(_plain(command.help or ""))
        rows = []
        for parameter in command.params:
            if isinstance(parameter, TyperArgument):
                rows.append(f"| `{parameter.metavar or (parameter.name or '').upper()}` | {parameter.help or ''} |")
            elif isinstance(parameter, TyperOption) and "completion" not in (parameter.name or ""):
                rows.append(f"| `{', '.join([*parameter.opts, *parameter.secondary_opts])}` | {parameter.help or ''} |")
        if rows:
            parts.append("\n".join(["| | |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def commands(command: object, name: str = "") -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    """Every command with what is typed for it after `anamnesis`."""
    assert isinstance(command, TyperCommand | TyperGroup)
    yield name, command
    if isinstance(command, TyperGroup):
        for below, one in command.commands.items():
            yield from commands(one, f"{name} {below}")


def _plain(text: str) -> str:
    """Help as Markdown: examples become code."""
    return re.sub(r"^ *(?:Example: )?(anamnesis .*)$", r"    \1", inspect.cleandoc(text), flags=re.MULTILINE)


MADE: Mapping[str, Callable[[], str]] = {
    ".env.example": environment,
    "docs/api.md": api,
    "docs/cli.md": cli,
    "README.md": readme,
}


def main() -> None:
    for path, make in MADE.items():
        (ROOT / path).write_text(make())
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
