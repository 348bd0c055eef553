"""`python -m deploy.env`: `pull` writes the shared secret to `.env`, `set` changes one value in the secret.

A pull takes over what a team shares (deploy.shared) and says which names it does not take. What only this machine
has stays as it is, comments too. Values are never printed. The secret's name is ANAMNESIS_SECRETS_NAME (default
ANAMNESIS-Secrets). Needs the extra `aws`.
"""

import argparse
import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.envfile import BadName, BadValue, Changes, merge, quote, write
from deploy.secret import Secret, SecretError, as_text
from deploy.shared import check_shared

DEFAULT_SECRET = "ANAMNESIS-Secrets"  # noqa: S105 - its name, not its content
MAX_FILE = 1 << 20  # bytes of an .env file
TRIES = 10
"""How often a value is set anew because somebody else has changed the secret meanwhile."""


def pull(secret: Secret, path: Path) -> tuple[Changes, tuple[str, ...]]:
    """Take the shared variables over into the file; what that changed, and the names that were not taken."""
    values, refused = secret.read().variables()
    present = path.read_bytes()[: MAX_FILE + 1] if path.exists() else b""
    if len(present) > MAX_FILE:
        raise SecretError(f"{path} is larger than {MAX_FILE} bytes; it does not look like an .env file")
    try:
        merged, changes = merge(present.decode("utf-8"), values)
    except UnicodeDecodeError:
        raise SecretError(f"{path} is not UTF-8 text") from None
    write(path, merged)
    return changes, refused


def put(secret: Secret, name: str, value: str, create: bool) -> str:
    """Set one field of the secret and leave the others; says what that did: `added`, `changed` or `unchanged`."""
    quote(value)
    if create:
        secret.create()
    for _ in range(TRIES):
        content = secret.read()
        present = name in content.fields
        if present and as_text(content.fields[name]) == value:
            return "unchanged"
        if secret.replace(content, {**content.fields, name: value}):
            return "changed" if present else "added"
    raise SecretError(f"{secret.name} is being changed by others all the time; nothing was set, try again")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when it is done, 1 when something stands in the way, 2 for wrong arguments."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "set" and options.value is None and not sys.stdin.isatty():
        parser.error("there is no terminal to ask for the value: give - to read it from standard input")
    name = os.environ.get("ANAMNESIS_SECRETS_NAME") or DEFAULT_SECRET
    try:
        secret = Secret(name, options.profile)
        if options.command == "pull":
            changes, refused = pull(secret, options.file)
            if refused:
                print(
                    f"env: not taken from {name}, as a machine sets these itself or Anamnesis does not know them: "
                    + ", ".join(repr(one[:100]) for one in refused),
                    file=sys.stderr,
                )
            print(
                f"{options.file}: {len(changes.added)} added, {len(changes.changed)} changed, "
                f"{len(changes.unchanged)} unchanged from {name}; {len(changes.kept)} of this machine kept"
            )
        else:
            check_shared(options.key)  # before anybody types a value for it
            done = put(secret, options.key, _value(options.key, options.value), options.create)
            print(f"{name}: {options.key} {done}; './deploy.sh env pull' takes it over on a machine")
    except (SecretError, BadName, OSError) as error:
        print(f"env: {error}", file=sys.stderr)
        return 1
    except BadValue as error:
        print(f"env: the value of {options.key} cannot be used: {error}", file=sys.stderr)
        return 1
    except (EOFError, KeyboardInterrupt):
        print("\nenv: no value was given, nothing was set", file=sys.stderr)
        return 130
    return 0


def _value(key: str, given: str | None) -> str:
    """The value as given, else from where no other user of this machine sees it."""
    if given is None:
        return getpass.getpass(f"Value of {key} (it is not shown): ")
    return sys.stdin.read().removesuffix("\n") if given == "-" else given


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deploy.sh env", description="settings in AWS Secrets Manager")
    commands = parser.add_subparsers(dest="command", required=True)
    pulling = commands.add_parser("pull", help="write the secret's variables to .env, mode 600")
    pulling.add_argument("profile", nargs="?", help="AWS profile (default: the usual AWS variables)")
    pulling.add_argument("--file", type=Path, default=Path(".env"), help="the file to write")
    setting = commands.add_parser("set", help="add or change one variable in the secret")
    setting.add_argument("key", help="name of the variable")
    setting.add_argument(
        "value",
        nargs="?",
        help="its value, which others on this machine can see while the command runs; - reads it from standard input, "
        "and without any it is asked for",
    )
    setting.add_argument("--profile", help="AWS profile (default: the usual AWS variables)")
    setting.add_argument("--create", action="store_true", help="make the secret first")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
