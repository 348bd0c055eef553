"""The `claude` binary: one process an answer, on this machine or through SSH, that can talk and do nothing else.

It runs without tools, MCP servers, settings, hooks, memory files and slash commands, in an empty directory, with an
environment of its own; a process that says it has tools all the same is ended. Processes are owned by `processes`.
"""

import os
import re
import shutil
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from services.gateway.backends import failures
from services.gateway.backends.base import Ask, BackendFailure, Endpoint, Image, Piece, Text
from services.gateway.backends.claude_lines import ClaudeLines
from services.gateway.backends.dialects.frames import FrameTooLarge, Lines
from services.gateway.backends.processes import Command, Ended, Processes
from services.gateway.backends.spoken import spoken
from services.gateway.backends.ssh import Remote
from services.gateway.settings import GatewaySettings

MAX_PROMPT = 8 << 20  # bytes; the binary takes ten million of its standard input
DEFAULT = "default"
ALIASES = ("opus", "sonnet", "haiku")
"""Names that the binary resolves to its newest models."""
SYSTEM = "You are Claude, a helpful assistant in a conversation with a person. You have no tools."
"""In place of the binary's own instructions, which are those of a programmer's assistant with tools."""

KEPT = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ"),
    *("CLAUDE_CONFIG_DIR", "CLAUDE_CODE_OAUTH_TOKEN"),
    *("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"),
)
"""What the binary gets of our environment: where it is logged in, and how it reaches out. None of our keys."""
OURS = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}
# Words like @/etc/passwd in a prompt make the binary read that file, tools or not; a rule against reading forbids it.
SETTINGS = '{"disableAllHooks":true,"permissions":{"deny":["Read","Read(//**)","Bash","Edit","Write","WebFetch"]}}'

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/\[\]-]{0,199}")


class ClaudeCli:
    """The backend `claude-cli`."""

    name = "claude-cli"
    dialect = None

    def __init__(self, settings: GatewaySettings, environment: Mapping[str, str]) -> None:
        """`environment`: that of this process, of which the binary gets a little."""
        self._binary = settings.claude_cli
        self._model = settings.claude_cli_model
        self._environment = {name: environment[name] for name in KEPT if name in environment}
        self._remote = Remote.of(settings)
        self._processes = Processes()
        where = self._remote.host if self._remote else "local"
        self.endpoints = (Endpoint(where, f"ssh://{where}" if self._remote else ""),)

    @property
    def missing(self) -> str | None:
        if not self._binary:
            return "set ANAMNESIS_CLAUDE_CLI=claude to chat over the subscription of an installed `claude`"
        if self._remote:
            return self._remote.missing(self._path)
        if self._found() is None:
            return f"no program {self._binary!r} is here: install it, or set ANAMNESIS_CLAUDE_CLI to its path"
        return None

    async def open(self) -> None:
        """Nothing is held between answers."""

    async def close(self) -> None:
        await self._processes.close()

    def cannot(self, ask: Ask) -> str | None:
        parts = [part for message in ask.messages for part in message.parts]
        if ask.tools or any(not isinstance(part, Text | Image) for part in parts):
            return "the Claude CLI takes no tools"
        if any(isinstance(part, Image) for part in parts):
            return "the Claude CLI takes no images"
        if ask.temperature is not None or ask.top_p is not None or ask.seed is not None or ask.stop:
            return "the Claude CLI takes no temperature, top_p, seed or stop sequences"
        if ask.model and not _MODEL.fullmatch(ask.model):
            return "the Claude CLI knows no model of such a name"
        return None

    async def models(self) -> Sequence[str]:
        """Its default, and names that it resolves; it lists none itself."""
        return tuple(dict.fromkeys((self._model or DEFAULT, *ALIASES)))

    async def answer(self, ask: Ask, endpoint: Endpoint) -> AsyncGenerator[Piece, None]:
        lines, reader = Lines(), ClaudeLines()
        with (
            tempfile.TemporaryDirectory(prefix="claude-", ignore_cleanup_errors=True) as scratch,
            tempfile.TemporaryFile() as stdin,  # the conversation: a file without a name
        ):
            output = self._processes.output(self._command(ask, Path(scratch), stdin))
            try:
                async for chunk in output:
                    for frame in lines.feed(chunk):
                        for piece in reader.read(frame):
                            yield piece
                        if reader.whole:
                            return
            except FrameTooLarge:
                raise failures.too_large() from None
            except Ended as ended:
                raise _ended(ended) from None
            finally:
                await output.aclose()

    def _command(self, ask: Ask, scratch: Path, stdin: BinaryIO) -> Command:
        prompt, system = spoken(ask).encode("utf-8", "replace"), (ask.system or SYSTEM).encode("utf-8", "replace")
        if len(prompt) + len(system) > MAX_PROMPT:
            raise BackendFailure("takes at most 8 MiB: the conversation is longer", status=413)
        model = ask.model or self._model
        options = [*_OPTIONS, *(["--model", model] if model and model != DEFAULT else [])]
        ours = OURS | ({"CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(ask.max_tokens)} if ask.max_tokens else {})
        directory = scratch / "empty"
        directory.mkdir()
        if self._remote:
            stdin.write(system + prompt)
            arguments = self._remote.arguments(self._binary, options, ours, len(system))
            environment = self._environment
        else:
            # In a file, as a command's arguments can be seen by everybody on the machine, and are bounded.
            instructions = scratch / "system"
            instructions.write_bytes(system)
            stdin.write(prompt)
            arguments = [self._found() or self._binary, *options, "--system-prompt-file", str(instructions)]
            environment = self._environment | ours | {"TMPDIR": str(directory)}
        stdin.seek(0)
        return Command(arguments, environment, str(directory), stdin)

    @property
    def _path(self) -> str | None:
        return self._environment.get("PATH")

    def _found(self) -> str | None:
        return shutil.which(os.path.expanduser(self._binary), path=self._path)


_OPTIONS = (
    *("-p", "--output-format", "stream-json", "--include-partial-messages", "--verbose"),
    *("--tools", "", "--strict-mcp-config", "--disable-slash-commands", "--no-session-persistence"),
    *("--setting-sources", "", "--settings", SETTINGS),
)
"""Print mode, streamed; no tools, no MCP servers, no settings of the machine's, nothing kept of the conversation."""

_COMPLAINTS = (
    (b"unknown option", "does not know an option that it is run with: update it"),
    (b"Host key verification failed", "has another host key than ANAMNESIS_CLAUDE_SSH_KNOWN_HOSTS says"),
    (b"Permission denied", "does not let the key ANAMNESIS_CLAUDE_SSH_KEY in"),
    (b"UNPROTECTED PRIVATE KEY", "was not tried: others can read ANAMNESIS_CLAUDE_SSH_KEY"),
    (b"Could not resolve hostname", "cannot be reached: its host name is not known"),
    (b"Connection refused", "cannot be reached: connection refused"),
    (b"Connection timed out", "cannot be reached in time"),
)
"""What standard error holds, and what it means; it is told in our words, as it may quote anything."""


def _ended(ended: Ended) -> BackendFailure:
    for words, meaning in _COMPLAINTS:
        if words in ended.complaint:
            return BackendFailure(meaning)
    if ended.code == 127:
        return BackendFailure("was not found: set ANAMNESIS_CLAUDE_CLI to its path")
    return BackendFailure(f"ended with code {ended.code} before its answer was whole")
