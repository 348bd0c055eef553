"""`python -m deploy.env`: `pull` writes the shared secret to `.env`, `set` changes one value in the secret.

A pull keeps what only this machine has: names that the secret lacks stay as they are, comments too. Values are
never printed. The secret's name is ANAMNESIS_SECRETS_NAME (default ANAMNESIS-Secrets). Needs the extra `aws`.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.envfile import BadName, BadValue, Changes, check_name, merge, quote, write
from deploy.secret import Secret, SecretError

DEFAULT_SECRET = "ANAMNESIS-Secrets"  # noqa: S105 - its name, not its content
MAX_FILE = 1 << 20  # bytes of an .env file


def pull(secret: Secret, path: Path) -> Changes:
    """Take every variable of the secret over into the file."""
    values = secret.read()
    present = path.read_bytes()[: MAX_FILE + 1] if path.exists() else b""
    if len(present) > MAX_FILE:
        raise SecretError(f"{path} is larger than {MAX_FILE} bytes; it does not look like an .env file")
    try:
        merged, changes = merge(present.decode("utf-8"), values)
    except UnicodeDecodeError:
        raise SecretError(f"{path} is not UTF-8 text") from None
    write(path, merged)
    return changes


def put(secret: Secret, name: str, value: str, create: bool) -> str:
    """Set one variable in the secret; says what that did: `added`, `changed` or `unchanged`."""
    check_name(name)
    quote(value)
    if create:
        secret.create()
    values = secret.read()
    if values.get(name) == value:
        return "unchanged"
    done = "changed" if name in values else "added"
    secret.write({**values, name: value})
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when it is done, 1 when something stands in the way, 2 for wrong arguments."""
    options = _parser().parse_args(arguments)
    name = os.environ.get("ANAMNESIS_SECRETS_NAME") or DEFAULT_SECRET
    try:
        secret = Secret(name, options.profile)
        if options.command == "pull":
            changes = pull(secret, options.file)
            print(
                f"{options.file}: {len(changes.added)} added, {len(changes.changed)} changed, "
                f"{len(changes.unchanged)} unchanged from {name}; {len(changes.kept)} of this machine kept"
            )
        else:
            value = sys.stdin.read().removesuffix("\n") if options.value == "-" else options.value
            done = put(secret, options.key, value, options.create)
            print(f"{name}: {options.key} {done}; './deploy.sh env pull' takes it over on a machine")
    except (SecretError, BadName, OSError) as error:
        print(f"env: {error}", file=sys.stderr)
        return 1
    except BadValue as error:
        print(f"env: the value of {options.key} cannot be used: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deploy.sh env", description="settings in AWS Secrets Manager")
    commands = parser.add_subparsers(dest="command", required=True)
    pulling = commands.add_parser("pull", help="write the secret's variables to .env, mode 600")
    pulling.add_argument("profile", nargs="?", help="AWS profile (default: the usual AWS variables)")
    pulling.add_argument("--file", type=Path, default=Path(".env"), help="the file to write")
    setting = commands.add_parser("set", help="add or change one variable in the secret")
    setting.add_argument("key", help="name of the variable")
    setting.add_argument("value", help="its value; - reads it from standard input, unseen by others on this machine")
    setting.add_argument("--profile", help="AWS profile (default: the usual AWS variables)")
    setting.add_argument("--create", action="store_true", help="make the secret first")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
