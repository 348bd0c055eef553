"""The programs that can be connected, by name. Stands alone: `--help` shows the names and waits for nothing else."""

from enum import StrEnum


class Client(StrEnum):
    claude_code = "claude-code"
    codex = "codex"
    cursor = "cursor"
    mcp = "mcp"
