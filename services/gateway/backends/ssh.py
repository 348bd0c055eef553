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
BEAT = 1  # seconds between two looks whether this side is still there


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

        A process there is not told when this side goes away. So an empty line is written to standard error every
        second, beside the answer; when it has nowhere to go, all of the session's group is ended, as it is at the end.
        """
        run = shlex.join(["env", *(f"{name}={value}" for name, value in environment.items()), binary, *options])
        inner = f"""
umask 077; d=$(mktemp -d) || exit 1
trap 'trap "" TERM; kill 0; rm -rf "$d"' EXIT
trap 'exit 1' HUP INT TERM
dd bs=1 count={instructions} of="$d/system" 2>/dev/null
mkdir "$d/empty"; cd "$d/empty" || exit 1
exec 3<&0
{run} --system-prompt-file "$d/system" <&3 & p=$!
(trap "" PIPE; while sleep {BEAT} >/dev/null 2>&1 && echo >&2; do :; done; kill 0) &
wait $p
"""
        # A login shell may be anything (fish, csh): the commands are for the one that is everywhere.
        return f"exec sh -c {shlex.quote(inner)}"


def _path(file: Path) -> str:
    """A path in a setting: quoted, as it is a list there, and its percent signs doubled, as they stand for things."""
    return '"' + str(file.expanduser()).replace("%", "%%") + '"'
