"""How the `claude` binary is run on another machine: by its name or path, through SSH, to a host whose key is known."""

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from services.gateway.settings import GatewaySettings

CONNECT = 5  # seconds


@dataclass(frozen=True, slots=True)
class Remote:
    """A host, and what is needed to be let in. Nothing of the user's SSH configuration or agent is used."""

    host: str
    """`user@host`, or `user@host:port`."""
    key: Path | None
    known_hosts: Path | None

    @classmethod
    def of(cls, settings: GatewaySettings) -> Self | None:
        if not settings.claude_ssh:
            return None
        return cls(settings.claude_ssh, settings.claude_ssh_key, settings.claude_ssh_known_hosts)

    def missing(self, path: str | None) -> str | None:
        """What to set before it can be used, in one line."""
        for name, file in (("KNOWN_HOSTS", self.known_hosts), ("KEY", self.key)):
            if file is None:
                what = "a file with the host's public key" if name == "KNOWN_HOSTS" else "the private key to use"
                return f"set ANAMNESIS_CLAUDE_SSH_{name} to {what}: without it {self.host} is not spoken to"
            if not os.access(file.expanduser(), os.R_OK):
                return f"ANAMNESIS_CLAUDE_SSH_{name} names a file that cannot be read by this service"
        if shutil.which("ssh", path=path) is None:
            return "no program `ssh` is here: install an OpenSSH client"
        return None

    def arguments(
        self, binary: str, options: Sequence[str], environment: Mapping[str, str], instructions: int
    ) -> list[str]:
        """The command that runs the binary there. The first `instructions` bytes of standard input are the system's."""
        assert self.key is not None
        assert self.known_hosts is not None
        login, colon, port = self.host.rpartition(":")
        if not colon or ":" in login:  # no port, or an IPv6 address
            login, port = self.host, "22"
        settings = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": _path(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "UpdateHostKeys": "no",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "ForwardAgent": "no",
            "ClearAllForwardings": "yes",
            "ConnectTimeout": str(CONNECT),
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "3",
            "LogLevel": "ERROR",
        }
        return [
            *("ssh", "-F", "none", "-T", "-i", str(self.key.expanduser()), "-p", port),
            *(word for name, value in settings.items() for word in ("-o", f"{name}={value}")),
            *("--", login, self._script(binary, options, environment, instructions)),
        ]

    def _script(self, binary: str, options: Sequence[str], environment: Mapping[str, str], instructions: int) -> str:
        """For the shell there: a directory of its own that it removes, instructions in a file, the rest as it comes.

        When this side goes away, the binary's next word has nowhere to go, which ends it and then the shell.
        """
        run = shlex.join(["env", *(f"{name}={value}" for name, value in environment.items()), binary, *options])
        inner = (
            'd=$(mktemp -d) || exit 1; trap \'rm -rf "$d"\' EXIT; trap "exit 1" HUP INT TERM PIPE; umask 077; '
            f'dd bs=1 count={instructions} of="$d/system" 2>/dev/null; mkdir "$d/empty"; cd "$d/empty"; '
            f'{run} --system-prompt-file "$d/system"'
        )
        # A login shell may be anything (fish, csh): the commands are for the one that is everywhere.
        return f"exec sh -c {shlex.quote(inner)}"


def _path(file: Path) -> str:
    """A path in a setting: quoted, as it is a list there, and its percent signs doubled, as they stand for things."""
    return '"' + str(file.expanduser()).replace("%", "%%") + '"'
